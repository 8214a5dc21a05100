//! Sends pods: whose turn it is, whether limits allow it, and what came of it.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::backoff;
use super::desk::{Desk, Wake};
use super::expectations::Expectation;
use super::ledger::Full;
use super::spots::Stage;
use crate::cluster::Place;
use crate::cluster::verdict::{Verdict, judge};
use crate::event_recorder::EventReason;
use crate::puller::{Created, Job, Refusal, namespace_is_going};
use headstart_core::limits::{NOTE_BYTES, printed};
use headstart_core::plan::plan;
use headstart_core::pod::pod_name;
use headstart_core::workload::DeploymentKey;

impl Desk {
    /// Sends pods as long as there is something to send and room for it.
    pub(super) fn dispatch(&mut self) {
        let most = self.worker.puller.concurrency();
        while self.in_flight < most && self.ledger.has_room() {
            let Some(key) = self.turns.next() else { return };
            if self.send_one(&key) {
                self.turns.add(&key);
            }
        }
    }

    /// Sends one pod of a Deployment; whether it may have more to send now. If not, whatever changes that gives it
    /// another turn.
    fn send_one(&mut self, key: &DeploymentKey) -> bool {
        let now = Instant::now();
        let Some(work) = self.works.get_mut(key) else {
            return false;
        };
        // It has another turn when its ServiceAccount is read.
        if work.refused_until.is_some_and(|until| now < until) || work.account.secrets.is_none() {
            return false;
        }
        for index in work.sending_lanes(now) {
            loop {
                let Some(work) = self.works.get_mut(key) else {
                    return false;
                };
                let Some(node) = work.spots.lanes[index].ready.pop_front() else {
                    break;
                };
                let place = Place {
                    key: key.clone(),
                    node,
                };
                match self.try_send(&place, index) {
                    Sent::Yes => return true,
                    Sent::Later => {}
                    Sent::No => return false,
                }
            }
        }
        false
    }

    fn try_send(&mut self, place: &Place, lane: usize) -> Sent {
        let Place { key, node } = place;
        let (cluster, settings) = (&self.worker.cluster, &self.worker.settings);
        let Some(work) = self.works.get_mut(key) else {
            return Sent::No;
        };
        // Where a pod of the rollout before is still to show, it is lined up again when that has.
        if work.spots.get(node).map(|spot| spot.stage()) != Some(Stage::Waiting)
            || self.expected.contains_key(place)
        {
            return Sent::Later;
        }
        let pods = cluster.pods_at(key, node);
        let refresh = work.workload.annotations.refresh.as_ref();
        let refresh = refresh.map(|r| r.0).or(self.worker.policy.refresh);
        let standards = work.standards(node, refresh, Timestamp::now());
        let Verdict::Lacks { images, .. } = judge(&work.workload, &pods, standards) else {
            self.look(place);
            return Sent::Later;
        };
        let variant = work.variant(&images);
        match self.ledger.refuses(node, &variant.registries) {
            None => {}
            Some(Full::Node) => {
                let parked = self.parked.entry(node.clone()).or_default();
                parked.push(key.clone());
                return Sent::Later;
            }
            Some(full) => {
                work.spots.give_back(node);
                if full == Full::Registry {
                    self.held_up.insert(key.clone());
                } else {
                    // Its turn comes again when a node is done.
                    self.turns.add(key);
                }
                return Sent::No;
            }
        }
        // As it is now: the plan is as old as its queue is long.
        let machine = cluster.node(node);
        let uid = work.spots.get(node).map(|spot| spot.uid.clone());
        let method = machine
            .filter(|machine| Some(&machine.uid) == uid.as_ref())
            .and_then(|machine| {
                let candidate = machine.candidate.as_ref();
                let plan = plan(&work.workload, [candidate], &work.situation, settings);
                plan.nodes.into_iter().next().map(|(_, method)| method)
            });
        let Some(method) = method else {
            // Gone, or no target any more. If it becomes one again, it is added again.
            work.spots.remove(node);
            return Sent::Later;
        };
        let name = pod_name(&variant.workload, node);
        let replaces = pods.into_iter().find(|pod| pod.name == name);
        let replaces = replaces.map(|pod| pod.uid);
        let job = Job {
            id: work.id,
            lane,
            place: place.clone(),
            revision: work.workload.image_set.clone(),
            workload: variant.workload,
            method,
            replaces: replaces.clone(),
        };
        self.expected
            .insert(place.clone(), Expectation::new(name, replaces));
        work.spots.set(node, Stage::Sent);
        if let Some(spot) = work.spots.get_mut(node) {
            spot.sent = true;
        }
        work.spots.lanes[lane].gate.sent();
        self.ledger.hold(place, &variant.registries);
        self.in_flight += 1;
        let puller = self.worker.puller.clone();
        let (unwanted, end) = (work.cancel.clone(), self.writes.clone());
        let create = puller.create(job, self.results.clone(), unwanted, end);
        self.tasks.spawn(create);
        Sent::Yes
    }

