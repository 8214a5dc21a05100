//! The Secret with the CA in the API server: read, watched, and written only if no other client has changed it.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use tokio::time::timeout;

use super::TlsError;
use super::trust::CaState;
use crate::watch_stream::{Spread, watch_stream};
use headstart_core::api::well_known::{MANAGED_BY_LABEL, MANAGER};

/// The limit for one answer of the API server.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// The Secret as it was last seen.
pub(super) enum SecretState {
    /// The Secret does not exist.
    Absent,
    /// The Secret is unusable. Its metadata is kept when the leader writes it anew.
    Invalid(SecretMeta),
    /// The Secret has a usable CA.
    Valid(SecretMeta, CaState),
}

/// The parts of a Secret that stay when its content is replaced: its type cannot be changed.
#[derive(Clone, Default)]
pub(super) struct SecretMeta {
    metadata: ObjectMeta,
    kind: Option<String>,
}

impl From<Option<Secret>> for SecretState {
    fn from(secret: Option<Secret>) -> Self {
        let Some(secret) = secret else {
            return Self::Absent;
        };
        let trust = CaState::from_secret(&secret);
        let meta = SecretMeta {
            metadata: secret.metadata,
            kind: secret.type_,
        };
        match trust {
            Some(trust) => Self::Valid(meta, trust),
            None => Self::Invalid(meta),
        }
    }
}

/// The Secret's name and its API.
pub(super) struct CaSecret {
    api: Api<Secret>,
    namespace: String,
    secret: String,
}

impl CaSecret {
    pub(super) fn new(client: Client, namespace: &str, secret: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
        }
    }

    /// Returns the name of the Secret for messages.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.secret)
    }

    /// Watches the Secret, by a list and watch of this one name, to which RBAC can be limited.
    pub(super) fn watch(&self) -> impl Stream<Item = watcher::Result<SecretState>> + use<> {
        let (api, secret) = (self.api.clone(), self.secret.clone());
        watch_stream(move || watch_object(api.clone(), &secret), Spread::random())
            .map(|change| change.map(SecretState::from))
    }

    /// Reads the Secret.
    pub(super) async fn read(&self) -> Result<SecretState, TlsError> {
        let secret = self.ask(self.api.get_opt(&self.secret)).await?;
        Ok(secret.into())
    }

    /// Writes the Secret if it is still the one with this metadata, or still absent. Returns its new state if it was.
    pub(super) async fn write(
        &self,
        meta: SecretMeta,
        trust: CaState,
    ) -> Result<Option<SecretState>, TlsError> {
        let SecretMeta { metadata, kind } = meta;
        let replaces = metadata.resource_version.is_some();
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.secret.clone()),
                labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.into(), MANAGER.into())])),
                ..metadata
            },
            type_: kind.or_else(|| Some("kubernetes.io/tls".into())),
            data: Some(trust.to_data()),
            ..Secret::default()
        };
        let params = PostParams::default();
        let written = if replaces {
            let write = self.api.replace(&self.secret, &params, &secret);
            self.ask(write).await
        } else {
            self.ask(self.api.create(&params, &secret)).await
        };
        match written {
            Ok(secret) => {
                let meta = SecretMeta {
                    metadata: secret.metadata,
                    kind: secret.type_,
                };
                Ok(Some(SecretState::Valid(meta, trust)))
            }
            Err(TlsError::Secret(name, error)) => match *error {
                // Already there, changed, or deleted meanwhile.
                kube::Error::Api(status) if matches!(status.code, 404 | 409) => Ok(None),
                error => Err(TlsError::Secret(name, error.into())),
            },
            Err(error) => Err(error),
        }
    }

    async fn ask<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, TlsError> {
        match timeout(API_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| TlsError::Secret(self.name(), error.into())),
            Err(_) => Err(TlsError::Timeout(self.name())),
        }
    }
}
