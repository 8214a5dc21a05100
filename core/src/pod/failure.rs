//! Why an image is not on a node.

/// Why, for machines and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class of it.
    pub kind: FailureKind,
    /// What the kubelet, or through it the registry, answered; without credentials.
    pub message: String,
}

/// Classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// The registry has no such image.
    NotFound,
    /// The registry refused the credentials, or wants some.
    Unauthorized,
    /// The runtime does not take the reference.
    InvalidName,
    /// The image has no variant for the node's platform.
    WrongPlatform,
    /// The node's disk is full.
    NoSpace,
    /// The node's policy wants a signature that the image does not have.
    Signature,
    /// headstart's own image, which the prefetch pod needs, did not arrive.
    OwnImage,
    /// The node or the scheduler refused the pod, or the node threw it out.
    Rejected,
    /// The node is gone, and the pod with it.
    Lost,
    /// The pod had not finished by its deadline.
    Deadline,
    /// Anything that may pass: the network, a registry that is down, a rate limit.
    Transient,
}

impl FailureKind {
    /// For machines: stable, in the style of condition reasons.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::Unauthorized => "Unauthorized",
            Self::InvalidName => "InvalidName",
            Self::WrongPlatform => "WrongPlatform",
            Self::NoSpace => "NoSpace",
            Self::Signature => "SignatureValidationFailed",
            Self::OwnImage => "OwnImage",
            Self::Rejected => "Rejected",
            Self::Lost => "Lost",
            Self::Deadline => "DeadlineExceeded",
            Self::Transient => "Transient",
        }
    }

    /// Returns whether another attempt without a change meets the same answer.
    pub fn is_permanent(self) -> bool {
        matches!(
            self,
            Self::NotFound
                | Self::Unauthorized
                | Self::InvalidName
                | Self::WrongPlatform
                | Self::NoSpace
                | Self::Signature
        )
    }
}
