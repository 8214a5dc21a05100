//! Nodes, and what they say of their images.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;

use super::Cluster;
use super::table::{Change, Scope};
use headstart_core::image::Image;
use headstart_core::scheduling::node::NodeInfo;
use headstart_core::workload::Workload;

/// A node.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What placement reads.
    pub candidate: Arc<NodeInfo>,
    /// Tells it from a namesake that comes after it.
    pub uid: Arc<str>,
    /// When it joined.
    pub created: Option<Timestamp>,
    /// Hashes of the names of images it reports, in order: names themselves would take 20 KB per node. That two
    /// names share one is less likely than that the report is out of date.
    /// Empty where what nodes say is not to be believed.
    images: Arc<[u64]>,
}

impl Machine {
    /// Whether the node says that it has all images, and may be believed. Not where the registry is asked each time;
    /// and not where the Deployment brings credentials: the kubelet would ask for proof of them (KEP-2535), which
    /// only a pull by this Deployment leaves.
    pub fn has_all(&self, workload: &Workload) -> bool {
        let images = &workload.images;
        workload.image_pull_secrets.is_empty()
            && images
                .iter()
                .all(|image| !image.always && self.reports(image))
    }

    /// A node of this name, with nothing on it.
    #[cfg(test)]
    pub(crate) fn named(name: &str) -> Self {
        let named = serde_json::json!({"metadata": {"name": name}});
        Self {
            candidate: Arc::new(headstart_core::testing::node_info(&named)),
            uid: name.into(),
            created: None,
            images: Arc::default(),
        }
    }

    pub(super) fn reports(&self, image: &Image) -> bool {
        let hash = name_hash(&image.reference.to_string());
        self.images.binary_search(&hash).is_ok()
    }
}

impl Cluster {
    pub(super) fn on_node(&self, scope: &Scope, change: Change<Node>) {
        let mut state = self.lock();
        match change {
            Change::Begin => state.nodes.begin_list(scope),
            Change::Put(node) => {
                let Some(candidate) = NodeInfo::from_node(&node) else {
                    return;
                };
                let name = state.node_name(&candidate.name);
                let images = if self.node_images {
                    reported_images(&node)
                } else {
                    Arc::default()
                };
                let before = state.nodes.current.get(&name);
                let uid = node.metadata.uid.as_deref().unwrap_or_default();
                let same = before.is_some_and(|b| *b.candidate == candidate && *b.uid == *uid);
                let machine = Machine {
                    // Most events are heartbeats: what did not change stays where it is.
                    candidate: match before {
                        Some(before) if same => before.candidate.clone(),
                        _ => Arc::new(candidate),
                    },
                    uid: match before {
                        Some(before) if same => before.uid.clone(),
                        _ => uid.into(),
                    },
                    created: node.metadata.creation_timestamp.as_ref().map(|time| time.0),
                    images,
                };
                state.nodes.put(scope, name.clone(), machine);
                if !same {
                    self.machines.push(name);
                }
            }
            Change::Remove(node) => {
                let name: Arc<str> = node.metadata.name.unwrap_or_default().into();
                state.nodes.remove(&name);
                self.machines.push(name);
            }
            Change::End => {
                for (name, _) in state.nodes.end_list(scope, |_| true) {
                    self.machines.push(name);
                }
            }
        }
    }
}

fn reported_images(node: &Node) -> Arc<[u64]> {
    let status = node.status.as_ref();
    let images = status.and_then(|status| status.images.as_deref());
    let names = images
        .unwrap_or_default()
        .iter()
        .flat_map(|image| image.names.iter().flatten());
    let mut hashes: Vec<u64> = names.map(|name| name_hash(name)).collect();
    hashes.sort_unstable();
    hashes.into()
}

fn name_hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
