//! The work itself, on the leader only: take a Deployment, confirm it against what is stored, plan, fan out, watch
//! outcomes, report, clean up.
//!
//! One task owns all of it and never waits for the API server: writes run beside it and report back. Nothing it
//! remembers is needed by the next leader, who finds prefetch pods by label and the rest in the Deployments.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::cluster::{Cluster, PrefetchPod};
use crate::domain::outcome::{Failure, Outcome};
use crate::domain::placement::Ineligible;
use crate::domain::plan::{Plan, Situation, plan};
use crate::domain::pod::{PodSettings, pod_name};
use crate::domain::workload::{Key, Workload};
use crate::metrics::Metrics;
use crate::puller::{Created, Puller, RESULTS};
use crate::queue::Hints;
use crate::report::{Reason, Reporter};

/// How often finished pods are looked through: a fraction of any useful retention, and a scan of our own pods only.
const SWEEP: Duration = Duration::from_secs(1);
/// Surveys that wait for the worker; few Deployments limit their nodes.
const SURVEYS: usize = 64;
/// How many skipped or failed nodes an event names; the rest are counted.
const NAMED_NODES: usize = 5;

/// Everything the work needs.
#[derive(Clone)]
pub struct Worker {
    /// What is stored.
    pub cluster: Arc<Cluster>,
    /// What reviews promised.
    pub hints: Arc<Hints>,
    /// Writes pods.
    pub puller: Puller,
    /// Writes events.
    pub reporter: Reporter,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What all prefetch pods have in common.
    pub settings: Arc<PodSettings>,
    /// How long finished pods stay after the rollout.
    pub retain: Duration,
}

/// One Deployment's prefetch under way or done.
#[derive(Debug)]
struct Work {
    workload: Arc<Workload>,
    started: Instant,
    /// Nodes left out when the plan was made.
    skipped: Vec<(String, Ineligible)>,
    /// Pods that were planned and whose images are not all decided yet, by name, with their node.
    open: HashMap<String, Open>,
    warm: usize,
    failed: usize,
    /// What was reported: image and class of failure.
    reported: HashSet<(usize, &'static str)>,
    /// Ends the fan-out.
    cancel: CancellationToken,
}

#[derive(Debug)]
struct Open {
    node: String,
    /// The watch has shown the pod. Until then its absence from the cache says nothing.
    seen: bool,
}

impl Worker {
    /// Works until cancelled. What is under way then is found by the next leader.
    pub async fn run(self, cancel: CancellationToken) {
        let (results, mut created) = mpsc::channel(RESULTS);
        let (surveys, mut surveyed) = mpsc::channel(SURVEYS);
        let tasks = TaskTracker::new();
        let writes = cancel.child_token();
        let mut desk = Desk {
            worker: self,
            works: HashMap::new(),
            deleting: HashSet::new(),
            results,
            surveys,
            tasks,
            writes,
        };
        desk.take_over();
        let cluster = desk.worker.cluster.clone();
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                // Results first: the channel is bounded, and the fan-out waits for it.
                Some(created) = created.recv() => desk.on_created(created),
                Some((workload, situation)) = surveyed.recv() => desk.on_surveyed(workload, situation),
                key = cluster.rollouts.take() => desk.on_rollout(&key),
                key = cluster.pods.take() => desk.on_pods(&key),
                _ = sweep.tick() => desk.sweep(),
            }
        }
        let Desk { tasks, results, .. } = desk;
        tasks.close();
        // Cancelled with us; each ends at its next await. They may still wait to hand in a result.
        drop(results);
        created.close();
        surveyed.close();
        tasks.wait().await;
    }
}

/// The worker with what it has on its desk.
struct Desk {
    worker: Worker,
    works: HashMap<Key, Work>,
    /// UIDs of pods whose deletion is under way or done, so that each is asked for once.
    deleting: HashSet<String>,
    results: mpsc::Sender<Created>,
    surveys: mpsc::Sender<(Arc<Workload>, Situation)>,
    tasks: TaskTracker,
    /// Cancelled with the worker.
    writes: CancellationToken,
}

