//! The images that a template declares: those that can be prefetched, and those that cannot.

use std::sync::Arc;

use super::reference::{ImageRef, InvalidImage};
use crate::limits::{ITEMS, MAX_IMAGES, SHOWN_BYTES};

/// One image to have on the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The normalised reference, which is the same for all spellings of an image.
    pub reference: ImageRef,
    /// The spelling of the template. The prefetch uses this one, because the kubelet files its record of
    /// who may use a pulled image (KEP-2535) under the spelling that pulled it.
    pub as_written: Arc<str>,
    /// True if the registry is asked even where the image is present, as the rollout's pods do.
    pub always: bool,
}

/// One image of the template that cannot be prefetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedImage {
    /// The text of the template, or its beginning.
    pub as_written: String,
    /// The reason.
    pub reason: UnsupportedReason,
}

/// The reason why an image of the template is not prefetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedReason {
    /// No runtime would take the reference.
    #[error("{0}")]
    Invalid(#[from] InvalidImage),
    /// There are more than headstart prefetches for one Deployment.
    #[error("only the first {MAX_IMAGES} images of a Deployment are prefetched")]
    TooMany,
    /// It stands behind more containers and volumes than are read.
    #[error("only the first {ITEMS} containers and volumes of a Deployment are read")]
    Unread,
}

impl Image {
    /// Returns its size in memory.
    pub(crate) fn bytes(&self) -> usize {
        // Beside the text an Arc has two counters.
        let text = |text: &Arc<str>| 2 * size_of::<usize>() + text.len();
        let own = !Arc::ptr_eq(&self.as_written, self.reference.text());
        let given = if own { text(&self.as_written) } else { 0 };
        size_of::<Self>() + text(self.reference.text()) + given
    }
}

impl UnsupportedImage {
    /// Returns its size in memory, at most.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.as_written.len() + SHOWN_BYTES
    }
}
