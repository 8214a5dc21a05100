//! What is under way, and what each event does to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::Worker;
use super::accounts::AccountRead;
use super::expectations::Expectation;
use super::holds::{Ended, Hold};
use super::ledger::Ledger;
use super::notes;
use super::race::Starting;
use super::spots::Stage;
use super::turns::Turns;
use super::upkeep::Swept;
use super::work::{Begin, Work};
use crate::cluster::{Place, asks_the_same};
use crate::event_recorder::EventReason;
use crate::puller::Created;
use headstart_core::plan::{PlacementContext, Plan, plan};
use headstart_core::workload::{DeploymentKey, Workload};

/// Where nothing is to be woken: far enough, and no overflow.
const NEVER: Duration = Duration::from_secs(3600);

/// What to look at again.
#[derive(Clone, Debug)]
pub(super) enum Wake {
    /// A Deployment may have something to send.
    Work(DeploymentKey),
    /// A node has had its pause.
    Retry(Place),
    /// A pod should have been seen by now.
    Unseen(Place),
}

/// Where answers of the API server go that the worker does not wait for.
pub(super) struct Answers {
    pub(super) surveys: mpsc::Sender<(Arc<Workload>, PlacementContext)>,
    pub(super) accounts: mpsc::Sender<AccountRead>,
    pub(super) starts: mpsc::Sender<Starting>,
    pub(super) endings: mpsc::Sender<Ended>,
}

/// The worker with what it has on its desk.
pub(super) struct Desk {
    pub(super) worker: Worker,
    pub(super) works: HashMap<DeploymentKey, Work>,
    pub(super) turns: Turns,
    pub(super) ledger: Ledger,
    /// Who waits for a node to be free.
    pub(super) parked: HashMap<Arc<str>, Vec<DeploymentKey>>,
    /// Who waits for a registry to be free.
    pub(super) held_up: HashSet<DeploymentKey>,
    /// Creates on their way.
    pub(super) in_flight: usize,
    /// Where a pod is still to show.
    pub(super) expected: HashMap<Place, Expectation>,
    /// UIDs of the nodes that were judged when they joined, by name.
    pub(super) known_nodes: HashMap<Arc<str>, Arc<str>>,
    /// UIDs of pods whose deletion is under way or done, so that each is asked for once; and since when.
    pub(super) deleting: HashMap<String, Instant>,
    /// Rollouts that wait, as last seen.
    pub(super) holds: HashMap<DeploymentKey, Hold>,
    /// When the pods of each Deployment are to be looked through again.
    pub(super) swept: HashMap<DeploymentKey, Swept>,
    timers: BTreeMap<(Instant, u64), Wake>,
    numbers: u64,
    pub(super) results: mpsc::Sender<Created>,
    surveys: mpsc::Sender<(Arc<Workload>, PlacementContext)>,
    pub(super) accounts: mpsc::Sender<AccountRead>,
    pub(super) starts: mpsc::Sender<Starting>,
    pub(super) endings: mpsc::Sender<Ended>,
    pub(super) tasks: TaskTracker,
    /// Cancelled with the worker.
    pub(super) writes: CancellationToken,
}

impl Desk {
    pub(super) fn new(
        worker: Worker,
        results: mpsc::Sender<Created>,
        answers: Answers,
        writes: CancellationToken,
    ) -> Self {
        let Answers {
            surveys,
            accounts,
            starts,
            endings,
        } = answers;
        Self {
            ledger: Ledger::new(worker.policy.limits),
            worker,
            works: HashMap::new(),
            turns: Turns::default(),
            parked: HashMap::new(),
            held_up: HashSet::new(),
            in_flight: 0,
            expected: HashMap::new(),
            known_nodes: HashMap::new(),
            deleting: HashMap::new(),
            holds: HashMap::new(),
            swept: HashMap::new(),
            timers: BTreeMap::new(),
            numbers: 0,
            results,
            surveys,
            accounts,
            starts,
            endings,
            tasks: TaskTracker::new(),
            writes,
        }
    }

