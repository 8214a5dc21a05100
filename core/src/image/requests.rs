//! The images of a pod template, each once.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::PodSpec;
use sha2::{Digest, Sha256};

use super::declared::{Image, UnsupportedImage, UnsupportedReason};
use super::reference::ImageRef;
use super::set::ImageSetId;
use crate::hash::hex;
use crate::limits::{ITEMS, MAX_IMAGES, MAX_UNSUPPORTED, SHOWN_BYTES, shown};

/// The name that a template has in place of an image that a sidecar injector fills in (Istio's gateways). It is
/// replaced in the pods, and no registry has it.
const INJECTED: &str = "auto";

/// An image as a template asks for it.
#[derive(Clone, Debug, Default)]
pub struct ImageRequest<'a> {
    /// The reference; empty where there is none. Of one that is too long, the beginning will do.
    pub image: Cow<'a, str>,
    /// The pull policy, which says when the kubelet asks the registry.
    pub pull_policy: Option<&'a str>,
}

impl<'a> ImageRequest<'a> {
    /// An image with its pull policy, as a container has them.
    pub fn new(image: Option<&'a str>, pull_policy: Option<&'a str>) -> Self {
        Self {
            image: image.unwrap_or_default().into(),
            pull_policy,
        }
    }
}

/// Init containers' images first, as a pod pulls them, then containers', then those of image volumes.
pub(crate) fn images_in(pod: &PodSpec) -> impl Iterator<Item = ImageRequest<'_>> {
    let containers = pod.init_containers.iter().flatten().chain(&pod.containers);
    let of_containers =
        containers.map(|c| ImageRequest::new(c.image.as_deref(), c.image_pull_policy.as_deref()));
    let volumes = pod.volumes.iter().flatten();
    let of_volumes = volumes.filter_map(|volume| {
        let image = volume.image.as_ref()?;
        Some(ImageRequest::new(
            image.reference.as_deref(),
            image.pull_policy.as_deref(),
        ))
    });
    of_containers.chain(of_volumes)
}

/// The images of a template, as far as they are read.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// Each unique one once.
    pub(crate) images: Vec<Image>,
    /// The first of those that cannot be prefetched.
    pub(crate) unsupported: Vec<UnsupportedImage>,
    /// The number of these that are not kept.
    pub(crate) more_unsupported: usize,
    /// The number of containers and volumes that were looked at.
    items: usize,
    /// Hashes of the references that were read: templates repeat themselves.
    seen: BTreeSet<u64>,
    /// A hash over the references that are not kept whole: another image there is another set, too.
    rest: Option<Sha256>,
}

/// Each image once: those asked for, and `more`.
pub(crate) fn images_of<'a>(
    asked: impl Iterator<Item = ImageRequest<'a>>,
    more: &[String],
) -> Images {
    let mut read = Images::default();
    for ImageRequest { image, pull_policy } in asked {
        read.items += 1;
        // A template may leave an image empty for another controller to fill in; with Never it says that the image is not
        // to be pulled.
        if !image.is_empty() && image != INJECTED && pull_policy != Some("Never") {
            read.add(&image, pull_policy == Some("Always"));
        }
    }
    // Its own limit bounds the annotation's.
    read.items = 0;
    for image in more {
        read.add(image, false);
    }
    read.images.shrink_to_fit();
    read
}

impl Images {
    fn add(&mut self, given: &str, always: bool) {
        let mut hash = DefaultHasher::new();
        (given, always).hash(&mut hash);
        if self.seen.contains(&hash.finish()) {
            return;
        }
        if self.items > ITEMS {
            self.add_unsupported(given, UnsupportedReason::Unread);
            return;
        }
        self.seen.insert(hash.finish());
        let reference = match given.parse::<ImageRef>() {
            Ok(reference) => reference,
            Err(error) => return self.add_unsupported(given, error.into()),
        };
        let known = self.images.iter_mut().find(|i| i.reference == reference);
        if let Some(known) = known {
            known.always |= always;
        } else if self.images.len() < MAX_IMAGES {
            let text = reference.text();
            let given = if **text == *given {
                text.clone()
            } else {
                given.into()
            };
            self.images.push(Image {
                reference,
                as_written: given,
                always,
            });
        } else {
            self.add_unsupported(given, UnsupportedReason::TooMany);
        }
    }

    fn add_unsupported(&mut self, given: &str, reason: UnsupportedReason) {
        let known = |known: &UnsupportedImage| known.as_written == given;
        if self.unsupported.iter().any(known) {
            return;
        }
        let kept = self.unsupported.len() < MAX_UNSUPPORTED;
        if !kept || given.len() > SHOWN_BYTES {
            let rest = self.rest.get_or_insert_default();
            rest.update(given.as_bytes());
            rest.update([0]);
        }
        if kept {
            self.unsupported.push(UnsupportedImage {
                as_written: shown(given, SHOWN_BYTES).into_owned(),
                reason,
            });
        } else {
            self.more_unsupported += 1;
        }
    }

    /// Returns the identity of all images together.
    pub(crate) fn image_set(&self) -> ImageSetId {
        let rest = self.rest.clone().map(|rest| hex(&rest.finalize()));
        ImageSetId::of(&self.images, &self.unsupported, rest.as_deref())
    }
}