impl Desk {
    /// Begins as a new leader: what changed while nobody led is in the caches, not in the queues.
    fn take_over(&mut self) {
        let cluster = self.worker.cluster.clone();
        cluster.rollouts.clear();
        cluster.pods.clear();
        for workload in cluster.all_opted_in() {
            self.on_rollout(&workload.key);
        }
        info!(under_way = self.works.len(), "took over");
    }

    /// A Deployment's images, mode or existence changed.
    fn on_rollout(&mut self, key: &Key) {
        let Some(workload) = self.worker.cluster.opted_in(key) else {
            // Disabled or gone: the sweep removes its pods.
            if let Some(work) = self.works.remove(key) {
                work.cancel.cancel();
                info!(deployment = %key, "no longer prefetched for");
            }
            return;
        };
        if self
            .works
            .get(key)
            .is_some_and(|work| work.is_for(&workload))
        {
            return;
        }
        if let Some(old) = self.works.remove(key) {
            // The newest images win; the sweep removes what pulls the older ones.
            old.cancel.cancel();
        }
        if !workload
            .rollout
            .is_recent(Timestamp::now(), self.retention())
        {
            debug!(deployment = %key, "rolled out already");
            return;
        }
        self.begin(workload);
    }

    /// Plans at once, or once it is known where the Deployment runs now, if the plan depends on it.
    fn begin(&mut self, workload: Arc<Workload>) {
        let Some(pods) = workload.pods.clone() else {
            self.begin_in(workload, &Situation::default());
            return;
        };
        let (puller, surveys) = (self.worker.puller.clone(), self.surveys.clone());
        let cancel = self.writes.clone();
        self.tasks.spawn(async move {
            let survey = async {
                let running_on = puller.nodes_running(&workload.key, &pods).await;
                let situation = Situation {
                    running_on,
                    ..Situation::default()
                };
                // Fails only when the worker has ended.
                let _ = surveys.send((workload, situation)).await;
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = survey => {}
            }
        });
    }

    /// It is known where a Deployment runs; meanwhile it may have changed.
    fn on_surveyed(&mut self, workload: Arc<Workload>, situation: Situation) {
        let now = self.worker.cluster.opted_in(&workload.key);
        let current = now.is_some_and(|now| now.plans_as(&workload));
        let begun = self
            .works
            .get(&workload.key)
            .is_some_and(|work| work.is_for(&workload));
        if current && !begun {
            self.begin_in(workload, &situation);
        }
    }

    fn begin_in(&mut self, workload: Arc<Workload>, situation: &Situation) {
        let hint = self.worker.hints.confirm(&workload.key, &workload.revision);
        let worker = &self.worker;
        for refused in &workload.refused {
            let note = format!(
                "Image {:?} is not prefetched: {}",
                refused.given, refused.reason
            );
            worker
                .reporter
                .report(&workload, Reason::ImageNotPrefetched, &refused.given, note);
        }
        for malformed in &workload.annotations.malformed {
            let (subject, note) = (malformed.annotation, malformed.to_string());
            worker
                .reporter
                .report(&workload, Reason::InvalidAnnotation, subject, note);
        }
        let nodes = worker.cluster.nodes();
        let Plan { targets, skipped } = plan(
            &workload,
            nodes.iter().map(AsRef::as_ref),
            situation,
            &worker.settings,
        );
        worker.metrics.planned();
        let existing = worker.cluster.pods_of(&workload.key);
        let open = |(node, _): &(String, _)| {
            let pod = pod_name(&workload, node);
            let seen = existing.contains_key(&pod);
            (
                pod,
                Open {
                    node: node.clone(),
                    seen,
                },
            )
        };
        let work = Work {
            open: targets.iter().map(open).collect(),
            started: hint.map_or_else(Instant::now, |hint| hint.admitted),
            skipped,
            warm: 0,
            failed: 0,
            reported: HashSet::new(),
            cancel: self.writes.child_token(),
            workload: workload.clone(),
        };
        info!(
            deployment = %workload.key, revision = %workload.revision, images = workload.images.len(),
            nodes = targets.len(), skipped = work.skipped.len(), "prefetching",
        );
        if !workload.images.is_empty() {
            worker
                .reporter
                .report(&workload, Reason::PrefetchStarted, "", work.opening_note());
        }
        let missing: Vec<_> = targets
            .into_iter()
            .filter(|(node, _)| !existing.contains_key(&pod_name(&workload, node)))
            .collect();
        let key = workload.key.clone();
        let fan_out = worker.puller.clone().fan_out(
            workload,
            missing,
            self.results.clone(),
            work.cancel.clone(),
        );
        self.tasks.spawn(fan_out);
        self.works.insert(key.clone(), work);
        self.on_pods(&key);
    }

