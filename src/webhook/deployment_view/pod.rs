//! The pod template of a Deployment in a review.

use crate::webhook::json::{Invalid, Json, each};
use crate::webhook::names::{MAX_NAME, name};
use headstart_core::image::ImageRequest;
use headstart_core::limits::{IMAGE_BYTES, KEPT_BYTES};
use headstart_core::scheduling::affinity;
use headstart_core::workload::TooLarge;

/// The number of elements of a list that are parsed while the list is skipped. Pods have fewer, so their lists are read once.
const FIRST: usize = 64;

/// A pod template's spec.
#[derive(Default)]
pub(super) struct Pod<'a> {
    init_containers: Option<Items<'a, ImageRequest<'a>>>,
    containers: Option<Items<'a, ImageRequest<'a>>>,
    volumes: Option<Items<'a, Option<ImageRequest<'a>>>>,
    constraints: ConstraintsAndCredentials<'a>,
}

/// A list: its first elements, and if there are more, all of it as it was written.
struct Items<'a, T> {
    first: Vec<Result<T, Invalid>>,
    written: Option<&'a [u8]>,
}

/// Reads an element.
type Read<'a, T> = fn(&mut Json<'a>) -> Result<T, Invalid>;

impl<'a, T: Clone> Items<'a, T> {
    fn read(json: &mut Json<'a>, read: Read<'a, T>) -> Result<Self, Invalid> {
        let mut first = Vec::new();
        let mut more = false;
        let written = json.list(|json| {
            if first.len() < FIRST {
                first.push(json.attempt(read)?);
            } else {
                more = true;
                json.skip()?;
            }
            Ok(())
        })?;
        Ok(Self {
            first,
            written: more.then_some(written),
        })
    }

    /// Returns all elements. Those after the first ones are read with `read`.
    fn all(&self, read: Read<'a, T>) -> impl Iterator<Item = Result<T, Invalid>> {
        let written = self.written.into_iter();
        let rest = written.flat_map(move |list| each(list, read).skip(FIRST));
        self.first.iter().cloned().chain(rest)
    }
}

/// The constraints and credentials of pods: only compared and measured.
#[derive(Default, PartialEq, Eq)]
struct ConstraintsAndCredentials<'a> {
    node_name: Option<&'a [u8]>,
    node_selector: Option<&'a [u8]>,
    affinity: Option<&'a [u8]>,
    tolerations: Option<&'a [u8]>,
    image_pull_secrets: Option<&'a [u8]>,
    service_account_name: Option<&'a [u8]>,
    runtime_class_name: Option<&'a [u8]>,
}

impl<'a> Pod<'a> {
    pub(super) fn read(json: &mut Json<'a>) -> Result<Self, Invalid> {
        let mut pod = Self::default();
        json.object(|key, json| {
            let part = match &*key.up_to(MAX_NAME) {
                "initContainers" => {
                    pod.init_containers = json.optional(|json| Items::read(json, container))?;
                    return Ok(());
                }
                "containers" => {
                    pod.containers = json.optional(|json| Items::read(json, container))?;
                    return Ok(());
                }
                "volumes" => {
                    pod.volumes = json.optional(|json| Items::read(json, mounted))?;
                    return Ok(());
                }
                "nodeName" => &mut pod.constraints.node_name,
                "nodeSelector" => &mut pod.constraints.node_selector,
                "affinity" => &mut pod.constraints.affinity,
                "tolerations" => &mut pod.constraints.tolerations,
                "imagePullSecrets" => &mut pod.constraints.image_pull_secrets,
                "serviceAccountName" => &mut pod.constraints.service_account_name,
                "runtimeClassName" => &mut pod.constraints.runtime_class_name,
                _ => {
                    json.skip()?;
                    return Ok(());
                }
            };
            *part = json.optional(Json::skip)?;
            Ok(())
        })?;
        Ok(pod)
    }

