//! The properties of planning, for every Deployment and every node that deserialises.

use headstart_core::plan::{PlacementContext, Plan, plan};
use headstart_core::pod::status;
use headstart_core::pod::{NodeBinding, PodSettings, prefetch_pod};
use headstart_core::scheduling::node::NodeInfo;
use headstart_core::workload::Workload;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};

mod generators;

use generators::{condition, deployments, list, nodes, text};

fn settings(binding: NodeBinding) -> PodSettings {
    PodSettings {
        binding,
        ..PodSettings::new("headstart:v1")
    }
}

/// Those that deserialise.
fn read<T: serde::de::DeserializeOwned>(values: &[Value]) -> Vec<T> {
    let values = values.iter().cloned();
    values
        .filter_map(|value| serde_json::from_value(value).ok())
        .collect()
}

fn node_infos(nodes: &[Value]) -> Vec<NodeInfo> {
    let mut node_infos: Vec<NodeInfo> = read::<Node>(nodes)
        .iter()
        .filter_map(NodeInfo::from_node)
        .collect();
    // In a cluster no two have one name.
    node_infos.sort_by(|a, b| a.name.cmp(&b.name));
    node_infos.dedup_by(|a, b| a.name == b.name);
    node_infos
}

/// So many cases meet each way through several times; PROPTEST_CASES asks for others.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if told { default.cases } else { 1_000 },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_node_is_planned_or_skipped_once_in_whatever_order_they_come(
        (deployment, nodes, shuffled, running) in (deployments(), vec(nodes(), 0..8)).prop_flat_map(|(deployment, nodes)| {
            let node_infos = node_infos(&nodes);
            (Just(deployment), Just(node_infos.clone()), Just(node_infos).prop_shuffle(), vec(text(), 0..3))
        })
    ) {
        let Some(workload) = serde_json::from_value::<Deployment>(deployment)
            .ok()
            .and_then(|deployment| Workload::from_deployment(&deployment))
        else {
            return Ok(());
        };
        let context = PlacementContext {
            running_on: running.iter().cloned().collect(),
            pods_on: running.into_iter().map(|node| (node, 100)).collect(),
            ..PlacementContext::default()
        };
        let planned = plan(&workload, &nodes, &context, &settings(NodeBinding::NodeName));
        prop_assert_eq!(&plan(&workload, &shuffled, &context, &settings(NodeBinding::NodeName)), &planned);
        let Plan { nodes: chosen, skipped } = &planned;
        if !workload.images.is_empty() {
            let mut names: Vec<&str> = chosen.iter().map(|(name, _)| name.as_str())
                .chain(skipped.iter().map(|(name, _)| *name)).collect();
            names.sort();
            let all: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            prop_assert_eq!(names, all);
        }
        for (_, why) in skipped {
            prop_assert!(why.reason().chars().all(char::is_alphanumeric));
            prop_assert!(!why.to_string().is_empty());
        }
        for (index, (node, method)) in chosen.iter().enumerate() {
            let binding = if index % 2 == 0 { NodeBinding::NodeName } else { NodeBinding::Affinity };
            let pod = prefetch_pod(&workload, node, *method, &settings(binding));
            prop_assert!(pod.metadata.name.is_some_and(|name| name.len() <= 63));
            prop_assert_eq!(pod.spec.map(|spec| spec.containers.len()), Some(workload.images.len()));
        }
    }

    #[test]
    fn every_status_of_a_pod_means_something(
        phase in text(), reason in text(), message in text(), own in text(),
        conditions in list(condition()),
        statuses in vec((text(), text(), text(), text()), 0..4),
    ) {
        let statuses: Vec<Value> = statuses.iter().map(|(name, reason, message, id)| json!({
            "name": name, "image": "", "imageID": id, "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}},
        })).collect();
        let pod = json!({
            "spec": {"containers": [{"name": "image-0"}, {"name": "image-1"}]},
            "status": {
                "phase": phase, "reason": reason, "message": message, "conditions": conditions,
                "containerStatuses": statuses, "initContainerStatuses": statuses,
            },
        });
        if let Ok(pod) = serde_json::from_value::<Pod>(pod) {
            let outcome = status::summarize(&pod, &own);
            prop_assert_eq!(outcome.images.len(), 2);
            prop_assert!(!outcome.all_pulled(), "nothing here proves a pull of both");
        }
    }
}

/// The properties above are worth nothing if hardly anything deserialises or is ever planned.
#[test]
fn the_generators_reach_what_they_are_for() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut workloads, mut targets, mut reasons) = (0, 0, std::collections::BTreeSet::new());
    for _ in 0..300 {
        let strategy = (deployments(), vec(nodes(), 1..8));
        let (deployment, nodes) = strategy.new_tree(&mut runner).unwrap().current();
        let Some(deployment) = read::<Deployment>(&[deployment]).pop() else {
            continue;
        };
        let Some(workload) = Workload::from_deployment(&deployment) else {
            continue;
        };
        workloads += 1;
        let nodes = node_infos(&nodes);
        let context = PlacementContext::default();
        let settings = settings(NodeBinding::NodeName);
        let plan = plan(&workload, &nodes, &context, &settings);
        targets += plan.nodes.len();
        reasons.extend(plan.skipped.iter().map(|(_, why)| why.reason()));
    }
    assert!(
        workloads > 100 && targets > 30,
        "{workloads} workloads, {targets} targets"
    );
    assert!(reasons.len() >= 8, "{reasons:?}");
}
