//! The race with the rollout's own pods, where the rollout does not wait.
//!
//! The first of them are bound to nodes within a fraction of a second, and pull there by themselves. A prefetch pod beside
//! one brings nothing sooner, and both start the slower for it. So headstart looks who starts where before it goes through
//! the nodes, and those nodes come last. They do come: how far a node is, the next leader knows from its prefetch pods alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::desk::Desk;
use super::lane::{Gate, PAUSE};
use super::spots::Stage;
use super::work::Work;
use crate::cluster::Place;
use headstart_core::workload::DeploymentKey;

/// How long a rollout's first pods are given to be bound: the Deployment controller, the ReplicaSet controller and the
/// scheduler take 0.1 to 0.3 s for it.
const HEAD_START: Duration = Duration::from_millis(400);
/// The same where a first wave goes ahead of the others: more pods are bound by then, and the answer is there when it is
/// their turn.
const BEHIND_THE_WAVE: Duration = PAUSE.saturating_sub(Duration::from_millis(500));
/// When the nodes that come last have their turn at the latest. They are not in the way then of a rollout whose pulls take
/// a few seconds, and wait in vain for no more than this where its pods are deleted before they have pulled.
const AT_LATEST: Duration = Duration::from_secs(10);

/// Which nodes come last.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Race {
    /// It is not known yet.
    Looking,
    /// Those that have had no attempt yet and wait for one ([`Stage::BackOff`]): when the rollout is through, or at this time.
    Last { at: Instant },
    /// None, or none any more.
    Over,
}

/// Where pods of a rollout are about to start.
#[derive(Debug)]
pub(super) struct Starting {
    key: DeploymentKey,
    /// The prefetch that asked.
    id: u64,
    nodes: BTreeSet<String>,
}

impl Desk {
    /// Has somebody look where the rollout's pods start, if there are such pods, and more nodes than one.
    pub(super) fn look_who_starts(&mut self, key: &DeploymentKey) {
        let Some(work) = self.works.get_mut(key) else {
            return;
        };
        let Some(pods) = work.workload.selector_for_starting_pods().cloned() else {
            return;
        };
        if work.spots.open() < 2 {
            return;
        }
        work.race = Race::Looking;
        let in_waves = work.spots.lanes.iter().any(|lane| lane.gate != Gate::Open);
        let head_start = if in_waves {
            BEHIND_THE_WAVE
        } else {
            HEAD_START
        };
        let (workload, id, end) = (work.workload.clone(), work.id, work.cancel.clone());
        let (whereabouts, starts) = (self.worker.whereabouts.clone(), self.starts.clone());
        let look = async move {
            tokio::time::sleep(head_start).await;
            let nodes = whereabouts.nodes_pulling(&workload, &pods).await;
            let key = workload.key.clone();
            // Fails only when the worker has ended.
            let _ = starts.send(Starting { key, id, nodes }).await;
        };
        self.tasks.spawn(end.run_until_cancelled_owned(look));
    }

    /// It is known where the rollout's pods start.
    pub(super) fn on_starting(&mut self, starting: Starting) {
        let Starting { key, id, nodes } = starting;
        let Some(work) = self.works.get_mut(&key).filter(|work| work.id == id) else {
            return;
        };
        let last = work.put_last(&nodes, Instant::now() + AT_LATEST);
        debug!(deployment = %key, nodes = last, "the rollout pulls there by itself");
        self.turns.add(&key);
    }

    /// Once a second: whether it is the turn of the nodes that come last.
    pub(super) fn send_the_last(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        for (key, work) in &mut self.works {
            let Race::Last { at } = work.race else {
                continue;
            };
            let is_through = || {
                let workload = self.worker.cluster.opted_in(key);
                workload.is_none_or(|workload| workload.rollout.settled)
            };
            if now >= at || is_through() {
                due.extend(work.take_last().into_iter().map(|node| Place {
                    key: key.clone(),
                    node,
                }));
            }
        }
        for place in due {
            self.line_up(&place);
        }
    }
}