    /// Begins as a new leader: what changed while nobody led is in the caches, not in the queues.
    pub(super) fn take_over(&mut self) {
        let cluster = self.worker.cluster.clone();
        cluster.rollouts.clear();
        cluster.places.clear();
        cluster.machines.clear();
        for workload in cluster.all_opted_in() {
            self.on_rollout(&workload.key);
        }
        self.meet_nodes();
        self.check_holds();
        info!(under_way = self.works.len(), "took over");
    }

    /// Ends what it began. The writes were cancelled with the worker; each ends at its next await.
    pub(super) async fn end(self) {
        let Self { tasks, results, .. } = self;
        tasks.close();
        drop(results);
        tasks.wait().await;
    }

    pub(super) fn next_wake(&self) -> Instant {
        let first = self.timers.keys().next();
        first.map_or_else(|| Instant::now() + NEVER, |(at, _)| *at)
    }

    pub(super) fn wake_at(&mut self, at: Instant, wake: Wake) {
        let number = self.number();
        self.timers.insert((at, number), wake);
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The time has come for something.
    pub(super) fn on_wake(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self
            .timers
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            match entry.remove() {
                Wake::Work(key) => self.turns.add(&key),
                Wake::Retry(place) => {
                    if self.stage(&place) == Some(Stage::BackOff) {
                        self.line_up(&place);
                    }
                }
                Wake::Unseen(place) => self.on_unseen(&place),
            }
        }
    }

    /// How often a Deployment is prefetched again.
    pub(super) fn refresh_of(&self, workload: &Workload) -> Option<SignedDuration> {
        let own = workload.annotations.refresh.as_ref();
        own.map(|refresh| refresh.0).or(self.worker.policy.refresh)
    }

    /// A Deployment's images, mode, placement or existence changed.
    pub(super) fn on_rollout(&mut self, key: &DeploymentKey) {
        let Some(workload) = self.worker.cluster.opted_in(key) else {
            if self.drop_work(key) {
                info!(deployment = %key, "no longer prefetched for");
            }
            self.sweep_one(key);
            self.check_hold(key);
            return;
        };
        let waits = workload.held.is_some_and(|held| held.paused);
        if let Some(work) = self.works.get(key)
            && work.is_for(&workload)
            // A rollout waits for all nodes, not for those that joined.
            && (work.whole || !waits)
        {
            let before = &work.workload;
            if !asks_the_same(before, &workload) {
                let (malformed, now) = (&before.annotations, &workload.annotations);
                if before.too_large != workload.too_large || malformed.invalid != now.invalid {
                    self.warn_of(&workload);
                }
                self.revise(workload);
            }
            self.check_hold(key);
            return;
        }
        // The newest images win.
        self.drop_work(key);
        let refreshes = self.refresh_of(&workload).is_some();
        let recent = workload
            .rollout
            .is_recent(Timestamp::now(), self.worker.policy.retain);
        if recent || refreshes || waits {
            self.begin(workload);
        } else {
            debug!(deployment = %key, "rolled out already");
        }
        self.sweep_one(key);
        self.check_hold(key);
    }

    /// Forgets a prefetch; whether there was one. Its pods are judged by what is wanted now, those on their way when
    /// they show.
    pub(super) fn drop_work(&mut self, key: &DeploymentKey) -> bool {
        let Some(work) = self.works.remove(key) else {
            return false;
        };
        work.cancel.cancel();
        for node in work.spots.into_names() {
            let place = Place {
                key: key.clone(),
                node,
            };
            if !self.expected.contains_key(&place) {
                self.free(&place);
            }
        }
        true
    }

