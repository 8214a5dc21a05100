//! What the pods on a node do to the work: how far the node is, whether it is tried again, and what is said of it.

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, info};

use super::backoff;
use super::desk::{Desk, Wake};
use super::expectations::CaughtUp;
use super::notes;
use super::spots::{Stage, failed_stage};
use crate::cluster::verdict::{Verdict, judge};
use crate::cluster::{Place, PrefetchPod};
use crate::event_recorder::EventReason;
use headstart_core::pod::status::{Failure, FailureKind};
use headstart_core::workload::DeploymentKey;

impl Desk {
    /// A prefetch pod changed.
    pub(super) fn on_place(&mut self, place: &Place) {
        self.look(place);
        self.sweep_place(place);
        self.check_settling(&place.key);
    }

    /// Judges a node by the pods on it, unless one is still to show.
    pub(super) fn look(&mut self, place: &Place) {
        let pods = self.worker.cluster.pods_at(&place.key, &place.node);
        match self.caught_up(place, &pods) {
            CaughtUp::NotYet => {}
            caught_up => self.decide(place, &pods, caught_up),
        }
    }

    /// How far a node is by the pods on it.
    pub(super) fn decide(&mut self, place: &Place, pods: &[PrefetchPod], caught_up: CaughtUp) {
        let Place { key, node } = place;
        let refresh = self
            .works
            .get(key)
            .and_then(|w| self.refresh_of(&w.workload));
        let Some(work) = self.works.get_mut(key) else {
            self.free(place);
            return;
        };
        let Some(spot) = work.spots.get(node) else {
            self.free(place);
            return;
        };
        let (stage, attempts, sent) = (spot.stage(), spot.attempts, spot.sent);
        // Pods go, images stay: until it is refreshed.
        if stage == Stage::Warm {
            return;
        }
        let standards = work.standards(node, refresh, Timestamp::now());
        match judge(&work.workload, pods, standards) {
            Verdict::Warm => {
                work.spots.set(node, Stage::Warm);
                // What was warm when we came says nothing of how long it took.
                if stage != Stage::Waiting {
                    self.worker.metrics.node_pulled(work.started.elapsed());
                    self.count(place);
                }
                self.free(place);
                self.conclude(key);
            }
            // The kubelet tries again, and says different things of it. Only success counts.
            Verdict::UnderWay { .. } | Verdict::Lacks { .. }
                if matches!(stage, Stage::Failed(_)) =>
            {
                self.free(place);
            }
            Verdict::UnderWay { pulling, failures } => {
                if matches!(stage, Stage::Waiting)
                    && let Some(lane) = work.spots.lane_of(node)
                    && let Some(at) = lane.gate.found(Instant::now())
                {
                    self.wake_at(at, Wake::Work(key.clone()));
                }
                self.set(place, Stage::UnderWay);
                if pulling {
                    self.occupy(place);
                } else {
                    self.free(place);
                }
                self.report(place, &failures);
            }
            Verdict::Failed(failures) => {
                work.spots.set(node, failed_stage(&failures));
                if stage != Stage::Waiting && !matches!(stage, Stage::Failed(_)) {
                    self.count(place);
                }
                self.free(place);
                self.report(place, &failures);
                self.conclude(key);
            }
            Verdict::Lacks { failures, .. } => match stage {
                // Found by a new leader.
                Stage::Waiting if !failures.is_empty() && attempts == 0 => {
                    self.try_later(place, &failures);
                }
                // A pod of the rollout before has brought what is common to both. The rest is for us to send.
                Stage::UnderWay if failures.is_empty() && !sent => {
                    self.free(place);
                    self.line_up(place);
                }
                // It waited for a pod of the rollout before.
                Stage::Waiting if caught_up == CaughtUp::Now => {
                    self.free(place);
                    self.line_up(place);
                }
                Stage::Sent | Stage::UnderWay => {
                    if failures.is_empty() {
                        self.worker.metrics.image(FailureKind::Lost.reason());
                    } else {
                        self.count(place);
                    }
                    self.try_later(place, &failures);
                }
                _ => self.free(place),
            },
        }
    }

    /// A node's pod came to nothing. It is tried again after a pause, but not for ever.
    pub(super) fn try_later(&mut self, place: &Place, failures: &[(usize, Failure)]) {
        self.free(place);
        let Some(work) = self.works.get_mut(&place.key) else {
            return;
        };
        let Some(spot) = work.spots.get_mut(&place.node) else {
            return;
        };
        spot.attempts = spot.attempts.saturating_add(1);
        let attempts = spot.attempts;
        if attempts >= backoff::ATTEMPTS {
            info!(deployment = %place.key, node = %place.node, attempts, "given up");
            work.spots.set(&place.node, Stage::GivenUp);
            self.report(place, failures);
            self.conclude(&place.key);
            return;
        }
        work.spots.set(&place.node, Stage::BackOff);
        let pause = backoff::of_node(attempts, &place.node);
        debug!(deployment = %place.key, node = %place.node, attempts, ?pause, "trying again later");
        self.wake_at(Instant::now() + pause, Wake::Retry(place.clone()));
        self.report(place, failures);
    }

    /// Counts what became of a place's pods.
    fn count(&self, place: &Place) {
        let Some(work) = self.works.get(&place.key) else {
            return;
        };
        for pod in self.worker.cluster.pods_at(&place.key, &place.node) {
            if pod.revision == work.workload.image_set {
                self.worker.metrics.pod_decided(&pod.outcome);
            }
        }
    }

    /// A node is decided, or out: others may go on, and all may be done.
    pub(super) fn conclude(&mut self, key: &DeploymentKey) {
        let Some(work) = self.works.get_mut(key) else {
            return;
        };
        if work.spots.open() > 0 {
            self.turns.add(key);
        } else if work.close() {
            let (warm, failed) = (work.spots.totals().warm, work.spots.lost());
            info!(deployment = %key, warm, failed, "prefetch decided on every node");
            if failed == 0 && warm > 0 && work.whole {
                let note = notes::closing(work);
                self.worker
                    .reporter
                    .publish(&work.workload, EventReason::Prefetched, "", note);
            }
        }
        self.check_hold(key);
    }

    fn report(&mut self, place: &Place, failures: &[(usize, Failure)]) {
        self.read_account_after(&place.key, failures);
        let Some(work) = self.works.get_mut(&place.key) else {
            return;
        };
        for (index, failure) in failures {
            let reason = failure.kind.reason();
            if !work.reported.insert((*index, reason)) {
                continue;
            }
            let image = work.workload.images.get(*index);
            let image = image.map_or("?", |image| &*image.as_written);
            let waiting = if failure.kind.is_permanent() {
                work.spots.untried()
            } else {
                0
            };
            let note = notes::failed(image, &place.node, failure, waiting);
            work.trouble = Some(note.clone());
            info!(deployment = %place.key, %image, node = %place.node, reason, "an image failed");
            let subject = format!("{image} {reason}");
            self.worker.reporter.publish(
                &work.workload,
                EventReason::PrefetchFailed,
                &subject,
                note,
            );
        }
    }
}
