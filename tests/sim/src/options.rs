//! The size of a simulated cluster and the faults that it may have: drawn anew for each seed, so that rare combinations meet.

use std::collections::BTreeSet;
use std::time::Duration;

use headstart_core::controller::{ControllerConfig, PullLimits};
use headstart_core::hold::HoldLimits;
use headstart_core::testing::settings;
use k8s_openapi::jiff::SignedDuration;

use crate::random::Random;

/// Kinds of faults. A seed has some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Processes end between any two writes, and start again.
    Crash,
    /// Processes stop for a while, as by SIGSTOP, and go on with what they know.
    Stop,
    /// Wall clocks jump by up to an hour.
    Clock,
    /// Watches are late, by up to 30 s.
    WatchLag,
    /// Watches are cut, and list anew; a list after a restart may be old.
    WatchCut,
    /// Writes are refused or fail without having been done.
    WriteErrors,
    /// Requests or their answers are lost.
    LostAnswers,
    /// The API server is away.
    ApiServerDown,
    /// The webhook is not called.
    WebhookSkipped,
    /// Kubelets freeze, nodes are not ready, cordoned or tainted.
    Nodes,
    /// Nodes are deleted, and others join by the same name.
    NodeChurn,
    /// Kubelets refuse pods or throw them out.
    Rejections,
    /// Images are removed from nodes, and nodes are short of disk.
    ImageGc,
    /// The registry fails.
    Registry,
    /// Quota on pods.
    Quota,
    /// Users forge and remove marks, and forge prefetch pods.
    Forgery,
    /// Users delete prefetch pods.
    PodDeletes,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 17] = [
        Self::Crash,
        Self::Stop,
        Self::Clock,
        Self::WatchLag,
        Self::WatchCut,
        Self::WriteErrors,
        Self::LostAnswers,
        Self::ApiServerDown,
        Self::WebhookSkipped,
        Self::Nodes,
        Self::NodeChurn,
        Self::Rejections,
        Self::ImageGc,
        Self::Registry,
        Self::Quota,
        Self::Forgery,
        Self::PodDeletes,
    ];
}

/// The options of a seed.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// How many names of Deployments.
    pub deployments: usize,
    /// How many namespaces.
    pub namespaces: usize,
    /// How many replicas of headstart.
    pub replicas: usize,
    /// How many actions.
    pub actions: usize,
    /// How long the faults last, in milliseconds.
    pub duration: u64,
    /// The faults that happen.
    pub faults: BTreeSet<Fault>,
    /// How the controllers work.
    pub config: ControllerConfig,
    /// True if kubelets pull one image after another.
    pub serial_pulls: bool,
    /// True if nodes report their images.
    pub node_images: bool,
}

/// Draws a number up to the most, small ones more often: most faults need little, and small clusters are simulated quickly.
fn few(random: &mut Random, most: u64) -> usize {
    let drawn = [(); 3].map(|()| random.within(1..=most));
    usize::try_from(drawn.into_iter().min().unwrap_or(1)).unwrap_or(1)
}

impl Options {
    /// Draws the options of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x0b71_0a5e);
        let faults = Fault::ALL.into_iter();
        // Few faults in one seed: with all of them on at once, each hides the others.
        let share = random.pick(&[0, 100, 250, 250, 500]);
        let faults = faults.filter(|_| random.per_mille(share)).collect();
        let seconds = |seconds: u64| SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(0));
        let limit = |random: &mut Random, most: u64| {
            let limited = random.per_mille(300);
            let limit = random.within(1..=most);
            usize::try_from(if limited { limit } else { 0 }).unwrap_or(0)
        };
        let max = random.pick(&[120, 300, 600]);
        let retain = seconds(random.pick(&[30, 120, 600]));
        let (nodes, per_registry) = (limit(&mut random, 6), limit(&mut random, 4));
        let per_node = limit(&mut random, 2);
        let config = ControllerConfig {
            retain,
            limits: PullLimits {
                nodes,
                per_registry,
                per_node,
                per_node_in_all: per_node * 2,
                deployments: 0,
                ended: 0,
            },
            refresh: random.per_mille(100).then(|| seconds(60)),
            new_node_deployments: random.pick(&[0, 1, 10]),
            holds: Some(HoldLimits {
                default: seconds(random.within(20..=max)),
                max: seconds(max),
            }),
            max_writes: usize::try_from(random.pick(&[1, 2, 100])).unwrap_or(1),
            pods: headstart_core::pod::PodSettings {
                deadline_seconds: 600,
                ..settings()
            }
            .into(),
        };
        let mut options = Self {
            nodes: few(&mut random, 8),
            deployments: few(&mut random, 6),
            namespaces: usize::try_from(random.within(1..=3)).unwrap_or(1),
            replicas: usize::try_from(random.within(1..=3)).unwrap_or(1),
            actions: 3 + few(&mut random, 50),
            duration: random.within(60..=900) * 1000,
            faults,
            config,
            serial_pulls: random.per_mille(700),
            node_images: random.per_mille(500),
        };
        // Drawn last: the seeds of `regressions` keep what they drew before.
        options.config.limits.deployments = limit(&mut random, 2);
        options
    }

    /// Returns whether a fault may happen.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Returns the longest hold.
    pub fn max_hold(&self) -> Duration {
        let max = self
            .config
            .holds
            .map_or(SignedDuration::ZERO, |holds| holds.max);
        Duration::try_from(max).unwrap_or_default()
    }
}
