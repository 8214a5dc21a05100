//! Measurements, as data.

use std::time::Duration;

use crate::hold::ResumeHealth;
use crate::pod::status::PodStatusSummary;

/// Something that a metric counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A prefetch was planned.
    PrefetchPlanned,
    /// A node has all images of a Deployment, so long after the admission.
    NodePulled(Duration),
    /// The result of a pod is known.
    PodFinished(PodStatusSummary),
    /// A pod is gone before its result was known.
    PodLost,
    /// The watch showed a pod so long after its create was answered.
    WatchLag(Duration),
    /// A hold ended.
    HoldEnded {
        /// The reason, in one word.
        reason: &'static str,
        /// The duration of the hold.
        after: Duration,
    },
}

/// The work that is left, for gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Deployments that have nodes to be decided.
    pub deployments: usize,
    /// The time since the oldest of their prefetches began.
    pub oldest: Duration,
    /// Nodes to be decided, counted for each Deployment.
    pub nodes: usize,
    /// Nodes that pull.
    pub pulling: usize,
    /// Deployments whose rollout is held.
    pub held: usize,
    /// Creates that are not finished.
    pub creates: usize,
    /// Says whether holds that are over are resumed.
    pub resumes: ResumeHealth,
}