    /// A pod was created, or refused.
    fn on_created(&mut self, created: Created) {
        let Created {
            key,
            revision,
            pod,
            node,
            result,
        } = created;
        let Err(message) = result else { return };
        let Some(work) = self
            .works
            .get_mut(&key)
            .filter(|work| work.workload.revision == revision)
        else {
            return;
        };
        warn!(deployment = %key, %node, error = %message, "the API server refuses a prefetch pod");
        let note = format!("Cannot create prefetch pods (node {node}): {message}");
        self.worker
            .reporter
            .report(&work.workload, Reason::PrefetchBlocked, "", note);
        work.open.remove(&pod);
        work.failed += 1;
    }

    /// A prefetch pod of this Deployment changed.
    fn on_pods(&mut self, key: &Key) {
        let Some(work) = self.works.get_mut(key) else {
            return;
        };
        if work.open.is_empty() {
            return;
        }
        let pods = self.worker.cluster.pods_of(key);
        let (metrics, reporter) = (&self.worker.metrics, &self.worker.reporter);
        let mut decided = Vec::new();
        for (name, open) in &mut work.open {
            let Some(pod) = pods.get(name) else {
                if open.seen {
                    // Its node went, or somebody deleted it.
                    metrics.image("Lost");
                    work.failed += 1;
                    decided.push(name.clone());
                }
                continue;
            };
            open.seen = true;
            for (index, outcome) in pod.outcome.images.iter().enumerate() {
                if let Outcome::Failed(failure) | Outcome::Rejected(failure) = outcome
                    && work.reported.insert((index, failure.kind.reason()))
                {
                    let image = work
                        .workload
                        .images
                        .get(index)
                        .map_or("?", |image| image.given.as_str());
                    let note = failure_note(image, &open.node, failure);
                    info!(deployment = %key, %image, node = %open.node, reason = failure.kind.reason(), "an image failed");
                    let subject = format!("{image} {}", failure.kind.reason());
                    reporter.report(&work.workload, Reason::PrefetchFailed, &subject, note);
                }
            }
            if pod.outcome.is_decided() {
                decided.push(name.clone());
                count_images(metrics, pod);
                if pod.outcome.is_warm() {
                    metrics.node_warm(work.started.elapsed());
                    work.warm += 1;
                } else {
                    work.failed += 1;
                }
            }
        }
        for name in &decided {
            work.open.remove(name);
        }
        if !decided.is_empty() && work.open.is_empty() {
            info!(deployment = %key, warm = work.warm, failed = work.failed, "prefetch decided on every node");
            if work.failed == 0 {
                reporter.report(&work.workload, Reason::Prefetched, "", work.closing_note());
            }
        }
    }

