//! The pod that brings a Deployment's images to one node.
//!
//! It passes the `restricted` Pod Security level, runs nothing of the user's image where image volumes are
//! available and needs no shell anywhere, carries no label a Service could select, and keeps sidecar
//! injectors out.

use std::collections::BTreeSet;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, Pod, PodSecurityContext, PodSpec, SeccompProfile,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::containers::{with_containers, with_image_volumes};
use super::metadata::{annotations, labels};
use super::name::pod_name;
use super::settings::{NodeBinding, PodSettings, RunAs};
use crate::api::well_known::NODE_ANNOTATION;
use crate::scheduling::node::PullMethod;
use crate::workload::Workload;

#[cfg(test)]
mod tests;

/// A prefetch pod runs once.
pub(super) const RESTART_POLICY: &str = "Never";
/// The ServiceAccount that every namespace has.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";
/// Most pull secrets that a prefetch pod names; headstart's policy for its own pods has the same limit.
const MAX_PULL_SECRETS: usize = 16;

/// The whole pod.
pub fn prefetch_pod(
    workload: &Workload,
    node: &str,
    method: PullMethod,
    settings: &PodSettings,
) -> Pod {
    let mut spec = common_spec(workload, node, settings);
    spec.merge_from(match method {
        PullMethod::ImageVolume => with_image_volumes(&workload.images, settings),
        PullMethod::Container => with_containers(&workload.images, settings),
    });
    Pod {
        metadata: ObjectMeta {
            name: Some(pod_name(workload, node)),
            namespace: Some(workload.key.namespace.clone()),
            labels: Some(labels(workload, &settings.labels)),
            annotations: Some(annotations(node, &settings.annotations)),
            owner_references: owner(workload).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// The node that a prefetch pod is for: the one it is bound to, or is to be.
pub fn node_of(pod: &Pod) -> Option<&str> {
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let meant = || pod.metadata.annotations.as_ref()?.get(NODE_ANNOTATION);
    bound
        .filter(|node| !node.is_empty())
        .or_else(|| meant().map(String::as_str))
}

/// By its name, not by the label `kubernetes.io/hostname`, which may differ from it.
fn affinity_to(node: &str) -> Affinity {
    let by_name = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm {
                    match_fields: Some(vec![by_name]),
                    match_expressions: None,
                }],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// Without a UID the Deployment is not stored yet, and the API server would take no pod that it owns. As the controller it
/// lets `kubectl drain` delete the pod; the Deployment controller looks only at pods of its ReplicaSets.
fn owner(workload: &Workload) -> Option<OwnerReference> {
    (!workload.uid.is_empty()).then(|| OwnerReference {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: workload.key.name.clone(),
        uid: workload.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    })
}

/// The ServiceAccount that has to be read before a pod can be made: the one of the workload, where its pull secrets apply. As
/// Kubernetes has it, they do only where the template names none. Those of `default` the API server adds by itself.
pub fn account_of<'a>(workload: &'a Workload, settings: &PodSettings) -> Option<&'a str> {
    let account = workload.terms.service_account.as_deref();
    account.filter(|account| {
        settings.run_as == RunAs::Default
            && workload.terms.image_pull_secrets.is_empty()
            && *account != DEFAULT_SERVICE_ACCOUNT
    })
}

/// Each once, and not more than a pod may name.
fn named_secrets(names: &[String]) -> Vec<LocalObjectReference> {
    let mut seen = BTreeSet::new();
    names
        .iter()
        .filter(|name| seen.insert(name.as_str()))
        .take(MAX_PULL_SECRETS)
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect()
}

fn common_spec(workload: &Workload, node: &str, settings: &PodSettings) -> PodSpec {
    let PodSettings {
        priority_class,
        deadline_seconds,
        binding: pin,
        run_as,
        run_as_user,
        filter,
        labels: _,
        annotations: _,
        noop_image: _,
        method: _,
        max_image_size: _,
    } = settings;
    PodSpec {
        node_name: (*pin == NodeBinding::NodeName).then(|| node.to_owned()),
        affinity: (*pin == NodeBinding::Affinity).then(|| affinity_to(node)),
        tolerations: Some(
            filter
                .startup_taints
                .tolerations(&workload.constraints.tolerations),
        ),
        image_pull_secrets: Some(named_secrets(&workload.terms.image_pull_secrets)),
        service_account_name: match run_as {
            RunAs::Default => Some(DEFAULT_SERVICE_ACCOUNT.into()),
            RunAs::Workload => workload.terms.service_account.clone(),
        },
        // It may change the runtime's handler and with it how, and for what platform, the node pulls. Which class does
        // is not watched, so each is taken along; the node selector, tolerations and overhead that the class adds are
        // then this pod's as they are the rollout's.
        runtime_class_name: workload.terms.runtime_class.clone(),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        // No cluster DNS is needed, and so a broken one is no obstacle.
        dns_policy: Some("Default".into()),
        restart_policy: Some(RESTART_POLICY.into()),
        termination_grace_period_seconds: Some(0),
        active_deadline_seconds: Some(*deadline_seconds),
        priority_class_name: priority_class.clone(),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: run_as_user.0,
            run_as_group: run_as_user.0,
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}
