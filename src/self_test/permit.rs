//! What waits for the self-test: creates of pods, and holds.

use tokio::sync::watch;

use headstart_core::self_test::Enforcement;

/// The permission to create pods and to hold rollouts.
#[derive(Clone, Debug)]
pub struct Permit(pub(super) Option<watch::Receiver<Enforcement>>);

impl Default for Permit {
    /// Always.
    fn default() -> Self {
        Self(None)
    }
}

impl Permit {
    /// Returns whether it is known now that every policy is enforced, or that none is required.
    pub fn is_granted(&self) -> bool {
        let now = |state: &watch::Receiver<Enforcement>| *state.borrow() == Enforcement::Enforced;
        self.0.as_ref().is_none_or(now)
    }

    /// Waits until the self-test has an answer; says why where the answer is no.
    pub async fn granted(&self) -> Result<(), &'static str> {
        let Some(mut state) = self.0.clone() else {
            return Ok(());
        };
        let known = state.wait_for(|state| *state != Enforcement::Unknown).await;
        match known.as_deref() {
            Ok(Enforcement::Enforced) => Ok(()),
            _ => Err(
                "headstart's ValidatingAdmissionPolicies are not enforced (--require-policies); apply its manifests again",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_permitted_before_and_without_an_answer_that_all_is_enforced() {
        assert!(Permit::default().is_granted());
        let (state, receiver) = watch::channel(Enforcement::Unknown);
        let permit = Permit(Some(receiver));
        assert!(!permit.is_granted());
        let waits = is_pending(permit.granted()).await;
        assert!(waits, "creates wait for the first answer");
        state.send_replace(Enforcement::NotEnforced);
        assert!(!permit.is_granted());
        assert!(
            permit
                .granted()
                .await
                .is_err_and(|why| why.contains("--require-policies"))
        );
        state.send_replace(Enforcement::Enforced);
        assert!(permit.is_granted());
        assert_eq!(permit.granted().await, Ok(()));
    }

    /// Returns whether a future is not done when it is first asked.
    async fn is_pending(future: impl Future) -> bool {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(future.as_mut().poll(context).is_pending())
        })
        .await
    }
}
