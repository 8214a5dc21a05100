//! The terms of a prefetch's pulls, the credentials and the placement, and the effects of a change of them.

use std::sync::Arc;

use super::log::LogLine;
use super::lookups::{Lookup, Lookups};
use super::planning::replan;
use super::pull_state::PullState;
use super::pulls::Pulls;
use super::refresh;
use super::turn::Turn;
use crate::pod::account_of;
use crate::workload::{DeploymentKey, Workload};

/// Takes over other terms for the same images. Failed pulls may succeed now, and other nodes may be eligible.
pub(super) fn update_pull_terms(pulls: &mut Pulls, workload: Arc<Workload>, turn: &mut Turn<'_>) {
    let key = workload.key.clone();
    let Some(prefetch) = pulls.prefetches.get_mut(&key) else {
        return;
    };
    turn.out.logs.push(LogLine::TermsChanged(key.clone()));
    let failed = prefetch
        .nodes
        .nodes_matching(|_, pull| pull.state().is_final() && pull.state() != PullState::Present);
    let settings = &turn.config.pods;
    if account_of(&prefetch.workload, settings) != account_of(&workload, settings) {
        prefetch.pull_secrets.names = None;
    }
    prefetch.set_terms(workload, turn.now.wall);
    for node in failed {
        if let Some(pull) = prefetch.nodes.get_mut(&node) {
            pull.attempts = 0;
        }
        prefetch.nodes.enqueue(&node);
    }
    prefetch.pull_secrets.want();
    refresh::schedule(prefetch, turn);
    let covers_all_nodes = prefetch.covers_all_nodes;
    // Pulls that were shared on the former terms are not.
    pulls.sharing.wake_all(&key);
    pulls.wake_waiting(&key);
    if covers_all_nodes {
        replan(pulls, &key, turn);
    }
    pulls.queue.push(&key);
    turn.mark_changed(&key);
}

/// Reads the ServiceAccount of a Deployment if a read is wanted and pods have to name its pull secrets.
pub(super) fn read_pull_secrets(
    pulls: &mut Pulls,
    lookups: &mut Lookups,
    key: &DeploymentKey,
    turn: &mut Turn<'_>,
) {
    let Some(prefetch) = pulls.prefetches.get_mut(key) else {
        return;
    };
    let Some(account) = account_of(&prefetch.workload, &turn.config.pods) else {
        let names = prefetch.pull_secrets.names.as_ref();
        if names.is_none_or(|names| !names.is_empty()) {
            prefetch.pull_secrets.set_not_needed();
            pulls.queue.push(key);
        }
        return;
    };
    if prefetch.pull_secrets.take_wanted(turn.now.monotonic) {
        let lookup = Lookup::PullSecrets {
            key: key.clone(),
            account: account.to_owned(),
            prefetch: prefetch.id,
        };
        lookups.start(lookup, turn);
    }
}

/// Takes over the pull secrets that were read. Where they have changed, failed pulls are tried again.
pub(super) fn on_pull_secrets_read(
    pulls: &mut Pulls,
    (key, account, id): (DeploymentKey, String, u64),
    result: Result<Vec<String>, String>,
    turn: &mut Turn<'_>,
) {
    let prefetch = pulls.prefetches.get_mut(&key);
    let Some(prefetch) = prefetch.filter(|prefetch| prefetch.id == id) else {
        return;
    };
    prefetch.pull_secrets.on_read();
    turn.mark_changed(&key);
    if account_of(&prefetch.workload, &turn.config.pods) != Some(&*account) {
        prefetch.pull_secrets.want();
        return;
    }
    let first = prefetch.pull_secrets.names.is_none();
    let names = match result {
        Ok(names) => names,
        Err(error) => {
            turn.out.logs.push(LogLine::LookupFailed {
                key: key.clone(),
                what: "the pull secrets of its ServiceAccount",
                error,
            });
            // Without an answer the secrets stay as they were.
            prefetch.pull_secrets.names.clone().unwrap_or_default()
        }
    };
    if prefetch.pull_secrets.names.as_ref() == Some(&names) {
        return;
    }
    prefetch.set_pull_secrets(names);
    if first {
        pulls.queue.push(&key);
    } else {
        let workload = prefetch.workload.clone();
        turn.out
            .logs
            .push(LogLine::PullSecretsChanged { key, account });
        update_pull_terms(pulls, workload, turn);
    }
}
