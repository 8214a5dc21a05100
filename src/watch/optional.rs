//! Watches without which headstart goes on: an installation may not grant the right to them.

use std::time::Duration;

use kube::runtime::watcher;

/// The longest pause before a watch is tried again that this account has no right to. The right may come with an upgrade of
/// the roles.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The number of refusals in a row that a complete list outlives: an API server that has just started refuses what it allows as
/// soon as it knows the roles.
pub(super) const REFUSALS_IN_DOUBT: u32 = 4;

/// Returns the pause after so many refusals in a row, from one second on.
pub(super) fn forbidden_pause(refusals: u32) -> Duration {
    let doubled = 1_u64.checked_shl(refusals.saturating_sub(1));
    doubled.map_or(LONGEST_PAUSE, |seconds| {
        Duration::from_secs(seconds).min(LONGEST_PAUSE)
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_that_comes_back_is_noticed_in_a_second_and_one_that_stays_away_is_asked_for_rarely()
    {
        let pauses =
            [0, 1, 2, 3, 10, 11, 64, u32::MAX].map(|refusals| forbidden_pause(refusals).as_secs());
        assert_eq!(pauses, [1, 1, 2, 4, 512, 600, 600, 600]);
    }
}
