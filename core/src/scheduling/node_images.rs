//! The images that a node reports, with their sizes.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::NodeStatus;

use crate::image::Image;

const MEBIBYTE: u64 = 1 << 20;
/// The bits of a reported image that hold its size: up to a tebibyte.
const SIZE_BITS: u32 = 20;
const MAX_SIZE: u64 = (1 << SIZE_BITS) - 1;

/// An amount of disk, in mebibytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mebibytes(pub(super) u64);

impl Mebibytes {
    /// Returns the whole mebibytes of a number of bytes.
    pub(super) fn within(bytes: u64) -> Self {
        Self(bytes / MEBIBYTE)
    }
}

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            gibibytes if gibibytes % 1024 == 0 && gibibytes > 0 => {
                write!(f, "{}Gi", gibibytes / 1024)
            }
            mebibytes => write!(f, "{mebibytes}Mi"),
        }
    }
}

/// The name of an image as nodes report it. Two names share a hash less often than a report is out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageHash(u64);

impl ImageHash {
    fn of_name(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish() & !MAX_SIZE)
    }

    pub(crate) fn of(image: &Image) -> Self {
        Self::of_name(&image.reference.to_string())
    }
}

/// The images that a node reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedImages {
    /// For each name its hash, with the size in the lowest bits, sorted: the names themselves would take 20 KB for each node.
    entries: Arc<[u64]>,
    /// The sum of the sizes.
    total: Mebibytes,
}

impl ReportedImages {
    pub(super) fn read(status: Option<&NodeStatus>) -> Self {
        let images = status.and_then(|status| status.images.as_deref());
        let (mut entries, mut bytes) = (Vec::new(), 0_u64);
        for image in images.unwrap_or_default() {
            let size = image.size_bytes.and_then(|bytes| u64::try_from(bytes).ok());
            let size = size.unwrap_or(0);
            bytes = bytes.saturating_add(size);
            let size = size.div_ceil(MEBIBYTE).min(MAX_SIZE);
            let names = image.names.iter().flatten();
            entries.extend(names.map(|name| ImageHash::of_name(name).0 | size));
        }
        entries.sort_unstable();
        Self {
            entries: entries.into(),
            total: Mebibytes(bytes.div_ceil(MEBIBYTE)),
        }
    }

    /// Returns whether the node reports an image.
    pub(crate) fn contains(&self, image: ImageHash) -> bool {
        self.find(image).is_some()
    }

    fn find(&self, image: ImageHash) -> Option<u64> {
        let first = self.entries.partition_point(|entry| *entry < image.0);
        let entry = self.entries.get(first);
        entry.copied().filter(|entry| entry & !MAX_SIZE == image.0)
    }

    /// Returns the size of an image; `None` if the node does not report it, or without a size.
    pub(super) fn size_of(&self, image: ImageHash) -> Option<Mebibytes> {
        let size = self.find(image)? & MAX_SIZE;
        (size > 0).then_some(Mebibytes(size))
    }

    /// Returns at most how much of the node's storage is free, if its images are on it: pods use it too. `None` if they are
    /// certainly on another filesystem.
    pub(super) fn free_of(&self, storage: u64) -> Option<Mebibytes> {
        let free = Mebibytes::within(storage).0.checked_sub(self.total.0)?;
        Some(Mebibytes(free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reported(images: serde_json::Value) -> ReportedImages {
        let status = serde_json::from_value(json!({ "images": images })).unwrap();
        ReportedImages::read(Some(&status))
    }

    fn hash(name: &str) -> ImageHash {
        ImageHash::of_name(name)
    }

    #[test]
    fn each_name_of_an_image_has_its_size_and_the_sum_counts_it_once() {
        let images = reported(json!([
            {"names": ["a@sha256:1", "a:1", "a:2"], "sizeBytes": 3 << 20},
            {"names": ["b:1"], "sizeBytes": (5 << 20) + 1},
            {"names": ["c:1"]},
            {"sizeBytes": 7 << 20},
            {"names": ["wrong:1"], "sizeBytes": -1},
            {"names": ["huge:1"], "sizeBytes": 1_u64 << 42},
        ]));
        for (name, size) in [
            ("a:1", Some(3)),
            ("a:2", Some(3)),
            ("a@sha256:1", Some(3)),
            ("b:1", Some(6)),
            ("c:1", None),
            ("wrong:1", None),
            ("huge:1", Some(MAX_SIZE)),
        ] {
            assert!(images.contains(hash(name)), "{name}");
            assert_eq!(images.size_of(hash(name)), size.map(Mebibytes), "{name}");
        }
        assert!(!images.contains(hash("a:3")));
        let huge = 1 << 22;
        assert_eq!(images.total, Mebibytes(3 + 6 + 7 + huge));
        assert_eq!(ReportedImages::read(None), ReportedImages::default());
    }

    #[test]
    fn no_more_is_free_than_the_images_leave() {
        let images = reported(json!([{"names": ["a:1"], "sizeBytes": 10_u64 << 30}]));
        assert_eq!(images.free_of(30 << 30), Some(Mebibytes(20 << 10)));
        assert_eq!(images.free_of(9 << 30), None, "they are elsewhere");
    }

    #[test]
    fn sizes_are_printed_as_kubernetes_writes_them() {
        for (size, text) in [(0, "0Mi"), (1, "1Mi"), (1024, "1Gi"), (1536, "1536Mi")] {
            assert_eq!(Mebibytes(size).to_string(), text);
        }
    }
}