    /// Removes pods that nobody needs any more, and hints that nothing came of.
    fn sweep(&mut self) {
        let unconfirmed = self.worker.hints.expire(Instant::now());
        if unconfirmed > 0 {
            self.worker.metrics.unconfirmed(unconfirmed);
            info!(unconfirmed, "reviews whose object was never stored");
        }
        let now = Timestamp::now();
        let mut alive = HashSet::new();
        for key in self.worker.cluster.keys_with_pods() {
            let workload = self.worker.cluster.opted_in(&key);
            let mut due = Vec::new();
            for (name, pod) in self.worker.cluster.pods_of(&key) {
                if self.is_due(workload.as_deref(), &pod, now) && !self.deleting.contains(&pod.uid)
                {
                    due.push((name, pod.uid.clone()));
                }
                alive.insert(pod.uid);
            }
            if due.is_empty() {
                continue;
            }
            debug!(deployment = %key, pods = due.len(), "removing prefetch pods");
            self.deleting.extend(due.iter().map(|(_, uid)| uid.clone()));
            let delete = self
                .worker
                .puller
                .clone()
                .delete(key.namespace, due, self.writes.clone());
            self.tasks.spawn(delete);
        }
        self.deleting.retain(|uid| alive.contains(uid));
    }

    fn is_due(&self, workload: Option<&Workload>, pod: &PrefetchPod, now: Timestamp) -> bool {
        if pod.deleting {
            return false;
        }
        // Disabled, gone, or orphaned.
        let Some(workload) = workload else {
            return true;
        };
        let decided = pod.outcome.is_decided();
        if pod.revision != workload.revision && !decided {
            // Nobody wants these images any more. A pull that has begun runs on; one that has not is saved.
            return true;
        }
        // A finished pod keeps its images from the node's garbage collection until the rollout has them in use.
        let rollout = workload.rollout;
        let since = [pod.outcome.ended, pod.created, rollout.progressed]
            .into_iter()
            .flatten()
            .max();
        decided
            && rollout.settled
            && since.is_none_or(|since| now.duration_since(since) >= self.retention())
    }

    fn retention(&self) -> SignedDuration {
        SignedDuration::try_from(self.worker.retain).unwrap_or(SignedDuration::MAX)
    }
}

impl Work {
    fn is_for(&self, workload: &Workload) -> bool {
        self.workload.plans_as(workload)
    }

    fn opening_note(&self) -> String {
        let nodes = count(self.open.len(), "node");
        let mut note = format!(
            "Prefetching {} to {nodes}: {}",
            count(self.workload.images.len(), "image"),
            self.image_list()
        );
        if !self.skipped.is_empty() {
            let reasons = self
                .skipped
                .iter()
                .take(NAMED_NODES)
                .map(|(node, why)| format!("{node}: {why}"));
            let rest = self.skipped.len().saturating_sub(NAMED_NODES);
            let rest = (rest > 0).then(|| format!("{rest} more"));
            let named = reasons.chain(rest).collect::<Vec<_>>().join("; ");
            note.push_str(&format!(
                ". Skipped {} ({named})",
                count(self.skipped.len(), "node")
            ));
        }
        note
    }

    fn closing_note(&self) -> String {
        format!(
            "{} on {} after {:.1} s: {}",
            count(self.workload.images.len(), "image"),
            count(self.warm, "node"),
            self.started.elapsed().as_secs_f64(),
            self.image_list(),
        )
    }

    fn image_list(&self) -> String {
        self.workload
            .images
            .iter()
            .map(|image| image.given.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

fn failure_note(image: &str, node: &str, failure: &Failure) -> String {
    format!(
        "Image {image:?} on node {node} ({}): {}",
        failure.kind.reason(),
        failure.message
    )
}

fn count_images(metrics: &Metrics, pod: &PrefetchPod) {
    for outcome in &pod.outcome.images {
        metrics.image(match outcome {
            Outcome::Pulled => "Pulled",
            Outcome::Pending => "Pending",
            Outcome::Failed(failure) | Outcome::Rejected(failure) => failure.kind.reason(),
        });
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
