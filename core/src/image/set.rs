//! The images of a Deployment as one value to compare.

use std::fmt;

use super::declared::{Image, UnsupportedImage};
use crate::hash::short_hash;

/// Identifies a set of images in any order. Two templates with the same images have the same set, and between them
/// nothing needs to be pulled.
/// Prefetch pods of other versions carry the value too, so it stays the same for the same images from version to version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageSetId(String);

impl ImageSetId {
    /// `rest` stands for the images that are not among them.
    pub(crate) fn of(
        images: &[Image],
        unsupported: &[UnsupportedImage],
        rest: Option<&str>,
    ) -> Self {
        let mut lines: Vec<&str> = images
            .iter()
            .map(|image| &**image.reference.text())
            .chain(unsupported.iter().map(|image| image.as_written.as_str()))
            .collect();
        lines.sort_unstable();
        Self(short_hash(lines.into_iter().chain(rest)))
    }
}

impl ImageSetId {
    /// Returns the length of the text, in bytes.
    pub(crate) fn text_len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for ImageSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ImageSetId {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}
