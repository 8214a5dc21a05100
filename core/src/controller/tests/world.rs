//! A cluster for tests: a store, a controller, and a clock that only the test moves.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::api::mode::namespace_mode;
use crate::controller::command::{
    Command, CommandId, CommandResult, CreatePermission, Event, EventRecord, Output, WriteError,
};
use crate::controller::log::LogLine;
use crate::controller::observation::Observation;
use crate::controller::{Controller, ControllerConfig, PullLimits};
use crate::event::EventReason;
use crate::hold::HoldLimits;
use crate::store::{Change, NodeName, NodeRecord, ObservedPod, PodId, Store, Update};
use crate::testing::settings;
use crate::time::{Instant, Now};
use crate::workload::{DeploymentKey, Workload};

/// The time at which tests begin, by the wall clock, in seconds since the Unix epoch.
const EPOCH: i64 = 1_800_000_000;

pub(super) struct World {
    pub(super) store: Store,
    pub(super) controller: Controller,
    pub(super) now: Now,
    /// Commands without an answer, in the order in which they came.
    pub(super) commands: Vec<Command>,
    pub(super) events: Vec<EventRecord>,
    pub(super) observations: Vec<Observation>,
    pub(super) logs: Vec<LogLine>,
    /// Checks the controller after each event, which takes time for each Deployment.
    pub(super) is_checked: bool,
    /// The kubelets acknowledge each pod at once.
    pub(super) kubelets_answer: bool,
    answered: BTreeSet<CommandId>,
    created: usize,
}

pub(super) fn config() -> ControllerConfig {
    ControllerConfig {
        retain: SignedDuration::from_secs(600),
        limits: PullLimits::default(),
        refresh: None,
        new_node_deployments: 10,
        holds: Some(HoldLimits {
            default: SignedDuration::from_secs(300),
            max: SignedDuration::from_secs(1800),
        }),
        max_writes: 100,
        pods: settings().into(),
    }
}

pub(super) fn key(name: &str) -> DeploymentKey {
    DeploymentKey {
        namespace: "shop".into(),
        name: name.into(),
    }
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A Deployment in `shop` with these images, whose rollout is complete.
pub(super) fn web(name: &str, images: &[&str]) -> Value {
    let containers: Vec<Value> = images
        .iter()
        .enumerate()
        .map(|(n, image)| json!({"name": format!("c{n}"), "image": image}))
        .collect();
    json!({
        "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}"), "generation": 1},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}},
        },
        "status": settled(EPOCH),
    })
}

/// The status of a rollout that was complete at a time.
pub(super) fn settled(at: i64) -> Value {
    let at = Timestamp::from_second(at).unwrap();
    json!({
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
        "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "lastUpdateTime": at}],
    })
}

/// The status of a rollout whose pods are still starting.
pub(super) fn rolling() -> Value {
    json!({
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 0, "unavailableReplicas": 1, "conditions": null,
    })
}

pub(super) fn merged(mut object: Value, change: &Value) -> Value {
    json_patch::merge(&mut object, change);
    object
}

