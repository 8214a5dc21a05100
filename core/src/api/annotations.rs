//! The annotations with which a Deployment configures its prefetch.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::limits::{IMAGES_BYTES, SELECTOR_BYTES, SHOWN_BYTES, VALUE_BYTES, printed};
use crate::scheduling::selector::Selector;

#[cfg(test)]
mod tests;
mod values;

use values::SHOWN_VALUE;
pub use values::{Amount, HoldTimeout, HoldUntil, ImageList, InvalidValue, Percent, Refresh};

/// Narrows the nodes, by a label selector.
pub const NODE_SELECTOR: &str = "headstart.dev/node-selector";
/// Limits the number of nodes.
pub const MAX_NODES: &str = "headstart.dev/max-nodes";
/// The number of new pods that have to be ready before the images go to other nodes.
pub const AFTER_READY: &str = "headstart.dev/after-ready";
/// Sets the time between two prefetches of the same images.
pub const REFRESH: &str = "headstart.dev/refresh";
/// More images, which the workload starts by itself.
pub const IMAGES: &str = "headstart.dev/images";
/// The longest hold.
pub const HOLD_TIMEOUT: &str = "headstart.dev/hold-timeout";
/// The share of planned nodes that ends a hold.
pub const HOLD_UNTIL: &str = "headstart.dev/hold-until";

/// The longest value of a label or annotation of headstart's that is read, in bytes.
pub fn longest_value(key: &str) -> usize {
    match key {
        IMAGES => IMAGES_BYTES,
        NODE_SELECTOR => SELECTOR_BYTES,
        _ => VALUE_BYTES,
    }
}

/// The annotations that can be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    /// Only nodes with these labels.
    pub node_selector: Option<Selector>,
    /// The number of nodes to prefetch on.
    pub max_nodes: Option<Amount>,
    /// The number of new pods that have to be ready first.
    pub after_ready: Option<Amount>,
    /// The time between two prefetches of the same images.
    pub refresh: Option<Refresh>,
    /// More images. A [`Workload`](crate::workload::Workload) has them among its own, and not here.
    pub images: Option<ImageList>,
    /// The longest time that a hold may last.
    pub hold_timeout: Option<HoldTimeout>,
    /// The condition that ends a hold.
    pub hold_until: Option<HoldUntil>,
    /// Those that cannot be read. They have no effect but that of [`InvalidAnnotation::blocks_prefetch`].
    pub invalid: Vec<InvalidAnnotation>,
}

/// The value of an annotation does not have the required form.
///
/// The form comes before the reason: of a long sentence an admission warning shows the first 120 characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation}={value:?}: use {form} ({why})")]
pub struct InvalidAnnotation {
    /// The key of the annotation.
    pub annotation: &'static str,
    /// The beginning of its value.
    pub value: String,
    /// The error.
    pub why: String,
    /// The expected form.
    pub form: &'static str,
}

impl InvalidAnnotation {
    /// Returns whether it stops the prefetch. The annotation was meant to keep images off some nodes, and headstart cannot tell
    /// which.
    pub fn blocks_prefetch(&self) -> bool {
        matches!(self.annotation, NODE_SELECTOR | MAX_NODES)
    }
}

impl Annotations {
    /// Reads an object's annotations.
    pub fn read(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let mut invalid = Vec::new();
        let mut reader = AnnotationReader {
            annotations,
            invalid: &mut invalid,
        };
        let read = Self {
            node_selector: reader.read(
                NODE_SELECTOR,
                "a label selector such as pool=web,zone in (a,b)",
            ),
            max_nodes: reader.read(MAX_NODES, "a number such as 50 or a share such as 30%"),
            after_ready: reader.read(AFTER_READY, "a number such as 1 or a share such as 25%"),
            refresh: reader.read(REFRESH, "a duration of at least 1m, such as 5m or 1h30m"),
            images: reader.read(IMAGES, "image references, separated by commas"),
            hold_timeout: reader.read(HOLD_TIMEOUT, "a duration such as 90s, 5m or 1h30m"),
            hold_until: reader.read(HOLD_UNTIL, "a share from 1% to 100%, such as 90%"),
            invalid: Vec::new(),
        };
        Self { invalid, ..read }
    }

    /// Returns their size in memory beyond themselves.
    pub(crate) fn bytes(&self) -> usize {
        let invalid = |invalid: &InvalidAnnotation| {
            // The list grows in steps.
            2 * size_of::<InvalidAnnotation>() + invalid.value.len() + invalid.why.len()
        };
        let selector = self.node_selector.as_ref().map_or(0, Selector::bytes);
        selector + self.invalid.iter().map(invalid).sum::<usize>()
    }

    /// Returns the first invalid annotation that stops the prefetch.
    pub fn first_blocking(&self) -> Option<&InvalidAnnotation> {
        self.invalid
            .iter()
            .find(|invalid| invalid.blocks_prefetch())
    }
}

struct AnnotationReader<'a> {
    annotations: Option<&'a BTreeMap<String, String>>,
    invalid: &'a mut Vec<InvalidAnnotation>,
}

impl AnnotationReader<'_> {
    fn read<T: FromStr<Err: fmt::Display>>(
        &mut self,
        annotation: &'static str,
        form: &'static str,
    ) -> Option<T> {
        let value = self.annotations?.get(annotation)?;
        let longest = longest_value(annotation);
        let why = if value.len() > longest {
            format!("it has more than {longest} bytes")
        } else {
            match value.parse() {
                Ok(parsed) => return Some(parsed),
                Err(error) => printed(error, SHOWN_BYTES),
            }
        };
        self.invalid.push(InvalidAnnotation {
            annotation,
            value: value.chars().take(SHOWN_VALUE).collect(),
            why,
            form,
        });
        None
    }
}
