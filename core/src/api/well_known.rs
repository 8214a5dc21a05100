//! The labels and annotations that headstart shares with its users.

use super::annotations;

/// The prefix of the keys of all of headstart's labels and annotations.
pub const PREFIX: &str = "headstart.dev/";
/// On a namespace its consent ([`NamespaceMode`](super::mode::NamespaceMode)), on a Deployment its own mode
/// ([`Mode`](super::mode::Mode)).
pub const PREFETCH_LABEL: &str = "headstart.dev/prefetch";
/// On a Deployment whose rollout headstart holds, with [`HELD_VALUE`] as its value.
pub const HELD_LABEL: &str = "headstart.dev/held";
/// The value of [`HELD_LABEL`].
pub const HELD_VALUE: &str = "true";
/// On a held Deployment: when the hold ends at the latest (RFC 3339).
pub const HELD_UNTIL: &str = "headstart.dev/held-until";
/// On a held Deployment: when the hold began (RFC 3339).
pub const HELD_SINCE: &str = "headstart.dev/held-since";
/// On every prefetch pod, with [`MANAGER`] as its value.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`], and the name headstart reports under.
pub const MANAGER: &str = "headstart";
/// On every prefetch pod: the Deployment it pulls for.
pub const DEPLOYMENT_LABEL: &str = "headstart.dev/deployment";
/// On every prefetch pod: the [`ImageSetId`](crate::image::ImageSetId) of the images it pulls.
pub const REVISION_LABEL: &str = "headstart.dev/revision";
/// On every prefetch pod: its node's name, which can be too long for a label. Pinned by affinity, the pod names it
/// nowhere else until it is scheduled.
pub const NODE_ANNOTATION: &str = "headstart.dev/node";
/// On headstart's Lease: how many rollouts are held, as the leader knows.
pub const HOLDING_ANNOTATION: &str = "headstart.dev/holding";
/// On headstart's Lease: whether the leader can resume rollouts ([`ResumeHealth`](crate::hold::ResumeHealth)).
pub const RESUMES_ANNOTATION: &str = "headstart.dev/resumes";

/// All labels and annotations of a Deployment that are read or set.
pub const KEYS: [&str; 11] = [
    PREFETCH_LABEL,
    HELD_LABEL,
    HELD_UNTIL,
    HELD_SINCE,
    annotations::NODE_SELECTOR,
    annotations::MAX_NODES,
    annotations::AFTER_READY,
    annotations::REFRESH,
    annotations::IMAGES,
    annotations::HOLD_TIMEOUT,
    annotations::HOLD_UNTIL,
];