    /// A pod was created, or refused.
    pub(super) fn on_created(&mut self, created: Created) {
        let Created {
            id,
            lane,
            place,
            stored,
        } = created;
        self.in_flight -= 1;
        let now = Instant::now();
        let ours = self.works.get_mut(&place.key).filter(|work| work.id == id);
        // Of the lane that it was sent in: the node may be gone by now, and the others wait for this answer.
        let opens = ours.and_then(|work| {
            if stored.is_ok() {
                work.refusals = 0;
            }
            work.spots.lanes[lane].gate.answered(now)
        });
        if let Some(at) = opens {
            self.wake_at(at, Wake::Work(place.key.clone()));
        }
        let refusal = match stored {
            Ok(uid) => {
                self.expect_to_see(&place, uid);
                self.on_place(&place);
                return;
            }
            Err(refusal) => refusal,
        };
        let stage = self.stage(&place);
        self.expect_nothing(&place);
        // Otherwise the images have changed meanwhile, or the node has.
        if stage == Some(Stage::Sent) {
            match refusal {
                Refusal::Definite(message) => self.refused(&place, &message),
                Refusal::Exhausted(message) => {
                    warn!(deployment = %place.key, node = %place.node, error = %message, "a prefetch pod could not be created");
                    self.try_later(&place, &[]);
                }
                Refusal::Unwanted => self.line_up(&place),
            }
        }
    }

    /// Asking again would meet the same answer, and so would the other pods of the Deployment: quota, a policy, a
    /// namespace that is going. They wait for long, or for the next change.
    fn refused(&mut self, place: &Place, message: &str) {
        let Some(work) = self.works.get_mut(&place.key) else {
            return;
        };
        let waits = work
            .refused_until
            .is_some_and(|until| Instant::now() < until);
        work.spots.line_up(&place.node);
        // Others of the same moment were refused with it.
        if waits {
            return;
        }
        work.refusals += 1;
        let pause = backoff::of_refused(work.refusals, &place.key.to_string());
        let until = Instant::now() + pause;
        work.refused_until = Some(until);
        if namespace_is_going(message) {
            debug!(deployment = %place.key, "no prefetch pods in a namespace that is being deleted");
        } else {
            warn!(deployment = %place.key, node = %place.node, error = %message, ?pause, "the API server refuses prefetch pods");
        }
        let note = format_args!(
            "Cannot create prefetch pods (node {}): {message}",
            place.node
        );
        let note = printed(note, NOTE_BYTES);
        work.trouble = Some(note.clone());
        self.worker
            .reporter
            .publish(&work.workload, EventReason::PrefetchBlocked, "", note);
        self.wake_at(until, Wake::Work(place.key.clone()));
        self.check_hold(&place.key);
    }

    /// A pull is under way that is not noted yet, as after a change of leader.
    pub(super) fn occupy(&mut self, place: &Place) {
        let Some(work) = self.works.get_mut(&place.key) else {
            return;
        };
        let all: Vec<usize> = (0..work.workload.images.len()).collect();
        let registries: Arc<[Box<str>]> = work.variant(&all).registries;
        self.ledger.hold(place, &registries);
    }

    /// A pull is over: whoever waited for its node, or for a registry, has another turn.
    pub(super) fn free(&mut self, place: &Place) {
        if !self.ledger.release(place) {
            return;
        }
        for key in self.parked.remove(&place.node).unwrap_or_default() {
            let waiting = Place {
                key,
                node: place.node.clone(),
            };
            if self.stage(&waiting) == Some(Stage::Waiting) {
                self.line_up(&waiting);
            }
        }
        for key in std::mem::take(&mut self.held_up) {
            self.turns.add(&key);
        }
    }
}

/// What came of a turn.
enum Sent {
    /// A pod is on its way.
    Yes,
    /// Not to this node now; to another perhaps.
    Later,
    /// None at all now.
    No,
}
