//! The parts of namespaces that plans read: the consent, and the pull secrets of ServiceAccounts.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Api, Client};

use crate::driver::list_pods::{pull_secrets, secrets_of};
use headstart_core::api::annotations::AFTER_READY;
use headstart_core::api::mode::{
    Mode, NamespaceMode, UnknownNamespaceMode, consent_command, effective_mode, lacks_consent,
    namespace_mode,
};
use headstart_core::api::well_known::PREFETCH_LABEL;
use headstart_core::pod::{PodSettings, account_of};
use headstart_core::workload::{PullTerms, Workload};

/// The value of a namespace's label.
type Consent = Result<Option<NamespaceMode>, UnknownNamespaceMode>;

/// The known namespaces and ServiceAccounts. Unknown ones change no plan.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    consents: HashMap<String, Consent>,
    /// The pull secrets of ServiceAccounts, by namespace and name.
    accounts: HashMap<(String, String), Vec<String>>,
}

impl Namespaces {
    /// Adds the objects of files, which take precedence because they are about to be applied.
    pub(super) fn updated_by(mut self, files: Self) -> Self {
        self.consents.extend(files.consents);
        self.accounts.extend(files.accounts);
        self
    }

    /// Adds the objects of a file. `default` is the namespace of objects that name none.
    pub(super) fn add(
        &mut self,
        namespaces: Vec<Namespace>,
        accounts: Vec<ServiceAccount>,
        default: &str,
    ) {
        for namespace in namespaces {
            let consent = namespace_mode(namespace.metadata.labels.as_ref());
            let name = namespace.metadata.name.unwrap_or_default();
            self.consents.insert(name, consent);
        }
        for account in accounts {
            let secrets = secrets_of(&account);
            let namespace = account.metadata.namespace.filter(|name| !name.is_empty());
            let namespace = namespace.unwrap_or_else(|| default.to_owned());
            let name = account.metadata.name.unwrap_or_default();
            self.accounts.insert((namespace, name), secrets);
        }
    }

    /// Reads the modes of the namespaces and the pull secrets of the accounts. An object that the user may not read is left out.
    pub(super) async fn ask(
        client: &Client,
        workloads: &[Workload],
        settings: &PodSettings,
    ) -> Self {
        let mut known = Self::default();
        let names: HashSet<&String> = workloads.iter().map(|w| &w.key.namespace).collect();
        for name in names {
            let api: Api<Namespace> = Api::all(client.clone());
            if let Ok(Some(namespace)) = api.get_metadata_opt(name).await {
                let consent = namespace_mode(namespace.metadata.labels.as_ref());
                known.consents.insert(name.clone(), consent);
            }
        }
        for workload in workloads {
            let namespace = &workload.key.namespace;
            if let Some(account) = account_of(workload, settings)
                && let Ok(Some(secrets)) = pull_secrets(client, namespace, account).await
            {
                let key = (namespace.clone(), account.to_owned());
                known.accounts.insert(key, secrets);
            }
        }
        known
    }

    /// Returns the Deployment with the pull secrets of its ServiceAccount, where they apply.
    pub(super) fn with_pull_secrets(&self, workload: Workload, settings: &PodSettings) -> Workload {
        let account = account_of(&workload, settings)
            .map(|account| (workload.key.namespace.clone(), account.to_owned()));
        match account.and_then(|account| self.accounts.get(&account)) {
            Some(secrets) => Workload {
                terms: PullTerms {
                    image_pull_secrets: secrets.clone(),
                    ..workload.terms.clone()
                },
                ..workload
            },
            None => workload,
        }
    }

    /// Returns the effect of the annotation for ready pods, which depends on the mode.
    pub(super) fn after_ready(&self, workload: &Workload) -> Option<String> {
        let ready = workload.annotations.after_ready?.of_new_pods_ready();
        let consent = self.consents.get(&workload.key.namespace);
        let consent = consent.and_then(|consent| consent.as_ref().ok());
        let mode = match (&workload.mode, consent) {
            (own, Some(consent)) => Some(effective_mode(own, *consent)),
            (Ok(own), None) => *own,
            (Err(_), None) => None,
        };
        match mode {
            Some(Mode::Disabled) => None,
            Some(Mode::Enabled) => Some(format!("prefetched when {ready} ({AFTER_READY})")),
            Some(Mode::Hold) => Some(format!("{AFTER_READY} has no effect with hold")),
            None => Some(format!(
                "prefetched when {ready} ({AFTER_READY}), which has no effect with hold"
            )),
        }
    }

    /// Returns why the namespace prevents the plan, or the condition on which the plan depends.
    pub(super) fn warning(&self, workload: &Workload) -> Option<String> {
        let namespace = &workload.key.namespace;
        // An opted-out Deployment, or one with an unknown mode, gets its own message.
        let asks = match workload.mode {
            Ok(Some(Mode::Disabled)) | Err(_) => return None,
            Ok(own) => own.is_some(),
        };
        match self.consents.get(namespace) {
            None if asks => Some(format!(
                "prefetched only where the namespace {namespace} has the label {PREFETCH_LABEL}=allowed, enabled or hold"
            )),
            None => Some(format!(
                "prefetched only where the namespace {namespace} has the label {PREFETCH_LABEL}=enabled or hold"
            )),
            Some(Err(unknown)) => Some(format!("{unknown}: headstart leaves it alone")),
            Some(Ok(consent)) if lacks_consent(&workload.mode, *consent) => Some(format!(
                "its namespace does not allow prefetch; run: {}",
                consent_command(namespace)
            )),
            Some(Ok(None)) => Some(format!(
                "neither it nor its namespace has the label {PREFETCH_LABEL}: headstart leaves it alone"
            )),
            Some(Ok(Some(NamespaceMode::Disabled))) => Some(format!(
                "its namespace has the label {PREFETCH_LABEL}=disabled: headstart leaves it alone"
            )),
            Some(Ok(Some(NamespaceMode::Allowed))) if !asks => Some(format!(
                "its namespace has the label {PREFETCH_LABEL}=allowed, and it has none: headstart leaves it alone"
            )),
            Some(Ok(Some(_))) => None,
        }
    }
}
