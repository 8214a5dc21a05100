//! Decides where the pods of a template could be scheduled now: the scheduler's filters, not its scores.
//!
//! `nodeName`, `nodeSelector`, required node affinity, taints, cordon and the resources of an empty node are judged as the
//! scheduler does. On top, a node must be one that can pull: Ready, a real machine, of our operating system, not short of
//! anything.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use super::affinity::RequiredAffinity;
use super::filter_options::{FilterOptions, IgnoredResources};
use super::node::{NodeInfo, OWN_OS, UnusableReason};
use super::resources::Resources;
use super::skip_reason::SkipReason;
use super::startup_taints::StartupTaints;
use super::tolerations::{Effect, Taint, first_untolerated, is_default_eviction_toleration};

#[cfg(test)]
mod tests;

/// The taint that a cordon stands for, in the scheduler's eyes.
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// The constraints of a pod template on nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchedulingConstraints {
    /// `spec.nodeName`: this node and no other.
    pub node_name: Option<String>,
    /// `spec.nodeSelector`: labels the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// `spec.affinity`: the required part of node affinity.
    pub affinity: Option<RequiredAffinity>,
    /// `spec.tolerations`.
    pub tolerations: Vec<Toleration>,
    /// `spec.os.name`.
    pub os: Option<String>,
    /// The resources that one pod requests.
    pub requests: Resources,
}

impl SchedulingConstraints {
    /// Reads a pod template.
    pub fn from_pod_spec(spec: &PodSpec) -> Self {
        let named = |name: &String| Some(name.clone()).filter(|name| !name.is_empty());
        Self {
            node_name: spec.node_name.as_ref().and_then(named),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            affinity: RequiredAffinity::read(spec.affinity.as_ref()),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            os: spec.os.as_ref().and_then(|os| named(&os.name)),
            requests: Resources::requested(spec),
        }
    }

    /// Returns its size in memory beyond itself, at most.
    pub(crate) fn bytes(&self) -> usize {
        // A map's pieces have room for eleven entries each, and are at least half full but for the first.
        const FIRST: usize = 600;
        const ENTRY: usize = 110;
        let labels = self.node_selector.iter();
        let labels: usize = labels.map(|(k, v)| ENTRY + k.len() + v.len()).sum();
        let tolerations = self.tolerations.iter().map(|toleration| {
            let Toleration {
                effect,
                key,
                operator,
                toleration_seconds: _,
                value,
            } = toleration;
            let texts = [effect, key, operator, value].into_iter().flatten();
            size_of::<Toleration>() + texts.map(String::len).sum::<usize>()
        });
        let names = [&self.node_name, &self.os].into_iter().flatten();
        let affinity = self.affinity.as_ref();
        names.map(String::len).sum::<usize>()
            + if labels > 0 { FIRST + labels } else { 0 }
            + affinity.map_or(0, RequiredAffinity::bytes)
            + tolerations.sum::<usize>()
            + self.requests.bytes()
    }

    /// Returns the reason why pods of the template would not be scheduled on a node now; `None` if they would.
    pub fn filter<'a>(&'a self, node: &'a NodeInfo) -> Option<SkipReason<'a>> {
        self.filter_with(node, &FilterOptions::default())
    }

    /// Returns the reason why pods of the template would not be scheduled on a node, except for what the options look through;
    /// `None` if they would.
    pub fn filter_with<'a>(
        &'a self,
        node: &'a NodeInfo,
        options: &FilterOptions,
    ) -> Option<SkipReason<'a>> {
        self.other_node(node)
            .or_else(|| self.other_system(node))
            .or_else(|| self.node_affinity_mismatch(node))
            .or_else(|| node.unusable.map(SkipReason::Unusable))
            .or_else(|| self.taint_mismatch(node, &options.startup_taints))
            .or_else(|| self.insufficient_resources(node, &options.ignored_resources))
    }

    fn other_node<'a>(&'a self, node: &'a NodeInfo) -> Option<SkipReason<'a>> {
        let wanted = self.node_name.as_deref()?;
        (wanted != node.name).then_some(SkipReason::OtherNode(wanted))
    }

    fn other_system<'a>(&'a self, node: &'a NodeInfo) -> Option<SkipReason<'a>> {
        if let Some(os) = &node.non_linux_os {
            return Some(SkipReason::OperatingSystem(os));
        }
        let os = self.os.as_deref().filter(|os| *os != OWN_OS)?;
        Some(SkipReason::TemplateOperatingSystem(os))
    }

    /// Returns the reason why a node does not match `nodeSelector` and required node affinity, as the scheduler's
    /// NodeAffinity plugin sees it.
    pub fn node_affinity_mismatch<'a>(&'a self, node: &'a NodeInfo) -> Option<SkipReason<'a>> {
        for (key, wanted) in &self.node_selector {
            let found = node.labels.get(key);
            if found != Some(wanted.as_str()) {
                return Some(SkipReason::Label { key, wanted, found });
            }
        }
        let affinity = self.affinity.as_ref()?;
        (!affinity.matches(&node.name, &node.labels))
            .then_some(SkipReason::Affinity(affinity, &node.labels))
    }

    /// Returns the resource of which a node has too little even when it is empty. With a node's name there is no scheduling.
    fn insufficient_resources<'a>(
        &'a self,
        node: &'a NodeInfo,
        ignored: &IgnoredResources,
    ) -> Option<SkipReason<'a>> {
        let allocatable = node.allocatable.as_ref()?;
        if self.node_name.is_some() {
            return None;
        }
        let mut insufficient = self.requests.insufficient(allocatable, ignored);
        insufficient.next().map(SkipReason::InsufficientResources)
    }

    /// Returns the reason why the taints of a node keep the template's pods away.
    fn taint_mismatch<'a>(
        &'a self,
        node: &'a NodeInfo,
        startup_taints: &StartupTaints,
    ) -> Option<SkipReason<'a>> {
        // With a node's name there is no scheduling: only taints for which the kubelet itself refuses a pod count.
        let scheduled = self.node_name.is_none();
        let counts = |taint: &&Taint| {
            (scheduled || taint.effect() == Effect::NoExecute) && !startup_taints.contains(taint)
        };
        if scheduled && node.cordoned {
            let cordon = Taint::new(UNSCHEDULABLE_TAINT, Effect::NoSchedule);
            if first_untolerated(&[cordon], &self.tolerations).is_some() {
                return Some(SkipReason::Cordoned);
            }
        }
        // A cordoned node carries the taint as well; the sentence above says it better.
        node.taints.iter().filter(counts).find_map(|taint| {
            let tolerated_by = |toleration: &&Toleration| taint.is_tolerated_by(toleration);
            let mut tolerating = self.tolerations.iter().filter(tolerated_by).peekable();
            if tolerating.peek().is_none() {
                return Some(SkipReason::UntoleratedTaint(taint));
            }
            let down =
                taint.is_of_a_node_that_is_down() && tolerating.all(is_default_eviction_toleration);
            down.then_some(SkipReason::Unusable(UnusableReason::NotReady))
        })
    }
}
