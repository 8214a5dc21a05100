//! The reasons for which a hold does not wait for a node, and the time that a kubelet has to acknowledge a pod.

use std::time::Duration;

use crate::time::Instant;

/// The time that a kubelet has at least to acknowledge a pod. One that works takes a second.
pub(super) const MIN_SILENCE: Duration = Duration::from_secs(20);
/// The number of times that a kubelet may take as long as the median of the others: all are slow where the API server is.
const TIMES_MEDIAN: u32 = 3;

/// The reasons for which a node is not waited for now. Its pull goes on, and the node counts again when they are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Absence {
    /// The node is not Ready.
    pub(super) not_ready: bool,
    /// The kubelet has not acknowledged a prefetch pod for too long.
    pub(super) silent: bool,
    /// The node refused the last pod.
    pub(super) refused: bool,
    /// A pull of another namespace makes no progress there.
    pub(super) busy: bool,
}

impl Absence {
    /// Returns whether there is a reason.
    pub(super) fn is_any(self) -> bool {
        self.not_ready || self.silent || self.refused || self.busy
    }
}

/// The kubelet's acknowledgement of a pod: its first report of the pod's status.
#[derive(Debug, Default)]
pub(super) struct Acknowledgement {
    /// The UID of the pod that is not acknowledged, and the time at which this controller first saw it.
    waiting: Option<(String, Instant)>,
    /// The time that the last acknowledgement took.
    pub(super) took: Option<Duration>,
}

impl Acknowledgement {
    /// Records a pod that is not acknowledged. Returns whether it is another than before.
    pub(super) fn await_pod(&mut self, uid: &str, now: Instant) -> bool {
        let known = self.waiting.as_ref().is_some_and(|(pod, _)| pod == uid);
        if !known {
            self.waiting = Some((uid.to_owned(), now));
        }
        !known
    }

    /// Records that no pod waits. `is_acknowledged` says whether the pod by a UID is acknowledged; otherwise it is gone.
    pub(super) fn stop(&mut self, is_acknowledged: impl Fn(&str) -> bool, now: Instant) {
        if let Some((uid, since)) = self.waiting.take()
            && is_acknowledged(&uid)
        {
            self.took = Some(now.duration_since(since));
        }
    }

    /// Returns the time since which a pod waits.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|(_, since)| *since)
    }
}

/// Returns how long a kubelet may be silent, by the times that those of the other nodes took to acknowledge.
pub(super) fn silence_limit(mut others: Vec<Duration>) -> Duration {
    others.sort_unstable();
    let median = others.get(others.len() / 2).copied().unwrap_or_default();
    MIN_SILENCE.max(median * TIMES_MEDIAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: &[u64]) -> Vec<Duration> {
        seconds.iter().map(|s| Duration::from_secs(*s)).collect()
    }

    #[test]
    fn a_kubelet_is_silent_after_20_s_or_three_times_the_median_of_the_others() {
        for (others, limit) in [
            (&[][..], 20),
            (&[1], 20),
            (&[1, 1, 90], 20),
            (&[10, 1, 12], 30),
            (&[40], 120),
        ] {
            let limit = Duration::from_secs(limit);
            assert_eq!(silence_limit(secs(others)), limit, "{others:?}");
        }
    }

    #[test]
    fn a_pod_that_is_gone_says_nothing_about_the_kubelet() {
        let at = |second| Instant::after_start(Duration::from_secs(second));
        let mut kubelet = Acknowledgement::default();
        assert!(kubelet.await_pod("a", at(1)) && !kubelet.await_pod("a", at(2)));
        assert_eq!(kubelet.waiting_since(), Some(at(1)));
        kubelet.stop(|_| false, at(9));
        assert_eq!((kubelet.waiting_since(), kubelet.took), (None, None));
        assert!(kubelet.await_pod("b", at(10)));
        kubelet.stop(|uid| uid == "b", at(12));
        assert_eq!(kubelet.took, Some(Duration::from_secs(2)));
    }
}
