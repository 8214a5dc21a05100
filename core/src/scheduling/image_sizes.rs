//! The sizes of a Deployment's images, as nodes report them, and the nodes that have no room for them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::node::NodeInfo;
use super::node_images::{ImageHash, Mebibytes};
use super::quantity;
use crate::image::Image;
use crate::limits::{SHOWN_BYTES, shown};

#[cfg(test)]
mod tests;

/// The size beyond which an image is not prefetched; `None` if sizes are not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxImageSize(Option<Mebibytes>);

/// Not a size.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no size; want one of at least 1Mi such as 10Gi, or none")]
pub struct InvalidSize(String);

impl FromStr for MaxImageSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        if ["0", "none"].contains(&text) {
            return Ok(Self(None));
        }
        let bytes = quantity::parse_integer(text);
        let size = bytes
            .map(Mebibytes::within)
            .filter(|size| *size > Mebibytes(0));
        let size = size.ok_or_else(|| InvalidSize(shown(text, SHOWN_BYTES).into_owned()))?;
        Ok(Self(Some(size)))
    }
}

impl fmt::Display for MaxImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(size) => size.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// An image of a Deployment, with its size as far as nodes have reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SizedImage {
    hash: ImageHash,
    as_written: Arc<str>,
    /// The smallest size that a node reports: no single node can stop what the others can do.
    size: Option<Mebibytes>,
}

/// The sizes of a Deployment's images. Empty where sizes are not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSizes {
    images: Vec<SizedImage>,
    limit: Mebibytes,
}

/// An image that is larger than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge<'a> {
    /// The image as the template writes it.
    pub image: &'a str,
    size: Mebibytes,
    limit: Mebibytes,
}

/// The reason why the images that a node lacks are not pulled there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom<'a> {
    /// An image is larger than the limit.
    ImageTooLarge(TooLarge<'a>),
    /// They take more than the disk can have left.
    InsufficientDisk {
        /// Their sizes, as far as they are known.
        wanted: Mebibytes,
        /// The storage of the node without the images that it reports. Pods use it too, so at most that is free.
        free: Mebibytes,
    },
}

impl ImageSizes {
    /// Returns the sizes that these nodes report.
    pub fn of<'a>(
        images: &[Image],
        nodes: impl IntoIterator<Item = &'a NodeInfo>,
        max: MaxImageSize,
    ) -> Self {
        let Some(limit) = max.0 else {
            return Self::default();
        };
        let images = images.iter().map(|image| SizedImage {
            hash: ImageHash::of(image),
            as_written: image.as_written.clone(),
            size: None,
        });
        let mut sizes = Self {
            images: images.collect(),
            limit,
        };
        for node in nodes {
            sizes.learn(node);
        }
        sizes
    }

    /// Takes over the sizes that a node reports. Returns whether one has changed.
    pub(crate) fn learn(&mut self, node: &NodeInfo) -> bool {
        let mut changed = false;
        for image in &mut self.images {
            let reported = node.images.size_of(image.hash);
            let smaller = reported.filter(|size| image.size.is_none_or(|known| *size < known));
            if smaller.is_some() {
                image.size = smaller;
                changed = true;
            }
        }
        changed
    }

    /// Returns the first image that is known to be too large.
    pub fn too_large(&self) -> Option<TooLarge<'_>> {
        let mut images = self.images.iter();
        images.find_map(|image| self.excess(image))
    }

    fn excess<'a>(&self, image: &'a SizedImage) -> Option<TooLarge<'a>> {
        let limit = self.limit;
        let size = image.size.filter(|size| *size > limit)?;
        let image = &*image.as_written;
        Some(TooLarge { image, size, limit })
    }

    /// Returns why the images that a node lacks are not pulled there.
    pub(crate) fn filter<'a>(&'a self, node: &NodeInfo) -> Option<NoRoom<'a>> {
        let mut wanted = 0;
        for image in &self.images {
            if node.images.contains(image.hash) {
                continue;
            }
            if let Some(too_large) = self.excess(image) {
                return Some(NoRoom::ImageTooLarge(too_large));
            }
            wanted += image.size.unwrap_or_default().0;
        }
        let storage = node.allocatable.as_ref()?.ephemeral_storage();
        let free = node.images.free_of(storage.filter(|_| wanted > 0)?)?;
        let wanted = Mebibytes(wanted);
        (wanted > free).then_some(NoRoom::InsufficientDisk { wanted, free })
    }
}

impl fmt::Display for TooLarge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, size, limit } = self;
        let image = shown(image, SHOWN_BYTES);
        write!(
            f,
            "image {image:?} takes {size}, and --max-image-size allows {limit}"
        )
    }
}

impl fmt::Display for NoRoom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ImageTooLarge(too_large) => too_large.fmt(f),
            Self::InsufficientDisk { wanted, free } => {
                write!(
                    f,
                    "the images take {wanted}, the node has at most {free} of disk left"
                )
            }
        }
    }
}
