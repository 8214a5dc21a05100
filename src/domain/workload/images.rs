//! The images of a pod template, each once.

use k8s_openapi::api::core::v1::PodSpec;

use crate::domain::image::{ImageRef, InvalidImage};

/// The most images of one Deployment that are prefetched. One pod pulls them all, with a container for
/// each; a kubelet starts that many quickly, and no workload seen in the wild comes near it.
pub const MAX_IMAGES: usize = 64;

/// One image to have on the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The normalised reference: what makes two spellings the same image.
    pub reference: ImageRef,
    /// The spelling of the template. The prefetch uses this one, because the kubelet files its record of
    /// who may use a pulled image (KEP-2535) under the spelling that pulled it.
    pub given: String,
    /// Whether the registry is asked even where the image is present, as the rollout's pods would.
    pub always: bool,
}

/// One image of the template that cannot be prefetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the template says.
    pub given: String,
    /// Why it cannot.
    pub reason: Refusal,
}

/// Why an image of the template is not prefetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No runtime would take the reference.
    #[error("{0}")]
    Invalid(#[from] InvalidImage),
    /// There are more than headstart prefetches for one Deployment.
    #[error("only the first {MAX_IMAGES} images of a Deployment are prefetched")]
    TooMany,
}

/// An image as a template asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The reference; empty where there is none.
    pub(crate) image: &'a str,
    /// When the registry is asked.
    pub(crate) pull_policy: Option<&'a str>,
}

impl<'a> Asked<'a> {
    pub(crate) fn new(image: Option<&'a str>, pull_policy: Option<&'a str>) -> Self {
        Self {
            image: image.unwrap_or_default(),
            pull_policy,
        }
    }
}

/// Init containers' images first, as a pod pulls them, then containers', then those of image volumes.
pub(super) fn asked_by(pod: &PodSpec) -> impl Iterator<Item = Asked<'_>> {
    let containers = pod.init_containers.iter().flatten().chain(&pod.containers);
    let of_containers =
        containers.map(|c| Asked::new(c.image.as_deref(), c.image_pull_policy.as_deref()));
    let volumes = pod.volumes.iter().flatten();
    let of_volumes = volumes.filter_map(|volume| {
        let image = volume.image.as_ref()?;
        Some(Asked::new(
            image.reference.as_deref(),
            image.pull_policy.as_deref(),
        ))
    });
    of_containers.chain(of_volumes)
}

/// Each image once: those asked for, and `more`.
pub(super) fn images_of<'a>(
    asked: impl Iterator<Item = Asked<'a>>,
    more: &[String],
) -> (Vec<Image>, Vec<Refused>) {
    let more = more.iter().map(|image| (image.as_str(), None));
    let mut images: Vec<Image> = Vec::new();
    let mut refused: Vec<Refused> = Vec::new();
    let asked = asked.map(|Asked { image, pull_policy }| (image, pull_policy));
    for (given, policy) in asked.chain(more) {
        // A template may leave an image empty for another controller to fill in; with Never it says that
        // the image is not to be pulled.
        if given.is_empty() || policy == Some("Never") {
            continue;
        }
        let always = policy == Some("Always");
        let reason = match given.parse::<ImageRef>() {
            Ok(reference) => {
                if let Some(known) = images.iter_mut().find(|image| image.reference == reference) {
                    known.always |= always;
                    continue;
                }
                if images.len() < MAX_IMAGES {
                    images.push(Image {
                        reference,
                        given: given.to_owned(),
                        always,
                    });
                    continue;
                }
                Refusal::TooMany
            }
            Err(error) => Refusal::Invalid(error),
        };
        if refused.iter().all(|known| known.given != given) {
            refused.push(Refused {
                given: given.to_owned(),
                reason,
            });
        }
    }
    (images, refused)
}
