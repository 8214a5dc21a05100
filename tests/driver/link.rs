//! The connection of a process to the API server: it can be cut for a while, and it is dead once the process has crashed.

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkState {
    Up,
    Cut,
    Dead,
}

/// The connection of a process.
#[derive(Clone, Debug)]
pub(crate) struct Link(watch::Sender<LinkState>);

impl Default for Link {
    fn default() -> Self {
        Self(watch::Sender::new(LinkState::Up))
    }
}

impl Link {
    /// Lets nothing through, or again everything.
    pub(crate) fn set_cut(&self, cut: bool) {
        let state = if cut { LinkState::Cut } else { LinkState::Up };
        self.0.send_replace(state);
    }

    /// Lets nothing through any more.
    pub(crate) fn kill(&self) {
        self.0.send_replace(LinkState::Dead);
    }

    /// Waits until requests pass. Returns false if none will.
    pub(crate) async fn wait_until_up_or_dead(&self) -> bool {
        let mut state = self.0.subscribe();
        let state = state.wait_for(|state| *state != LinkState::Cut).await;
        state.is_ok_and(|state| *state == LinkState::Up)
    }

    /// Waits until requests pass; for ever if none will.
    pub(crate) async fn wait_until_up(&self) {
        if !self.wait_until_up_or_dead().await {
            std::future::pending::<()>().await;
        }
    }
}
