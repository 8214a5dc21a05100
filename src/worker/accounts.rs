//! The pull secrets of workloads' ServiceAccounts. Prefetch pods run as another, so they name them, and wait until they are read.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::desk::Desk;
use headstart_core::pod::account_of;
use headstart_core::pod::status::{Failure, FailureKind};
use headstart_core::workload::DeploymentKey;

/// A ServiceAccount is read again after a registry refused its credentials, but not more often than this.
const AGAIN: Duration = Duration::from_secs(1);

/// What a prefetch knows of its workload's ServiceAccount.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// The names of its pull secrets, empty where they do not apply; `None` until it is read.
    pub(super) secrets: Option<Vec<String>>,
    /// When it was last asked for.
    asked: Option<Instant>,
    /// The answer is still to come.
    reading: bool,
}

/// A ServiceAccount was read.
#[derive(Debug)]
pub(super) struct AccountRead {
    key: DeploymentKey,
    /// The prefetch that asked.
    id: u64,
    name: String,
    /// `None` if it could not be read.
    secrets: Option<Vec<String>>,
}

impl Desk {
    /// Reads the ServiceAccount of a Deployment, if pods have to name its pull secrets.
    pub(super) fn read_account(&mut self, key: &DeploymentKey) {
        let Some(work) = self.works.get_mut(key) else {
            return;
        };
        let Some(name) = account_of(&work.workload, &self.worker.settings) else {
            work.account = Account {
                secrets: Some(Vec::new()),
                ..Account::default()
            };
            return;
        };
        if work.account.reading {
            return;
        }
        work.account.reading = true;
        work.account.asked = Some(Instant::now());
        let (key, id, name) = (key.clone(), work.id, name.to_owned());
        let (whereabouts, accounts) = (self.worker.whereabouts.clone(), self.accounts.clone());
        let end = work.cancel.clone();
        let read = async move {
            let secrets = whereabouts.pull_secrets(&key, &name).await;
            let read = AccountRead {
                key,
                id,
                name,
                secrets,
            };
            // Fails only when the worker has ended.
            let _ = accounts.send(read).await;
        };
        self.tasks.spawn(end.run_until_cancelled_owned(read));
    }

    /// A ServiceAccount was read. Where its pull secrets have changed, what failed is tried again.
    pub(super) fn on_account(&mut self, read: AccountRead) {
        let AccountRead {
            key,
            id,
            name,
            secrets,
        } = read;
        let Some(work) = self.works.get_mut(&key).filter(|work| work.id == id) else {
            return;
        };
        work.account.reading = false;
        if account_of(&work.workload, &self.worker.settings) != Some(&name) {
            self.read_account(&key);
            return;
        }
        let first = work.account.secrets.is_none();
        // What cannot be read again is as it was.
        let Some(secrets) = secrets.or_else(|| first.then(Vec::new)) else {
            return;
        };
        if work.account.secrets.as_ref() == Some(&secrets) {
            return;
        }
        work.set_account_secrets(secrets);
        if first {
            self.turns.add(&key);
        } else {
            info!(deployment = %key, account = %name, "the ServiceAccount names other pull secrets");
            let workload = work.workload.clone();
            self.revise(workload);
        }
    }

    /// Reads the ServiceAccount again if a registry wants other credentials: it may name its pull secrets only now.
    pub(super) fn read_account_after(
        &mut self,
        key: &DeploymentKey,
        failures: &[(usize, Failure)],
    ) {
        let refused = failures
            .iter()
            .any(|(_, failure)| failure.kind == FailureKind::Unauthorized);
        let work = self.works.get(key);
        let due =
            work.is_some_and(|work| work.account.asked.is_some_and(|at| at.elapsed() >= AGAIN));
        if refused && due {
            self.read_account(key);
        }
    }
}
