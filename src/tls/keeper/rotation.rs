//! The leader's part: heals the Secret, and takes the next step of a rotation.

use tokio::time::Instant;
use tracing::info;

use super::Keeper;
use crate::tls::TlsError;
use crate::tls::store::{Shell, Stored};
use crate::tls::trust::{Change, Trust};

impl Keeper {
    /// What only the leader does: heals the Secret, and takes the next step of a rotation.
    pub(super) async fn lead(&mut self) -> Result<(), TlsError> {
        let now = self.clock.now();
        let lifetimes = self.settings.lifetimes;
        let served = self
            .served
            .as_ref()
            .filter(|leaf| leaf.validity.holds_at(now))
            .map(|leaf| leaf.issuer.clone());
        let (shell, trust, why) = match &self.stored {
            Stored::Absent => {
                let trust = Trust::replacement(served, now, &lifetimes)?;
                (Shell::default(), trust, "it was deleted")
            }
            Stored::Garbage(shell) => {
                let trust = Trust::replacement(served, now, &lifetimes)?;
                (shell.clone(), trust, "it held no usable CA")
            }
            Stored::Good(shell, trust) => {
                let (shell, trust) = (shell.clone(), trust.clone());
                let published = self.is_published(&trust);
                match trust.step(now, &lifetimes, served.as_deref(), published)? {
                    None => return Ok(()),
                    Some((change, trust)) => (shell, trust, reason(change)),
                }
            }
        };
        if self.write(shell, trust).await? {
            info!(secret = %self.store.name(), %why, "wrote the Secret with the CA");
        } else {
            info!(secret = %self.store.name(), "the Secret with the CA changed meanwhile; looking again");
            self.read().await?;
        }
        Ok(())
    }

    /// Returns whether the next CA has been in every `caBundle` for long enough.
    fn is_published(&mut self, trust: &Trust) -> bool {
        let trusted = self.channels.trusted.borrow();
        let Some(next) = trust
            .next
            .as_ref()
            .filter(|next| trusted.contains(next.cert()))
        else {
            self.published = None;
            return false;
        };
        let since = match &self.published {
            Some((known, since)) if known.cert() == next.cert() => *since,
            _ => {
                let now = Instant::now();
                self.published = Some((next.clone(), now));
                now
            }
        };
        since.elapsed() >= self.settings.lifetimes.propagation()
    }
}

fn reason(change: Change) -> &'static str {
    match change {
        Change::Prepare => "half of the CA's life is over: publishing its successor",
        Change::Promote => "every caller knows the new CA: it signs from now on",
        Change::Forget => "no certificate of the old CA is valid any more: it is forgotten",
        Change::Remember => "another CA was put in place: the one that is served stays trusted",
    }
}
