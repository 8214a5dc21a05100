//! The work itself, on the leader only: take a Deployment, confirm it against what is stored, plan, fan out, watch
//! outcomes, report, clean up.
//!
//! One task owns all of it and never waits for the API server: writes run beside it and report back. Nothing it
//! remembers is needed by the next leader, who finds prefetch pods by label and the rest in the Deployments.
//!
//! - [`desk`]: what is under way, and what each event does to it; [`places`], [`send`], [`race`], [`expectations`],
//!   [`machines`], [`accounts`], [`holds`] and [`upkeep`] are parts of it
//! - [`sweep`], [`lane`], [`ledger`], [`turns`], [`backoff`]: the decisions, which borrow data and
//!   return data

mod accounts;
mod backoff;
mod desk;
mod expectations;
mod holds;
mod lane;
mod ledger;
mod machines;
mod notes;
mod places;
mod race;
mod send;
mod spots;
mod sweep;
mod turns;
mod upkeep;
mod work;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use kube::Client;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::event_recorder::EventRecorder;
use crate::metrics::Metrics;
use crate::puller::{Puller, RESULTS};
use crate::queue::Hints;
use crate::whereabouts::Whereabouts;
use desk::{Answers, Desk};
use headstart_core::hold;
use headstart_core::pod::PodSettings;
pub use ledger::Limits;

/// How often finished pods are looked through: a fraction of any useful retention, and a scan of our own pods only.
const SWEEP: Duration = Duration::from_secs(1);
/// Surveys that wait for the worker; few Deployments limit their nodes.
const SURVEYS: usize = 64;
/// Looks at who starts that wait for the worker; one for each rollout.
const STARTS: usize = 64;
/// ServiceAccounts that were read and wait for the worker; one for each rollout of a workload that has one.
const ACCOUNTS: usize = 64;
/// Answers about holds that wait for the worker; as many as are asked for at once.
const ENDINGS: usize = holds::RESUMING;

/// Everything the work needs.
#[derive(Clone)]
pub struct Worker {
    /// What is stored.
    pub cluster: Arc<Cluster>,
    /// What reviews promised.
    pub hints: Arc<Hints>,
    /// Writes pods.
    pub puller: Puller,
    /// Looks where Deployments' own pods are.
    pub whereabouts: Whereabouts,
    /// Writes events.
    pub reporter: EventRecorder,
    /// Resumes rollouts.
    pub client: Client,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What all prefetch pods have in common.
    pub settings: Arc<PodSettings>,
    /// How the work is done.
    pub policy: Policy,
}

/// How the work is done.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How long finished pods stay after the rollout.
    pub retain: SignedDuration,
    /// How much may be pulled at once.
    pub limits: Limits,
    /// How often images are prefetched again, where the Deployment does not say.
    pub refresh: Option<SignedDuration>,
    /// For how many Deployments a node that joins is warmed.
    pub new_node_deployments: usize,
    /// How long rollouts may be held; `None` if they are not.
    pub holds: Option<hold::HoldLimits>,
}

impl Worker {
    /// Works until cancelled. What is under way then is found by the next leader.
    pub async fn run(self, cancel: CancellationToken) {
        let (results, mut created) = mpsc::channel(RESULTS);
        let (surveys, mut surveyed) = mpsc::channel(SURVEYS);
        let (accounts, mut account) = mpsc::channel(ACCOUNTS);
        let (starts, mut starting) = mpsc::channel(STARTS);
        let (endings, mut ended) = mpsc::channel(ENDINGS);
        let answers = Answers {
            surveys,
            accounts,
            starts,
            endings,
        };
        let mut desk = Desk::new(self, results, answers, cancel.child_token());
        desk.take_over();
        let cluster = desk.worker.cluster.clone();
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = desk.next_wake();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                // Results first: the channel is bounded, and creates wait for it.
                Some(created) = created.recv() => desk.on_created(created),
                Some((workload, situation)) = surveyed.recv() => desk.on_surveyed(workload, situation),
                Some(read) = account.recv() => desk.on_account(read),
                Some(starting) = starting.recv() => desk.on_starting(starting),
                Some(ended) = ended.recv() => desk.on_ended(ended),
                key = cluster.rollouts.take() => desk.on_rollout(&key),
                // Before places: where a node is gone, its pods are no news.
                node = cluster.machines.take() => desk.on_machine(&node),
                place = cluster.places.take() => desk.on_place(&place),
                () = sleep_until(wake) => desk.on_wake(),
                _ = sweep.tick() => desk.on_sweep(),
            }
            desk.dispatch();
        }
        created.close();
        surveyed.close();
        account.close();
        starting.close();
        ended.close();
        desk.end().await;
    }
}
