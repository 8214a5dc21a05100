//! Applies a change of a Deployment: its prefetch begins, goes on with other terms, or is cancelled.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::after_ready::{awaits_ready, begin_when_ready};
use super::command::Reviewed;
use super::deferral::Deferral;
use super::image_sizes::{known_sizes, report_too_large};
use super::kubelets::observe_pods;
use super::log::LogLine;
use super::lookups::{Lookup, Lookups, awaits_plan};
use super::marked_nodes;
use super::messages;
use super::observation::Observation;
use super::pod_slots::plan_counts;
use super::prefetch::Prefetch;
use super::pull::sync_node;
use super::pulls::Pulls;
use super::refresh;
use super::start_queue::StartDecision;
use super::starting_pods;
use super::terms::{read_pull_secrets, update_pull_terms};
use super::turn::Turn;
use crate::event::EventReason;
use crate::plan::{PlacementContext, Plan, plan};
use crate::scheduling::image_sizes::NoRoom;
use crate::scheduling::skip_reason::SkipReason;
use crate::store::{DeploymentNode, NodeName, NodeRecord, same_pull_terms};
use crate::workload::{DeploymentKey, Workload};

/// Brings the prefetch of a Deployment in line with its newest state.
pub(super) fn sync_deployment(
    pulls: &mut Pulls,
    lookups: &mut Lookups,
    key: &DeploymentKey,
    reviewed: Option<Reviewed>,
    turn: &mut Turn<'_>,
) {
    turn.mark_changed(key);
    let Some(workload) = turn.store.enabled(key).cloned() else {
        if pulls.cancel_prefetch(key) {
            turn.out.logs.push(LogLine::Disabled(key.clone()));
        }
        return;
    };
    let is_held = workload.state.held.is_some_and(|held| held.paused);
    if let Some(prefetch) = pulls.prefetches.get_mut(key)
        && prefetch.has_same_images(&workload)
        // A held rollout waits for all nodes, not only for those that joined.
        && (prefetch.covers_all_nodes || !is_held)
    {
        let before = &prefetch.workload;
        if same_pull_terms(before, &workload) {
            // A hold began or ended, on which the nodes with startup taints depend.
            prefetch.workload = workload;
            begin_when_ready(pulls, key, turn);
            return;
        }
        let malformed = &before.annotations.invalid;
        if before.too_large != workload.too_large || *malformed != workload.annotations.invalid {
            report_unsupported_images(&workload, turn);
        }
        update_pull_terms(pulls, workload, turn);
        begin_when_ready(pulls, key, turn);
        return;
    }
    // The newest images win.
    pulls.cancel_prefetch(key);
    let refreshes = turn.refresh_interval(&workload).is_some();
    let is_recent = workload
        .state
        .rollout
        .is_recent(turn.now.wall, turn.config.retain);
    if is_recent || refreshes || is_held {
        list_pods_then_plan(pulls, lookups, workload, reviewed, turn);
    } else {
        turn.out.logs.push(LogLine::RolledOutBefore(key.clone()));
    }
}

/// Plans at once, or, if the plan depends on where the Deployment runs, when its pods are listed.
fn list_pods_then_plan(
    pulls: &mut Pulls,
    lookups: &mut Lookups,
    workload: Arc<Workload>,
    reviewed: Option<Reviewed>,
    turn: &mut Turn<'_>,
) {
    match workload.selector_for_max_nodes().cloned() {
        Some(selector) => {
            let lookup = Lookup::RunningPods {
                workload,
                selector,
                reviewed,
            };
            lookups.start(lookup, turn);
        }
        None => start_prefetch(
            pulls,
            lookups,
            workload,
            PlacementContext::default(),
            reviewed,
            turn,
        ),
    }
}

/// Plans a prefetch with the nodes where the Deployment runs, unless its images have changed meanwhile.
pub(super) fn on_pods_listed(
    pulls: &mut Pulls,
    lookups: &mut Lookups,
    (workload, reviewed): (&Workload, Option<Reviewed>),
    result: Result<BTreeSet<String>, String>,
    turn: &mut Turn<'_>,
) {
    let key = &workload.key;
    let running_on = result.unwrap_or_else(|error| {
        turn.out.logs.push(LogLine::LookupFailed {
            key: key.clone(),
            what: "the pods that it has",
            error,
        });
        BTreeSet::new()
    });
    let current = turn.store.enabled(key).cloned();
    if let Some(current) = current
        && awaits_plan(pulls, turn.store, workload)
    {
        let context = PlacementContext {
            running_on,
            ..PlacementContext::default()
        };
        start_prefetch(pulls, lookups, current, context, reviewed, turn);
    }
}

