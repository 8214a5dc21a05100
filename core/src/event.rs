//! The reasons of the events that headstart writes.

/// The reason of an event. Users filter by it: the names are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventReason {
    /// Prefetch pods are being created.
    PrefetchStarted,
    /// Every planned node is decided, and all are warm.
    Prefetched,
    /// An image failed on a node.
    PrefetchFailed,
    /// The API server refuses prefetch pods: quota, a policy.
    PrefetchBlocked,
    /// An image of the template is not prefetched.
    ImageNotPrefetched,
    /// An annotation of headstart's cannot be read.
    InvalidAnnotation,
    /// The rollout waits for its images.
    RolloutHeld,
    /// It waits no longer.
    RolloutResumed,
    /// The hold is over, but the manifest pauses the rollout.
    RolloutLeftPaused,
    /// It should wait no longer, and headstart cannot resume it.
    RolloutNotResumed,
    /// On headstart's own Deployment: the API server allows a write that a policy of headstart's forbids.
    PolicyNotEnforced,
    /// On headstart's own Deployment: a webhook of headstart's is called elsewhere.
    WebhookMisdirected,
}

impl EventReason {
    /// Returns the reason as it stands in the event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PrefetchStarted => "PrefetchStarted",
            Self::Prefetched => "Prefetched",
            Self::PrefetchFailed => "PrefetchFailed",
            Self::PrefetchBlocked => "PrefetchBlocked",
            Self::ImageNotPrefetched => "ImageNotPrefetched",
            Self::InvalidAnnotation => "InvalidAnnotation",
            Self::RolloutHeld => "RolloutHeld",
            Self::RolloutResumed => "RolloutResumed",
            Self::RolloutLeftPaused => "RolloutLeftPaused",
            Self::RolloutNotResumed => "RolloutNotResumed",
            Self::PolicyNotEnforced => "PolicyNotEnforced",
            Self::WebhookMisdirected => "WebhookMisdirected",
        }
    }

    /// Returns the type of the event.
    pub fn kind(self) -> &'static str {
        match self {
            Self::PrefetchStarted
            | Self::Prefetched
            | Self::RolloutHeld
            | Self::RolloutResumed
            | Self::RolloutLeftPaused => "Normal",
            Self::PrefetchFailed
            | Self::PrefetchBlocked
            | Self::ImageNotPrefetched
            | Self::InvalidAnnotation
            | Self::RolloutNotResumed
            | Self::PolicyNotEnforced
            | Self::WebhookMisdirected => "Warning",
        }
    }

    /// Returns the action that headstart took or tried.
    pub fn action(self) -> &'static str {
        match self {
            Self::RolloutHeld => "Hold",
            Self::RolloutResumed | Self::RolloutLeftPaused | Self::RolloutNotResumed => "Resume",
            Self::PolicyNotEnforced | Self::WebhookMisdirected => "SelfTest",
            _ => "Prefetch",
        }
    }
}
