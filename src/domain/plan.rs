//! What is prefetched where, and why not elsewhere.

use super::node::{Candidate, Ineligible, PullMethod};
use super::pod::PodSettings;
use super::workload::Workload;

/// The plan for one Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nodes to prefetch on, in the order of their names, each with the way its images are pulled.
    pub targets: Vec<(String, PullMethod)>,
    /// Nodes left out, and why.
    pub skipped: Vec<(String, Ineligible)>,
}

/// Plans a Deployment's prefetch. The order of the nodes does not matter.
pub fn plan<'a>(
    workload: &Workload,
    nodes: impl IntoIterator<Item = &'a Candidate>,
    settings: &PodSettings,
) -> Plan {
    let mut plan = Plan::default();
    if workload.images.is_empty() {
        return plan;
    }
    for node in nodes {
        match node.refuses(&workload.placement) {
            Some(ineligible) => plan.skipped.push((node.name.clone(), ineligible)),
            None => {
                let method = settings.method.unwrap_or_else(|| node.best_method());
                plan.targets.push((node.name.clone(), method));
            }
        }
    }
    plan.targets.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    plan.skipped.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::workload::tests::workload;
    use serde_json::{Value, json};

    fn node(name: &str, ready: &str) -> Candidate {
        let node: Value = json!({
            "metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        Candidate::from_node(&serde_json::from_value(node).unwrap()).unwrap()
    }

    fn settings(method: Option<PullMethod>) -> PodSettings {
        PodSettings {
            noop_image: String::new(),
            method,
            priority_class: None,
            deadline_seconds: 1,
        }
    }

    #[test]
    fn every_node_is_either_a_target_or_skipped_for_a_reason() {
        let web = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
        let nodes = [node("n3", "True"), node("n1", "True"), node("n2", "False")];
        let forwards = plan(&web, &nodes, &settings(None));
        assert_eq!(
            forwards.targets,
            [
                ("n1".into(), PullMethod::Container),
                ("n3".into(), PullMethod::Container)
            ]
        );
        assert_eq!(forwards.skipped, [("n2".into(), Ineligible::NotReady)]);
        assert_eq!(
            plan(&web, nodes.iter().rev(), &settings(None)),
            forwards,
            "order does not matter"
        );
    }

    #[test]
    fn the_method_can_be_overridden() {
        let web = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
        let forced = plan(
            &web,
            &[node("n1", "True")],
            &settings(Some(PullMethod::ImageVolume)),
        );
        assert_eq!(forced.targets, [("n1".into(), PullMethod::ImageVolume)]);
    }

    #[test]
    fn nothing_to_pull_is_nothing_to_do() {
        let web = workload(json!({"containers": [{"name": "a", "image": "Not Valid"}]}));
        assert_eq!(
            plan(&web, &[node("n1", "True")], &settings(None)),
            Plan::default()
        );
    }
}