/// Plans a Deployment that waited until fewer of its namespace pull.
pub(super) fn start_waiting(
    pulls: &mut Pulls,
    lookups: &mut Lookups,
    key: &DeploymentKey,
    turn: &mut Turn<'_>,
) {
    if let Some(workload) = turn.store.enabled(key).cloned()
        && awaits_plan(pulls, turn.store, &workload)
    {
        list_pods_then_plan(pulls, lookups, workload, None, turn);
    }
}

/// Starts a prefetch for all nodes that the plan chooses, unless too many of its namespace pull.
fn start_prefetch(
    pulls: &mut Pulls,
    lookups: &mut Lookups,
    workload: Arc<Workload>,
    mut context: PlacementContext,
    reviewed: Option<Reviewed>,
    turn: &mut Turn<'_>,
) {
    let key = workload.key.clone();
    let awaits = awaits_ready(turn.store, &key);
    if !awaits && let StartDecision::Waits { first } = pulls.request_start(&key) {
        if first {
            let note = messages::waits_for_start(pulls.starts.limit());
            turn.out
                .event(&workload, EventReason::PrefetchBlocked, "", note);
        }
        return;
    }
    context.sizes = known_sizes(&workload, turn);
    report_unsupported_images(&workload, turn);
    let infos = turn.store.nodes().map(|record| record.info.as_ref());
    let Plan {
        nodes: targets,
        skipped,
    } = plan(&workload, infos, &context, &turn.config.pods);
    turn.out.observations.push(Observation::PrefetchPlanned);
    let reviewed = reviewed.filter(|reviewed| reviewed.images == workload.image_set);
    let started = reviewed.map_or(turn.now.monotonic, |reviewed| reviewed.at);
    let mut prefetch = Prefetch::new(turn.ids.next(), workload.clone(), started);
    let records = targets.iter().map(|(name, _)| turn.store.node(name));
    let mut records: Vec<&Arc<NodeRecord>> = records.flatten().collect();
    // Nodes that an autoscaler may remove come last, and are not refreshed.
    let may_go = |record: &&Arc<NodeRecord>| record.info.is_scale_down_candidate;
    if is_only_refreshed(&workload, turn) {
        records.retain(|record| !may_go(record));
    }
    records.sort_by_key(may_go);
    for record in records {
        prefetch.add_node(&NodeName::from(record.name()), record, targets.len());
    }
    turn.out.logs.push(LogLine::Prefetching {
        key: key.clone(),
        images: workload.image_set.clone(),
        count: workload.images.len(),
        nodes: prefetch.nodes.len(),
        skipped: skipped.len(),
        already_present: prefetch.already_present.len(),
    });
    if awaits {
        prefetch.deferral = Deferral::AfterReady;
    }
    if !workload.images.is_empty() {
        let mut note = messages::prefetch_started(&prefetch, &skipped);
        let mode = turn.store.get(&key).map(|(_, mode)| mode);
        let wanted = workload.annotations.after_ready;
        let effect = wanted.zip(mode);
        let effect = effect.and_then(|(wanted, mode)| messages::after_ready(wanted, mode, awaits));
        note.extend(effect);
        turn.out
            .event(&workload, EventReason::PrefetchStarted, "", note);
    }
    let is_too_large = |(_, why): &(&str, SkipReason<'_>)| {
        matches!(why, SkipReason::NoRoom(NoRoom::ImageTooLarge(_)))
    };
    let too_large = skipped.iter().any(is_too_large);
    prefetch.placement_context = context;
    if too_large {
        report_too_large(&mut prefetch, turn);
    }
    prefetch.pull_secrets.want();
    refresh::schedule(&prefetch, turn);
    pulls.insert_prefetch(prefetch);
    read_pull_secrets(pulls, lookups, &key, turn);
    for node in turn.store.nodes_with_pods(&key) {
        let key = key.clone();
        let at = DeploymentNode { key, node };
        sync_node(pulls, &at, turn);
        observe_pods(pulls, &at, turn);
    }
    marked_nodes::sync_prefetch(pulls, &key, turn);
    if !awaits {
        starting_pods::schedule_list(pulls, &key, turn);
        plan_counts(pulls, &key, turn);
    }
    pulls.queue.push(&key);
    turn.mark_changed(&key);
}

/// Returns whether a Deployment's rollout was before this term: its images are pulled only because they are refreshed.
fn is_only_refreshed(workload: &Workload, turn: &Turn<'_>) -> bool {
    let rollout = workload.state.rollout;
    workload.state.held.is_none() && !rollout.is_recent(turn.now.wall, turn.config.retain)
}

/// Reports the images of a Deployment that are not prefetched, and its invalid annotations.
fn report_unsupported_images(workload: &Arc<Workload>, turn: &mut Turn<'_>) {
    for (reason, subject, note) in messages::complaints(workload) {
        turn.out.event(workload, reason, subject, note);
    }
}