impl Work {
    /// Puts off those of these nodes that nothing was sent to until the rollout is through, or this time; how many. One goes
    /// in any case: what is wrong with an image is said within seconds, and not when all that is left is last.
    fn put_last(&mut self, nodes: &BTreeSet<String>, at: Instant) -> usize {
        let mut last = self
            .spots
            .names_where(|node, spot| spot.stage() == Stage::Waiting && nodes.contains(node));
        last.sort_unstable();
        if last.len() == self.spots.len() {
            last.pop();
        }
        for node in &last {
            self.spots.set(node, Stage::BackOff);
        }
        let count = last.len();
        self.race = match count {
            0 => Race::Over,
            _ => Race::Last { at },
        };
        count
    }

    /// Those of the nodes put off that are still to be sent to.
    fn take_last(&mut self) -> Vec<Arc<str>> {
        self.race = Race::Over;
        let mut last = self
            .spots
            .names_where(|_, spot| spot.stage() == Stage::BackOff && spot.attempts == 0);
        last.sort_unstable();
        last
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cluster::Machine;
    use crate::cluster::verdict::tests::wants;
    use crate::worker::work::Begin;
    use headstart_core::plan::PlacementContext;

    fn work(nodes: usize) -> Work {
        let mut work = Work::new(Begin {
            id: 1,
            workload: Arc::new(wants(&["app:1"])),
            started: Instant::now(),
            whole: true,
            situation: PlacementContext::default(),
            cancel: CancellationToken::new(),
        });
        for node in 1..=nodes {
            let name = format!("n{node}");
            work.add(&name.as_str().into(), &Machine::named(&name), nodes);
        }
        work
    }

    fn named(nodes: &[&str]) -> BTreeSet<String> {
        nodes.iter().map(|node| (*node).to_owned()).collect()
    }

    fn waiting(work: &Work) -> Vec<Arc<str>> {
        let mut waiting = work
            .spots
            .names_where(|_, spot| spot.stage() == Stage::Waiting);
        waiting.sort_unstable();
        waiting
    }

    #[test]
    fn nodes_where_the_rollout_starts_come_last() {
        let mut work = work(3);
        work.spots.set("n3", Stage::Sent);
        assert_eq!(
            work.put_last(&named(&["n2", "n3", "n9"]), Instant::now()),
            1
        );
        assert_eq!(waiting(&work), ["n1".into()]);
        assert_eq!(work.spots.untried(), 2);
        assert_eq!(work.take_last(), ["n2".into()]);
        assert_eq!(work.race, Race::Over);
    }

    #[test]
    fn where_it_starts_on_all_of_them_one_goes_at_once() {
        let mut work = work(3);
        assert_eq!(
            work.put_last(&named(&["n1", "n2", "n3"]), Instant::now()),
            2
        );
        assert_eq!(waiting(&work), ["n3".into()]);
    }

    #[test]
    fn a_node_that_got_there_meanwhile_needs_no_turn() {
        let mut work = work(3);
        work.put_last(&named(&["n1", "n2"]), Instant::now());
        work.spots.set("n1", Stage::Warm);
        work.spots.remove("n2");
        assert_eq!(work.take_last(), []);
    }

    #[test]
    fn nothing_but_a_first_wave_goes_before_it_is_known_who_starts() {
        let now = Instant::now();
        let (mut few, mut many) = (work(3), work(30));
        for work in [&mut few, &mut many] {
            work.race = Race::Looking;
        }
        assert!(few.sending_lanes(now).is_empty());
        assert_eq!(many.sending_lanes(now), [0]);
        while many.spots.lanes[0].gate.lets_wave_through() {
            many.spots.lanes[0].gate.sent();
        }
        // One proves that the images can be had.
        many.spots.set("n1", Stage::Warm);
        assert!(many.sending_lanes(now).is_empty());
        for work in [&mut few, &mut many] {
            work.race = Race::Over;
            assert_eq!(work.sending_lanes(now), [0]);
        }
    }
}
