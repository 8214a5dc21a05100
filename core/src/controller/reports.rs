//! The reports about a prefetch, and the refusals of its pods.

use std::collections::BTreeSet;

use crate::time::Instant;

/// The reports about a prefetch.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Failures that have an event: the position of the image, `None` for a fault of a node, and the class of the failure.
    pub(super) failures: BTreeSet<(Option<usize>, &'static str)>,
    /// The last failure, in words.
    pub(super) last_error: Option<String>,
    /// The number of failed nodes when the prefetch was last finished; `None` if it is to be reported again.
    pub(super) finished: Option<usize>,
}

impl Reports {
    /// Returns whether a fault of a node, and not of an image, is to be reported, and records that it is: once for each class.
    pub(super) fn take_node_fault(&mut self, reason: &'static str) -> bool {
        self.failures.insert((None, reason))
    }
}

/// The API server's refusals of a prefetch's pods.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The number of refusals in a row.
    pub(super) count: u32,
    /// The time until which nothing is created.
    pub(super) until: Option<Instant>,
}

impl Refusals {
    /// Returns whether nothing is created now.
    pub(super) fn blocks(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}
