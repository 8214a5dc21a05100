//! The truth about images on nodes: when each was there. headstart never reads it; the invariants do.

use std::collections::BTreeMap;

/// When images were on nodes, by the UID of the node.
#[derive(Debug, Default)]
pub(crate) struct NodeImages {
    by_node: BTreeMap<String, BTreeMap<String, Vec<Presence>>>,
}

#[derive(Clone, Copy, Debug)]
struct Presence {
    to: Option<u64>,
}

impl NodeImages {
    /// Records that an image has come to a node.
    pub(crate) fn add(&mut self, node_uid: &str, image: &str) {
        let images = self.by_node.entry(node_uid.to_owned()).or_default();
        let times = images.entry(image.to_owned()).or_default();
        if times.last().is_none_or(|last| last.to.is_some()) {
            times.push(Presence { to: None });
        }
    }

    /// Records that an image was removed from a node.
    pub(crate) fn remove(&mut self, node_uid: &str, image: &str, now: u64) {
        let images = self.by_node.get_mut(node_uid);
        let last = images.and_then(|images| images.get_mut(image)?.last_mut());
        if let Some(last) = last
            && last.to.is_none()
        {
            last.to = Some(now);
        }
    }

    /// Returns whether an image is on a node.
    pub(crate) fn has(&self, node_uid: &str, image: &str) -> bool {
        self.had(node_uid, image, u64::MAX)
    }

    /// Returns whether an image is on a node, or was at some time since then.
    pub(crate) fn had(&self, node_uid: &str, image: &str, since: u64) -> bool {
        let images = self.by_node.get(node_uid);
        let times = images.and_then(|images| images.get(image));
        let was = |presence: &Presence| presence.to.is_none_or(|to| to >= since);
        times.is_some_and(|times| times.iter().any(was))
    }

    /// Returns how many nodes, also of those that are gone, had all these images at some time since then.
    pub(crate) fn nodes_that_had<'a>(
        &self,
        images: impl Iterator<Item = &'a str> + Clone,
        since: u64,
    ) -> usize {
        let nodes = self.by_node.keys();
        let had_all = |node: &&String| images.clone().all(|image| self.had(node, image, since));
        nodes.filter(had_all).count()
    }

    /// Returns the images that are on a node.
    pub(crate) fn on_node<'a>(&'a self, node_uid: &str) -> impl Iterator<Item = &'a str> {
        let images = self.by_node.get(node_uid).into_iter().flatten();
        images.filter_map(|(image, times)| {
            let last = times.last()?;
            last.to.is_none().then_some(image.as_str())
        })
    }
}
