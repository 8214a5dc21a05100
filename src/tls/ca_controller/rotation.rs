//! The leader's part: heals the Secret, and takes the next step of a rotation.

use tokio::time::Instant;
use tracing::info;

use super::CaController;
use crate::tls::TlsError;
use crate::tls::ca_secret::{SecretMeta, SecretState};
use crate::tls::trust::{CaState, RotationStep};

impl CaController {
    /// Heals the Secret and takes the next step of a rotation. Only the leader does this.
    pub(super) async fn reconcile_secret(&mut self) -> Result<(), TlsError> {
        let now = self.clock.now();
        let lifetimes = self.settings.lifetimes;
        let served = self
            .serving
            .as_ref()
            .filter(|leaf| leaf.validity.is_valid_at(now))
            .map(|leaf| leaf.issuer.clone());
        let (meta, trust, why) = match &self.secret_state {
            SecretState::Absent => {
                let trust = CaState::replacement(served, now, &lifetimes)?;
                (SecretMeta::default(), trust, "it was deleted")
            }
            SecretState::Invalid(meta) => {
                let trust = CaState::replacement(served, now, &lifetimes)?;
                (meta.clone(), trust, "it held no usable CA")
            }
            SecretState::Valid(meta, trust) => {
                let (meta, trust) = (meta.clone(), trust.clone());
                let published = self.is_published(&trust);
                match trust.step(now, &lifetimes, served.as_deref(), published)? {
                    None => return Ok(()),
                    Some((change, trust)) => (meta, trust, reason(change)),
                }
            }
        };
        if self.write(meta, trust).await? {
            info!(secret = %self.secret.name(), %why, "wrote the Secret with the CA");
        } else {
            info!(secret = %self.secret.name(), "the Secret with the CA changed meanwhile; looking again");
            self.read().await?;
        }
        Ok(())
    }

    /// Returns whether the next CA has been in every `caBundle` for long enough.
    fn is_published(&mut self, trust: &CaState) -> bool {
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

fn reason(change: RotationStep) -> &'static str {
    match change {
        RotationStep::CreateNext => "half of the CA's life is over: publishing its successor",
        RotationStep::Promote => "every caller knows the new CA: it signs from now on",
        RotationStep::RemovePrevious => {
            "no certificate of the old CA is valid any more: it is forgotten"
        }
        RotationStep::KeepServingCa => {
            "another CA was put in place: the one that is served stays trusted"
        }
    }
}