    /// Plans at once, or once it is known where the Deployment runs now, if the plan depends on it.
    fn begin(&mut self, workload: Arc<Workload>) {
        let Some(pods) = workload.selector_for_max_nodes().cloned() else {
            self.begin_in(workload, PlacementContext::default());
            return;
        };
        let (whereabouts, surveys) = (self.worker.whereabouts.clone(), self.surveys.clone());
        let survey = async move {
            let running_on = whereabouts.nodes_running(&workload.key, &pods).await;
            let situation = PlacementContext {
                running_on,
                ..PlacementContext::default()
            };
            // Fails only when the worker has ended.
            let _ = surveys.send((workload, situation)).await;
        };
        let end = self.writes.clone();
        self.tasks.spawn(end.run_until_cancelled_owned(survey));
    }

    /// It is known where a Deployment runs; meanwhile its images may have changed.
    pub(super) fn on_surveyed(&mut self, workload: Arc<Workload>, situation: PlacementContext) {
        let Some(now) = self.worker.cluster.opted_in(&workload.key) else {
            return;
        };
        let current = now.image_set == workload.image_set && now.uid == workload.uid;
        let begun = self
            .works
            .get(&workload.key)
            .is_some_and(|work| work.is_for(&workload));
        if current && !begun {
            self.begin_in(now, situation);
        }
    }

    fn begin_in(&mut self, workload: Arc<Workload>, situation: PlacementContext) {
        let hint = self
            .worker
            .hints
            .confirm(&workload.key, &workload.image_set);
        self.warn_of(&workload);
        let machines = self.worker.cluster.nodes();
        let Plan {
            nodes: targets,
            skipped,
        } = plan(
            &workload,
            machines.iter().map(|machine| machine.candidate.as_ref()),
            &situation,
            &self.worker.settings,
        );
        self.worker.metrics.prefetch_planned();
        let mut work = Work::new(Begin {
            id: self.number(),
            started: hint.map_or_else(Instant::now, |hint| hint.admitted),
            whole: true,
            situation,
            cancel: self.writes.child_token(),
            workload: workload.clone(),
        });
        let machines: HashMap<&str, _> = machines
            .iter()
            .map(|machine| (machine.candidate.name.as_str(), machine))
            .collect();
        for (node, _) in &targets {
            let Some(machine) = machines.get(node.as_str()) else {
                continue;
            };
            if machine.has_all(&workload) {
                work.reporting += 1;
            } else {
                work.add(&Arc::from(node.as_str()), machine, targets.len());
            }
        }
        info!(
            deployment = %workload.key, revision = %workload.image_set, images = workload.images.len(),
            nodes = work.spots.len(), skipped = skipped.len(), reporting = work.reporting, "prefetching",
        );
        if !workload.images.is_empty() {
            let note = notes::opening(&work, &skipped);
            self.worker
                .reporter
                .publish(&workload, EventReason::PrefetchStarted, "", note);
        }
        let key = workload.key.clone();
        self.works.insert(key.clone(), work);
        self.read_account(&key);
        for node in self.worker.cluster.nodes_with_pods(&key) {
            let place = Place {
                key: key.clone(),
                node,
            };
            self.look(&place);
        }
        self.look_who_starts(&key);
        self.turns.add(&key);
        self.check_hold(&key);
    }

    fn warn_of(&self, workload: &Workload) {
        for (reason, subject, note) in notes::complaints(workload) {
            self.worker
                .reporter
                .publish(workload, reason, &subject, note);
        }
    }

    pub(super) fn stage(&self, place: &Place) -> Option<Stage> {
        let spot = self.works.get(&place.key)?.spots.get(&place.node)?;
        Some(spot.stage())
    }

    pub(super) fn set(&mut self, place: &Place, stage: Stage) {
        if let Some(work) = self.works.get_mut(&place.key) {
            work.spots.set(&place.node, stage);
        }
    }

    pub(super) fn line_up(&mut self, place: &Place) {
        if let Some(work) = self.works.get_mut(&place.key) {
            work.spots.line_up(&place.node);
            self.turns.add(&place.key);
        }
    }
}
