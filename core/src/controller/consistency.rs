//! Checks that the parts of the controller agree, and that nothing waits for an event that never comes.

use thiserror::Error;

use super::deferral::Deferral;
use super::dispatch::Dispatcher;
use super::holds::Holds;
use super::lookups::Lookups;
use super::prefetch::Prefetch;
use super::pull_state::PullState;
use super::pulls::Pulls;
use super::timers::{TimerKey, Timers};
use crate::store::DeploymentNode;
use crate::workload::DeploymentKey;

/// A defect of the controller.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Inconsistency(String);

/// Checks the pulls.
pub(super) fn check(
    pulls: &Pulls,
    dispatcher: &Dispatcher,
    lookups: &Lookups,
    timers: &Timers,
) -> Result<(), Inconsistency> {
    pulls.check_slots().map_err(Inconsistency)?;
    lookups.check(timers).map_err(Inconsistency)?;
    let starts = pulls.starts.check(&pulls.prefetches);
    starts.map_err(Inconsistency)?;
    pulls.pod_counts.check(timers).map_err(Inconsistency)?;
    for (key, prefetch) in &pulls.prefetches {
        let of_key = |what| Inconsistency(format!("{key}: {what}"));
        prefetch.nodes.check().map_err(of_key)?;
        let waits = (dispatcher, lookups, timers);
        check_deferral(key, prefetch, waits.1, timers)?;
        for node in prefetch.nodes.names() {
            let at = DeploymentNode {
                key: key.clone(),
                node: node.clone(),
            };
            check_node(pulls, prefetch, &at, waits)?;
        }
    }
    for at in pulls.expectations.iter() {
        let waits =
            dispatcher.creates.has_create(at) || timers.is_set(&TimerKey::Expectation(at.clone()));
        if !waits {
            return Err(lost(at, "an expected pod has no create and no timer"));
        }
    }
    Ok(())
}

/// Checks the holds.
pub(super) fn check_holds(holds: &Holds, timers: &Timers) -> Result<(), Inconsistency> {
    holds
        .check(|key| timers.is_set(&TimerKey::Hold(key.clone())))
        .map_err(Inconsistency)
}

fn check_deferral(
    key: &DeploymentKey,
    prefetch: &Prefetch,
    lookups: &Lookups,
    timers: &Timers,
) -> Result<(), Inconsistency> {
    let waits = match prefetch.deferral {
        // The end of this wait changes the rollout.
        Deferral::None | Deferral::AfterReady => true,
        Deferral::Unknown => {
            timers.is_set(&TimerKey::ListStarting(key.clone()))
                || lookups.is_listing_starting(key, prefetch.id)
        }
        Deferral::Until(_) => timers.is_set(&TimerKey::DeferralDone(key.clone())),
    };
    if waits {
        return Ok(());
    }
    let deferral = prefetch.deferral;
    Err(Inconsistency(format!(
        "{key}: nothing ends the deferral {deferral:?}"
    )))
}

/// Checks that something moves a node on that is not decided.
fn check_node(
    pulls: &Pulls,
    prefetch: &Prefetch,
    at: &DeploymentNode,
    (dispatcher, _, timers): (&Dispatcher, &Lookups, &Timers),
) -> Result<(), Inconsistency> {
    let state = prefetch.nodes.get(&at.node).map(|pull| pull.state());
    match state {
        Some(PullState::Pending) => check_pending(pulls, prefetch, at, dispatcher, timers),
        Some(PullState::Backoff) => {
            let retried = timers.is_set(&TimerKey::PullRetry(at.clone()))
                || matches!(prefetch.deferral, Deferral::Until(_));
            retried
                .then_some(())
                .ok_or_else(|| lost(at, "a node in back-off has no timer"))
        }
        Some(PullState::Created) => pulls
            .expectations
            .contains(at)
            .then_some(())
            .ok_or_else(|| lost(at, "a created pod is not expected")),
        _ => Ok(()),
    }
}

/// Checks that a pending node is queued wherever nothing keeps it from being sent to.
fn check_pending(
    pulls: &Pulls,
    prefetch: &Prefetch,
    at: &DeploymentNode,
    dispatcher: &Dispatcher,
    timers: &Timers,
) -> Result<(), Inconsistency> {
    // A pause may be over whose timer was not called yet.
    let refused = timers.is_set(&TimerKey::RefusedUntil(at.key.clone()));
    let waits = prefetch.deferral == Deferral::AfterReady
        || pulls.expectations.contains(at)
        || pulls.queue.contains(&at.key)
        || pulls.is_parked(at)
        || dispatcher.is_waiting_for_permission()
        || refused
        || prefetch.pull_secrets.names.is_none() && prefetch.pull_secrets.is_coming();
    let canary_only = prefetch.deferral == Deferral::Unknown;
    if !waits && prefetch.nodes.is_dispatchable(&at.node, canary_only) {
        return Err(lost(
            at,
            "a pending node that may be sent to is in no queue",
        ));
    }
    Ok(())
}

fn lost(at: &DeploymentNode, what: &str) -> Inconsistency {
    let DeploymentNode { key, node } = at;
    Inconsistency(format!("{key} on {node}: {what}"))
}
