//! The permission that creates of pods and holds wait for.

use headstart_core::controller::command::CreatePermission;
use tokio::sync::watch;

use headstart_core::self_test::Enforcement;

/// The reason for which pods are not created.
const NOT_ENFORCED: &str = "headstart's ValidatingAdmissionPolicies are not enforced (--require-policies); apply its manifests again";

/// The permission to create pods and to hold rollouts.
#[derive(Clone, Debug)]
pub struct Permit(pub(super) Option<watch::Receiver<Enforcement>>);

impl Default for Permit {
    /// Always granted.
    fn default() -> Self {
        Self(None)
    }
}

impl Permit {
    /// Returns whether every policy is known to be enforced now, or none is required.
    pub fn is_granted(&self) -> bool {
        let now = |state: &watch::Receiver<Enforcement>| *state.borrow() == Enforcement::Enforced;
        self.0.as_ref().is_none_or(now)
    }

    /// Returns the current permission.
    pub fn permission(&mut self) -> CreatePermission {
        let Some(state) = &mut self.0 else {
            return CreatePermission::Granted;
        };
        match *state.borrow_and_update() {
            Enforcement::Unknown => CreatePermission::Unknown,
            Enforcement::Enforced => CreatePermission::Granted,
            Enforcement::NotEnforced => CreatePermission::Refused(NOT_ENFORCED.to_owned()),
        }
    }

    /// Waits until the result of the self-test changes, and returns the permission. Never returns if no test runs.
    pub async fn changed(&mut self) -> CreatePermission {
        let changed = match &mut self.0 {
            Some(state) => state.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            std::future::pending::<()>().await;
        }
        self.permission()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_permitted_before_and_without_an_answer_that_all_is_enforced() {
        assert!(Permit::default().is_granted());
        assert_eq!(Permit::default().permission(), CreatePermission::Granted);
        let (state, receiver) = watch::channel(Enforcement::Unknown);
        let mut permit = Permit(Some(receiver));
        assert!(!permit.is_granted());
        assert_eq!(permit.permission(), CreatePermission::Unknown);
        state.send_replace(Enforcement::NotEnforced);
        assert!(!permit.is_granted());
        let refused = permit.changed().await;
        assert!(
            matches!(&refused, CreatePermission::Refused(why) if why.contains("--require-policies")),
            "{refused:?}"
        );
        state.send_replace(Enforcement::Enforced);
        assert!(permit.is_granted());
        assert_eq!(permit.changed().await, CreatePermission::Granted);
    }
}
