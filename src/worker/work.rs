//! One Deployment's prefetch: what is wanted, and what is known of it as a whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::accounts::Account;
use super::backoff::share;
use super::race::Race;
use super::spots::Spots;
use crate::cluster::Machine;
use crate::cluster::verdict::Standards;
use headstart_core::hold::Progress;
use headstart_core::plan::PlacementContext;
use headstart_core::workload::Workload;

/// The same Deployment with the images that some nodes lack.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub(super) workload: Arc<Workload>,
    pub(super) registries: Arc<[Box<str>]>,
}

/// One Deployment's prefetch, under way or done.
#[derive(Debug)]
pub(super) struct Work {
    /// Tells it from the one before and after it.
    pub(super) id: u64,
    pub(super) workload: Arc<Workload>,
    pub(super) started: Instant,
    /// For all nodes, or only for some that joined after the rollout.
    pub(super) whole: bool,
    pub(super) situation: PlacementContext,
    /// Nodes left out because they report the images already.
    pub(super) reporting: usize,
    pub(super) spots: Spots,
    /// Which nodes come last.
    pub(super) race: Race,
    /// What was reported: the image's position and class of failure.
    pub(super) reported: HashSet<(usize, &'static str)>,
    /// The API server refuses its pods: how often, and until when it is left alone.
    pub(super) refusals: u32,
    pub(super) refused_until: Option<Instant>,
    /// The last thing that stood in the way, in words.
    pub(super) trouble: Option<String>,
    /// When its pull secrets or its placement last changed.
    pub(super) revised: Option<Timestamp>,
    /// How many nodes were short of an image when all were decided; `None` while some are not, or if that is to be said
    /// again.
    closed: Option<usize>,
    /// When it was last looked at for what is to be prefetched again.
    pub(super) looked_through: Instant,
    /// Ends the attempts to create its pods.
    pub(super) cancel: CancellationToken,
    /// The ServiceAccount of the workload.
    pub(super) account: Account,
    variants: HashMap<Vec<usize>, Variant>,
}

/// What a prefetch begins with.
pub(super) struct Begin {
    pub(super) id: u64,
    pub(super) workload: Arc<Workload>,
    pub(super) started: Instant,
    pub(super) whole: bool,
    pub(super) situation: PlacementContext,
    pub(super) cancel: CancellationToken,
}

impl Work {
    pub(super) fn new(begin: Begin) -> Self {
        let Begin {
            id,
            workload,
            started,
            whole,
            situation,
            cancel,
        } = begin;
        let trouble = workload.too_large.map(|why| why.to_string());
        Self {
            id,
            workload,
            started,
            whole,
            situation,
            reporting: 0,
            spots: Spots::default(),
            race: Race::Over,
            reported: HashSet::new(),
            refusals: 0,
            refused_until: None,
            trouble,
            revised: None,
            closed: None,
            looked_through: Instant::now(),
            cancel,
            account: Account::default(),
            variants: HashMap::new(),
        }
    }

    pub(super) fn is_for(&self, workload: &Workload) -> bool {
        self.workload.image_set == workload.image_set && self.workload.uid == workload.uid
    }

    /// Adds a node to send a pod to. `all` is how many the plan has: a handful goes out at once.
    pub(super) fn add(&mut self, node: &Arc<str>, machine: &Machine, all: usize) {
        if self.spots.add(node, machine, all) {
            self.closed = None;
        }
    }

    /// The lanes that may send now, beginning with the one whose turn it is.
    pub(super) fn sending_lanes(&mut self, now: Instant) -> Vec<usize> {
        // Until it is known who starts where, a first wave alone goes.
        let looking = self.race == Race::Looking;
        self.spots.sending_lanes(now, looking)
    }

    /// Every node is decided; whether that is news. It is once, and again when nodes that had failed have got there after
    /// all.
    pub(super) fn close(&mut self) -> bool {
        let lost = self.spots.lost();
        self.closed.replace(lost) != Some(lost)
    }

    /// How far it is, for a rollout that waits for it.
    pub(super) fn progress(&self, now: Instant) -> Progress {
        Progress {
            planned: self.spots.len() + self.reporting,
            present: self.spots.totals().warm + self.reporting,
            abandoned: self.spots.given_up(),
            failed: self.spots.failing(),
            pending: self.spots.open(),
            refused: self.refused_until.is_some_and(|until| now < until),
        }
    }

    /// The Deployment with only these of its images.
    pub(super) fn variant(&mut self, positions: &[usize]) -> Variant {
        if let Some(known) = self.variants.get(positions) {
            return known.clone();
        }
        let workload = if positions.len() == self.workload.images.len() {
            self.workload.clone()
        } else {
            Arc::new(self.workload.with_images(positions))
        };
        // Where they apply, the template names none.
        let workload = match self.account.secrets.as_deref() {
            None | Some([]) => workload,
            Some(secrets) => Arc::new(Workload {
                image_pull_secrets: secrets.to_vec(),
                ..Workload::clone(&workload)
            }),
        };
        let mut registries: Vec<Box<str>> = workload
            .images
            .iter()
            .map(|image| image.reference.registry().into())
            .collect();
        registries.sort_unstable();
        registries.dedup();
        let variant = Variant {
            workload,
            registries: registries.into(),
        };
        self.variants.insert(positions.to_vec(), variant.clone());
        variant
    }

    /// The pull secrets of the ServiceAccount are known.
    pub(super) fn set_account_secrets(&mut self, secrets: Vec<String>) {
        self.account.secrets = Some(secrets);
        self.variants.clear();
    }

    /// Takes over what changed about how and where the same images are wanted.
    pub(super) fn revise(&mut self, workload: Arc<Workload>, now: Timestamp) {
        self.trouble = workload.too_large.map(|why| why.to_string());
        self.workload = workload;
        self.variants.clear();
        self.revised = Some(now);
        self.reported.clear();
        self.refused_until = None;
        self.refusals = 0;
        self.closed = None;
    }

    /// What pods on a node must meet. Each node's time to refresh is its own, or all would pull at once.
    pub(super) fn standards(
        &self,
        node: &str,
        refresh: Option<SignedDuration>,
        now: Timestamp,
    ) -> Standards {
        let fresh_since = refresh.and_then(|every| {
            let spread =
                SignedDuration::try_from_secs_f64(every.as_secs_f64() * share(node) / 10.0);
            now.checked_sub(every.saturating_add(spread.unwrap_or_default()))
                .ok()
        });
        Standards {
            fresh_since,
            failures_since: self.revised,
            node_since: self.spots.get(node).and_then(|spot| spot.joined),
        }
    }
}
