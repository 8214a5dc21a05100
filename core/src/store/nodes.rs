//! Nodes, and the images that they report.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;

use super::cache::{Cache, Scope, Update};
use super::change::{Change, NodeName};
use crate::image::Image;
use crate::scheduling::node::NodeInfo;
use crate::scheduling::node_images::ImageHash;
use crate::workload::Workload;

/// All nodes, as they were at one moment.
pub type NodeSnapshot = Arc<BTreeMap<NodeName, Arc<NodeRecord>>>;

/// A node.
#[derive(Clone, Debug)]
pub struct NodeRecord {
    /// The fields that placement reads.
    pub info: Arc<NodeInfo>,
    /// The UID, which differs from that of a later node by the same name.
    pub uid: Arc<str>,
    /// The time at which the node joined.
    pub created: Option<Timestamp>,
    /// The images that the node reports are taken to be there.
    trusts_images: bool,
}

impl NodeRecord {
    /// Reads a node; `None` if it has no name. `node_images` says that what nodes report is trusted.
    pub fn from_node(node: &Node, node_images: bool) -> Option<Self> {
        Some(Self {
            info: Arc::new(NodeInfo::from_node(node)?),
            uid: node.metadata.uid.as_deref().unwrap_or_default().into(),
            created: node.metadata.creation_timestamp.as_ref().map(|time| time.0),
            trusts_images: node_images,
        })
    }

    /// Returns the name of the node.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Returns whether the node reports all images, where its report counts. It does not count for an image that is pulled
    /// each time, nor for a Deployment with pull secrets: the kubelet asks for proof of them (KEP-2535), which only a
    /// pull by this Deployment leaves.
    pub fn reports_all_images(&self, workload: &Workload) -> bool {
        let images = &workload.images;
        workload.terms.image_pull_secrets.is_empty()
            && images
                .iter()
                .all(|image| !image.always && self.reports_image(image))
    }

    pub(super) fn reports_image(&self, image: &Image) -> bool {
        self.trusts_images && self.info.images.contains(ImageHash::of(image))
    }
}

/// All nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes(Cache<NodeName, Arc<NodeRecord>>);

impl Nodes {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<NodeRecord>> {
        self.0.current().get(name)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<NodeRecord>> {
        self.0.current().values()
    }

    pub(super) fn snapshot(&self) -> NodeSnapshot {
        self.0.snapshot()
    }

    /// Returns the name of a node, shared with the node if that is known.
    pub(super) fn intern_name(&self, name: NodeName) -> NodeName {
        let known = self.0.current().get_key_value(&name);
        known.map_or(name, |(known, _)| known.clone())
    }

    /// Applies an update.
    pub(super) fn apply(
        &mut self,
        scope: &Scope,
        update: Update<NodeName, NodeRecord>,
    ) -> Vec<Change> {
        match update {
            Update::ListStarted => {
                self.0.begin_relist(scope);
                Vec::new()
            }
            Update::Applied(name, mut record) => {
                let before = self.0.current().get_key_value(&name);
                let name = before.map_or(name, |(known, _)| known.clone());
                let before = before.filter(|(_, before)| before.uid == record.uid);
                let change = match before {
                    Some((_, before)) if before.info == record.info => {
                        // Most updates are heartbeats: what did not change keeps its place in memory.
                        record.info = before.info.clone();
                        record.uid = before.uid.clone();
                        None
                    }
                    Some((_, before)) if before.info.differs_in_images(&record.info) => {
                        Some(Change::NodeImages(name.clone()))
                    }
                    _ => Some(Change::Node(name.clone())),
                };
                self.0.upsert(scope, name, Arc::new(record));
                change.into_iter().collect()
            }
            Update::Deleted(name) => {
                self.0.remove(&name);
                vec![Change::Node(name)]
            }
            Update::ListFinished => {
                let gone = self.0.finish_relist(scope, |_| true);
                gone.into_iter()
                    .map(|(name, _)| Change::Node(name))
                    .collect()
            }
        }
    }
}