/// The status that a kubelet reports first.
pub(super) fn acknowledged(now: Now) -> PodStatus {
    serde_json::from_value(json!({"phase": "Pending", "startTime": now.wall})).unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(config())
    }

    pub(super) fn with(config: ControllerConfig) -> Self {
        let mut world = Self {
            store: Store::new("headstart"),
            controller: Controller::new(config),
            now: Now {
                monotonic: Instant::after_start(secs(1000)),
                wall: Timestamp::from_second(EPOCH).unwrap(),
            },
            commands: Vec::new(),
            events: Vec::new(),
            observations: Vec::new(),
            logs: Vec::new(),
            is_checked: true,
            kubelets_answer: true,
            answered: BTreeSet::new(),
            created: 0,
        };
        world.namespace("shop", "hold");
        world.apply(Event::PermissionChanged(CreatePermission::Granted));
        world
    }

    /// The same cluster under a new leader.
    pub(super) fn new_leader(mut self, config: ControllerConfig) -> Self {
        self.controller = Controller::new(config);
        self.commands.clear();
        self.answered.clear();
        let mut out = Output::default();
        let events = self.controller.start(&self.store, self.now, &mut out);
        self.apply(Event::PermissionChanged(CreatePermission::Granted));
        for event in events {
            self.apply(event);
        }
        self
    }

    pub(super) fn namespace(&mut self, name: &str, mode: &str) {
        let labels = [("headstart.dev/prefetch".to_owned(), mode.to_owned())].into();
        let mode = namespace_mode(Some(&labels)).unwrap();
        let changes = self
            .store
            .apply_namespace(&None, Update::Applied(name.into(), mode));
        self.apply_changes(changes);
    }

    pub(super) fn deploy(&mut self, object: Value) {
        let deployment = serde_json::from_value(object).unwrap();
        let workload = Workload::from_deployment(&deployment).unwrap();
        let update = Update::Applied(workload.key.clone(), workload);
        let changes = self.store.apply_deployment(&None, update);
        self.apply_changes(changes);
    }

    pub(super) fn delete_deployment(&mut self, name: &str) {
        let changes = self
            .store
            .apply_deployment(&None, Update::Deleted(key(name)));
        self.apply_changes(changes);
    }

    pub(super) fn node(&mut self, name: &str) {
        self.node_with(name, &json!({}));
    }

    pub(super) fn nodes(&mut self, count: usize) {
        for index in 1..=count {
            self.node(&format!("n{index:03}"));
        }
    }

    pub(super) fn node_with(&mut self, name: &str, change: &Value) {
        let node = json!({
            "metadata": {
                "name": name, "uid": format!("uid-{name}"), "creationTimestamp": "2020-01-01T00:00:00Z",
                "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        let node = serde_json::from_value(merged(node, change)).unwrap();
        let record = NodeRecord::from_node(&node, true).unwrap();
        let update = Update::Applied(NodeName::from(name), record);
        let changes = self.store.apply_node(&None, update);
        self.apply_changes(changes);
    }

    pub(super) fn delete_node(&mut self, name: &str) {
        let changes = self.store.apply_node(&None, Update::Deleted(name.into()));
        self.apply_changes(changes);
    }

    /// Shows a pod as the watch does.
    pub(super) fn show(&mut self, pod: &Pod) {
        let id = PodId::of(pod).expect("a prefetch pod");
        let observed = ObservedPod::from_pod(pod, "headstart:v1");
        let changes = self.store.apply_pod(&None, Update::Applied(id, observed));
        self.apply_changes(changes);
    }

    /// Shows that a pod is gone.
    pub(super) fn hide(&mut self, pod: &Pod) {
        let id = PodId::of(pod).expect("a prefetch pod");
        let changes = self.store.apply_pod(&None, Update::Deleted(id));
        self.apply_changes(changes);
    }

    fn apply_changes(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.apply(change.into());
        }
    }

    /// Applies an event, and checks the controller.
    pub(super) fn apply(&mut self, event: Event) {
        let mut out = Output::default();
        self.controller
            .apply(event, &self.store, self.now, &mut out);
        self.commands.extend(out.commands);
        self.events.extend(out.events);
        self.observations.extend(out.observations);
        self.logs.extend(out.logs);
        if self.is_checked {
            self.controller.check().unwrap();
        }
        let next = self.controller.next_timeout();
        assert!(next.is_none_or(|at| at > self.now.monotonic), "overdue");
    }

    /// Lets time pass, with every timeout in it.
    pub(super) fn advance(&mut self, duration: Duration) {
        let end = self.now.monotonic + duration;
        while let Some(at) = self.controller.next_timeout().filter(|at| *at <= end) {
            self.set_time(at);
            self.apply(Event::Timeout);
        }
        self.set_time(end);
    }

    fn set_time(&mut self, at: Instant) {
        let passed = at.duration_since(self.now.monotonic);
        self.now.monotonic = at;
        self.now.wall = self.now.wall.checked_add(passed).unwrap();
    }

    pub(super) fn finish(&mut self, id: CommandId, result: CommandResult) {
        assert!(self.answered.insert(id), "{id:?} is answered twice");
        self.apply(Event::CommandFinished { id, result });
    }

    /// Takes the creates without an answer.
    pub(super) fn take_creates(&mut self) -> Vec<(CommandId, Pod)> {
        let is_create = |command: &mut Command| matches!(command, Command::CreatePod { .. });
        let creates = self.commands.extract_if(.., is_create);
        creates
            .map(|command| match command {
                Command::CreatePod { id, pod } => (id, Pod::clone(&pod)),
                _ => unreachable!(),
            })
            .collect()
    }

    /// Stores the pods of all creates without an answer, and shows them. Returns them.
    pub(super) fn create_all(&mut self) -> Vec<Pod> {
        let creates = self.take_creates();
        creates
            .into_iter()
            .map(|(id, pod)| self.store_pod(id, pod))
            .collect()
    }

    /// Answers a create, and shows its pod.
    pub(super) fn store_pod(&mut self, id: CommandId, pod: Pod) -> Pod {
        let pod = self.stored(pod);
        let uid = pod.metadata.uid.clone();
        self.finish(id, CommandResult::PodCreated(Ok(uid)));
        self.show(&pod);
        pod
    }

    /// Returns the pod as the API server stores it.
    pub(super) fn stored(&mut self, mut pod: Pod) -> Pod {
        self.created += 1;
        pod.metadata.uid = Some(format!("pod-{}", self.created));
        let now = json!(self.now.wall);
        pod.metadata.creation_timestamp = serde_json::from_value(now).unwrap();
        if self.kubelets_answer {
            pod.status = Some(acknowledged(self.now));
        }
        pod
    }

    /// Fails all creates without an answer.
    pub(super) fn fail_creates(&mut self, error: &WriteError) -> usize {
        let creates = self.take_creates();
        for (id, _) in &creates {
            let result = CommandResult::PodCreated(Err(error.clone()));
            self.finish(*id, result);
        }
        creates.len()
    }

    /// Creates and pulls until nothing is left to create.
    pub(super) fn run_to_end(&mut self) {
        for _ in 0..50 {
            let pods = self.create_all();
            self.pull(&pods);
            self.advance(secs(2));
            if pods.is_empty() && self.pending() == 0 {
                return;
            }
        }
        panic!("{} nodes stay pending", self.pending());
    }

    /// Answers the list without an answer with these nodes.
    pub(super) fn answer_list<const N: usize>(&mut self, nodes: [&str; N]) {
        let id = self.take_list();
        let nodes = nodes.map(str::to_owned).into();
        self.finish(id, CommandResult::PodsListed(Ok(nodes)));
    }

    /// Says that no pod of the rollout starts, if that is asked.
    pub(super) fn answer_starting(&mut self) {
        self.advance(Duration::from_millis(400));
        let is_list = |command: &Command| matches!(command, Command::ListPods { .. });
        if self.commands.iter().any(is_list) {
            self.answer_list([]);
        }
    }

    pub(super) fn fail_list(&mut self) {
        let id = self.take_list();
        self.finish(id, CommandResult::PodsListed(Err("forbidden".into())));
    }

    fn take_list(&mut self) -> CommandId {
        let is_list = |command: &Command| matches!(command, Command::ListPods { .. });
        let list = self.commands.iter().position(is_list).expect("a list");
        self.commands.remove(list).id()
    }

    /// Answers the read of a ServiceAccount with these pull secrets.
    pub(super) fn answer_secrets(&mut self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.finish_read(Ok(names));
    }

    pub(super) fn fail_secrets(&mut self) {
        self.finish_read(Err("forbidden".into()));
    }

    fn finish_read(&mut self, result: Result<Vec<String>, String>) {
        let is_read = |command: &Command| matches!(command, Command::ReadPullSecrets { .. });
        let read = self.commands.iter().position(is_read).expect("a read");
        let id = self.commands.remove(read).id();
        self.finish(id, CommandResult::PullSecretsRead(result));
    }

    pub(super) fn pending(&self) -> usize {
        self.controller.stats(self.now.monotonic).nodes
    }

    /// Returns the notes of all events of a reason, and forgets them.
    pub(super) fn take_events(&mut self, reason: EventReason) -> Vec<String> {
        let of_reason = |event: &mut EventRecord| event.reason == reason;
        let taken = self.events.extract_if(.., of_reason);
        taken.map(|event| event.note).collect()
    }

    /// Takes the deletes without an answer, with the UID that each is for.
    pub(super) fn take_deletes(&mut self) -> Vec<(CommandId, String)> {
        let is_delete = |command: &mut Command| matches!(command, Command::DeletePod { .. });
        let deletes = self.commands.extract_if(.., is_delete);
        deletes
            .map(|command| match command {
                Command::DeletePod { id, uid, .. } => (id, uid),
                _ => unreachable!(),
            })
            .collect()
    }
}
