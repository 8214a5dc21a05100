//! Groups of fields of a Deployment.

use crate::api::hold_mark::HoldMark;
use crate::image::UnsupportedImage;
use crate::rollout::Rollout;

/// The images of a template that cannot be prefetched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unsupported {
    /// The first of them, each with the reason.
    pub images: Vec<UnsupportedImage>,
    /// The number of those that are not listed.
    pub more: usize,
}

/// The terms on which images are pulled. Other terms may have another result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PullTerms {
    /// Names of the Secrets with registry credentials.
    pub image_pull_secrets: Vec<String>,
    /// The ServiceAccount, whose pull secrets apply as well.
    pub service_account: Option<String>,
    /// The RuntimeClass of its pods.
    pub runtime_class: Option<String>,
}

/// The progress of a rollout, and the pause or hold that stops it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolloutState {
    /// The number of pods that the Deployment asks for.
    pub replicas: i32,
    /// The progress of its rollout.
    pub rollout: Rollout,
    /// True if it is paused, by headstart or by another client.
    pub paused: bool,
    /// The hold that it is marked with.
    pub held: Option<HoldMark>,
}