    /// Returns its images, in the order in which a pod pulls them.
    pub(super) fn images(&self) -> impl Iterator<Item = ImageRequest<'a>> {
        let containers = [&self.init_containers, &self.containers].into_iter();
        let of_containers = containers
            .flatten()
            .flat_map(|items| items.all(container))
            .map(Result::unwrap_or_default);
        let volumes = self.volumes.iter().flat_map(|items| items.all(mounted));
        let of_volumes = volumes.filter_map(|mounted| mounted.ok().flatten());
        of_containers.chain(of_volumes)
    }

    /// Returns whether pods of both may land on the same nodes and pull with the same credentials.
    pub(super) fn same_constraints_and_credentials(&self, other: &Self) -> bool {
        self.constraints == other.constraints
    }

    /// Returns the part that is over its limit, as far as the text shows.
    pub(super) fn too_large(&self) -> Option<TooLarge> {
        self.constraints.too_large()
    }
}

impl ConstraintsAndCredentials<'_> {
    fn too_large(&self) -> Option<TooLarge> {
        let count = |list: Option<&[u8]>| list.map_or(0, |list| each(list, Json::skip).count());
        let counts = (count(self.tolerations), count(self.image_pull_secrets));
        if let Some(why) = TooLarge::of_counts(counts.0, counts.1) {
            return Some(why);
        }
        let all = [
            self.node_name,
            self.node_selector,
            self.affinity,
            self.tolerations,
            self.image_pull_secrets,
            self.service_account_name,
            self.runtime_class_name,
        ];
        let bytes: usize = all.into_iter().flatten().map(|part| part.len()).sum();
        if bytes > KEPT_BYTES {
            return Some(TooLarge::Whole);
        }
        has_large_affinity(self.affinity?).then_some(TooLarge::Affinity)
    }
}

/// Returns whether the required node affinity is over its limit. Only this part is evaluated for each node.
fn has_large_affinity(affinity: &[u8]) -> bool {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = ["nodeAffinity", required, "nodeSelectorTerms"];
    let terms = terms.into_iter().try_fold(affinity, field);
    let terms = items(terms);
    let lists = terms.iter().flat_map(|term| {
        let lists = ["matchExpressions", "matchFields"];
        lists.map(|list| items(field(term, list)))
    });
    let counts = lists.map(|conditions| {
        let values = conditions.iter().map(|c| items(field(c, "values")).len());
        (conditions.len(), values.max().unwrap_or_default())
    });
    affinity::is_beyond(terms.len(), counts)
}

/// Returns the elements of a list.
fn items(list: Option<&[u8]>) -> Vec<&[u8]> {
    let read = each(list.unwrap_or_default(), Json::skip);
    read.filter_map(Result::ok).collect()
}

/// Returns the value of a field of an object.
fn field<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut found = None;
    let read = Json::new(object).object(|key, json| {
        let value = json.optional(Json::skip)?;
        if key.up_to(MAX_NAME) == name {
            found = value;
        }
        Ok(())
    });
    read.ok().and(found)
}

/// Reads the image of a container or of a volume's source.
fn asked<'a>(json: &mut Json<'a>, image: &str, policy: &str) -> Result<ImageRequest<'a>, Invalid> {
    let mut asked = ImageRequest::default();
    json.object(|key, json| {
        let key = key.up_to(MAX_NAME);
        if key == image {
            let text = json.optional(|json| Ok(json.text()?.up_to(IMAGE_BYTES)))?;
            asked.image = text.unwrap_or_default();
        } else if key == policy {
            let policy = json.optional(name)?;
            asked.pull_policy = match policy.as_deref() {
                Some("Always") => Some("Always"),
                Some("Never") => Some("Never"),
                _ => None,
            };
        } else {
            json.skip()?;
        }
        Ok(())
    })?;
    Ok(asked)
}

/// Reads the image of a container.
fn container<'a>(json: &mut Json<'a>) -> Result<ImageRequest<'a>, Invalid> {
    asked(json, "image", "imagePullPolicy")
}

/// Reads the image of a volume, if it has one.
fn mounted<'a>(json: &mut Json<'a>) -> Result<Option<ImageRequest<'a>>, Invalid> {
    let mut mounted = None;
    json.object(|key, json| {
        if key.up_to(MAX_NAME) == "image" {
            mounted = json.optional(|json| asked(json, "reference", "pullPolicy"))?;
        } else {
            json.skip()?;
        }
        Ok(())
    })?;
    Ok(mounted)
}
