//! Watches without which headstart goes on: an installation may not grant the right to them.

use std::time::Duration;

use kube::runtime::watcher;

/// The pause before a watch is tried again that this account has no right to. The right may come with an upgrade of the roles.
pub(super) const FORBIDDEN_PAUSE: Duration = Duration::from_secs(600);

/// Returns whether the API server refused a watch because the account has no right to it.
pub(super) fn is_forbidden(error: &watcher::Error) -> bool {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status,
        _ => return false,
    };
    status.code == 403
}
