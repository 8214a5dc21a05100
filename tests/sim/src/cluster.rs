//! What all parts of the simulated cluster share: time, the API server, the registry, and the truth about images.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api_server::{ApiServer, Kind, ObjectKey, is_finished};
use crate::mutation::Mutation;
use crate::node_images::NodeImages;
use crate::options::Options;
use crate::queue::{Queue, Step};
use crate::random::{Draws, Random};
use crate::registry::Registry;

/// How many pods a node takes.
pub(crate) const POD_SLOTS: u64 = 110;

/// When simulations begin, by the wall clock.
const EPOCH: i64 = 1_800_000_000;

/// The shared parts of the cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The options of the seed.
    pub options: Options,
    /// The fault that is built into headstart, to see whether it is found.
    pub mutation: Option<Mutation>,
    /// The API server.
    pub api: ApiServer,
    /// The steps to come.
    pub queue: Queue,
    /// Random decisions.
    pub draws: Draws,
    /// The registry.
    pub registry: Registry,
    /// The images on nodes.
    pub images: NodeImages,
    /// The time until which the API server is away.
    pub api_down_until: u64,
    /// The time until which writes fail, and how many of 1,000 fail.
    pub write_errors: (u64, u64),
    /// How often each kind of thing has happened.
    pub coverage: BTreeMap<String, u64>,
    /// The steps so far, if they are recorded.
    pub trace: Option<Vec<String>>,
    /// The time of the last change of the mode of a namespace, or of a Deployment in it.
    pub(crate) mode_changed: BTreeMap<String, u64>,
    /// The time of the last renewal of the lease.
    pub lease_renewed: u64,
    /// Holds that began, each with the age of the lease's last renewal.
    pub holds_begun: Vec<(String, u64)>,
    /// True once all faults have ended.
    pub healed: bool,
    /// The pods of others on each node, and the time until which they are there.
    pub others_on: BTreeMap<String, (u64, u64)>,
}

impl Cluster {
    /// Returns an empty cluster.
    pub(crate) fn new(seed: u64, options: Options, mutation: Option<Mutation>) -> Self {
        let mut cluster = Self {
            options,
            mutation,
            api: ApiServer::default(),
            queue: Queue::default(),
            draws: Draws::new(seed),
            registry: Registry::default(),
            images: NodeImages::default(),
            api_down_until: 0,
            write_errors: (0, 0),
            coverage: BTreeMap::new(),
            trace: None,
            mode_changed: BTreeMap::new(),
            lease_renewed: 0,
            holds_begun: Vec::new(),
            healed: false,
            others_on: BTreeMap::new(),
        };
        cluster.set_clock();
        cluster
    }

    /// Goes to the next step before the end.
    pub(crate) fn next_step(&mut self, end: u64) -> Option<Step> {
        let step = self.queue.next(end);
        self.set_clock();
        step
    }

    fn set_clock(&mut self) {
        self.api.now = (self.queue.now, self.wall(0));
    }

    /// Returns the time in milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.queue.now
    }

    /// Returns a time by the true wall clock.
    pub(crate) fn wall_at(&self, at: u64) -> Timestamp {
        let ago = i64::try_from(self.queue.now - at).unwrap_or(i64::MAX);
        self.wall(-ago)
    }

    /// Returns the time of a wall clock that is so many milliseconds ahead.
    pub(crate) fn wall(&self, ahead: i64) -> Timestamp {
        let passed = i64::try_from(self.queue.now).unwrap_or(i64::MAX);
        let epoch = Timestamp::from_second(EPOCH).unwrap_or_default();
        let at = epoch.saturating_add(SignedDuration::from_millis(passed.saturating_add(ahead)));
        at.unwrap_or_default()
    }

    /// Returns a time of the true wall clock in milliseconds since the beginning.
    pub(crate) fn since_epoch(at: Timestamp) -> i64 {
        at.as_millisecond() - EPOCH * 1000
    }

    /// Returns the generator for the next decision of this name.
    pub(crate) fn draw(&mut self, name: &[&str]) -> Random {
        self.draws.of(name)
    }

    /// Returns whether the API server answers.
    pub(crate) fn is_api_up(&self) -> bool {
        self.now() >= self.api_down_until
    }

    /// Counts something that has happened.
    pub(crate) fn count(&mut self, what: &str) {
        match self.coverage.get_mut(what) {
            Some(count) => *count += 1,
            None => {
                self.coverage.insert(what.to_owned(), 1);
            }
        }
    }

    /// Writes down what has happened.
    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let (minutes, rest) = (self.queue.now / 60_000, self.queue.now % 60_000);
            trace.push(format!(
                "{minutes}:{:02}.{:03} {}",
                rest / 1000,
                rest % 1000,
                text()
            ));
        }
    }

    /// Returns how many pods on a node have not ended.
    pub(crate) fn pods_on(&self, node: &str) -> u64 {
        let others = self.others_on.get(node).copied();
        let others = others.filter(|(_, until)| self.now() < *until);
        let pods = self
            .api
            .list(Kind::Pod)
            .filter(|(_, pod)| pod.value["spec"]["nodeName"] == node && !is_finished(&pod.value));
        let pods = u64::try_from(pods.count()).unwrap_or(u64::MAX);
        others.map_or(0, |(count, _)| count) + pods
    }

    /// Returns the UID of a node.
    pub(crate) fn node_uid(&self, name: &str) -> Option<String> {
        let node = self.api.get(&ObjectKey::new(Kind::Node, "", name)).ok()?;
        Some(node.uid().to_owned())
    }
}
