//! The webhook: a replica reviews a write before it is stored.

use headstart_core::api::mode::{Mode, effective_mode, namespace_mode};
use headstart_core::hold::{HoldDecision, ImagePresence, decide, is_paused_by_user};
use headstart_core::image_presence;
use headstart_core::workload::Workload;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::Unit;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api_server::{Kind, ObjectKey};
use crate::cluster::Cluster;
use crate::mutation::Mutation;
use crate::options::Fault;
use crate::replica::{Process, Replica};
use crate::workloads::{hold, images_of, is_held, remove_marks};

/// Returns the object as the webhook changes it.
pub(crate) fn admit(
    new: Value,
    old: Option<&Value>,
    replicas: &mut [Replica],
    cluster: &mut Cluster,
) -> Value {
    if old.is_some_and(|old| images_of(old) == images_of(&new)) {
        return new;
    }
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = new["metadata"]["namespace"].as_str().unwrap_or_default();
    let mut random = cluster.draw(&["review", namespace, name]);
    if cluster.options.has(Fault::WebhookSkipped) && !cluster.healed && random.per_mille(300) {
        cluster.count("fault: webhook skipped");
        return new;
    }
    let replica = random.below(replicas.len());
    let replica = &mut replicas[replica];
    // Refused or silent: the API server goes on without an answer.
    if replica.process != Process::Running {
        return new;
    }
    let (Some(workload), old_workload) = (read(&new), old.and_then(read)) else {
        return new;
    };
    if !mode_of(&workload, namespace, cluster).is_enabled() {
        return new;
    }
    let review = (workload.image_set.clone(), cluster.now());
    replica.reviews.insert(workload.key.clone(), review);
    if mode_of(&workload, namespace, cluster) != Mode::Hold {
        return new;
    }
    let Some(limits) = cluster.options.config.holds else {
        return new;
    };
    let now = cluster.wall(replica.clock_ahead);
    let now = now.round(Unit::Second).unwrap_or(now);
    let presence = presence(&workload, old, &new, replica, cluster);
    // That a client names the pause shows in the object, and in the manifest that it applied.
    let named = Deployment::deserialize(&new);
    let named = named.is_ok_and(|deployment| is_paused_by_user(&deployment));
    let old_workload = old_workload.as_ref();
    let decision = decide(&workload, old_workload, named, presence, limits, now);
    let was_held = old.is_some_and(is_held);
    let closed = replica
        .closed_gate(cluster.now())
        .filter(|_| cluster.mutation != Some(Mutation::GateOpen));
    match decision.with_gate(was_held, closed) {
        HoldDecision::Unchanged | HoldDecision::PauseNamed => new,
        HoldDecision::NotHeld { reason, was_held } => {
            cluster.count(&format!("hold: not begun as {reason:?}"));
            if was_held { released(new, named) } else { new }
        }
        HoldDecision::Hold { since, until } => {
            cluster.count("hold: begun");
            let age = cluster.now() - cluster.lease_renewed;
            cluster.holds_begun.push((workload.key.to_string(), age));
            let mut held = new;
            hold(&mut held, &since.to_string(), &until.to_string());
            held
        }
        HoldDecision::Release => {
            cluster.count("hold: ended by a write");
            released(new, named)
        }
    }
}

/// Ends a hold in a write; `named` says that another client names the pause.
fn released(mut object: Value, named: bool) -> Value {
    remove_marks(&mut object);
    if !named {
        json_patch::merge(&mut object, &json!({"spec": {"paused": null}}));
    }
    object
}

fn read(object: &Value) -> Option<Workload> {
    let deployment = Deployment::deserialize(object).ok()?;
    Workload::from_deployment(&deployment)
}

/// Returns the mode of a Deployment: that of its namespace selects the path of the webhook.
fn mode_of(workload: &Workload, namespace: &str, cluster: &Cluster) -> Mode {
    let key = ObjectKey::new(Kind::Namespace, "", namespace);
    let Ok(namespace) = cluster.api.get(&key) else {
        return Mode::Disabled;
    };
    let label = headstart_core::api::well_known::PREFETCH_LABEL;
    let labels = namespace
        .label(label)
        .map(|value| (label.to_owned(), value.to_owned()));
    let labels = labels.into_iter().collect();
    effective_mode(
        &workload.mode,
        namespace_mode(Some(&labels)).unwrap_or_default(),
    )
}

fn presence(
    workload: &Workload,
    old: Option<&Value>,
    new: &Value,
    replica: &Replica,
    cluster: &Cluster,
) -> ImagePresence {
    let place = |object: &Value| object["spec"]["template"]["spec"]["nodeSelector"].clone();
    if old.is_some_and(|old| place(old) != place(new)) || !replica.is_synced() {
        return ImagePresence::Unknown;
    }
    let Some((stored, _)) = replica.store.get(&workload.key) else {
        return ImagePresence::Unknown;
    };
    let nodes = replica.store.node_snapshot();
    let pods_on = |node: &str| {
        let pods = replica.store.pods_on_node(&workload.key, node);
        pods.into_iter().cloned().collect()
    };
    let settings = &cluster.options.config.pods;
    image_presence(workload, stored, &nodes, pods_on, settings)
}
