//! One Deployment's prefetch: the images that are wanted, the terms of the pulls, and its state as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::backoff::hash_fraction;
use super::deferral::Deferral;
use super::node_pulls::{NodePull, NodePulls};
use super::outlook::{Outlook, outlook};
use super::pull_secrets::PullSecrets;
use super::pull_state::PullState;
use super::reports::{Refusals, Reports};
use crate::evidence::EvidenceWindow;
use crate::hold::Progress;
use crate::plan::PlacementContext;
use crate::pod::RunAs;
use crate::store::{NodeName, NodeRecord, Store, same_pull_terms};
use crate::time::Instant;
use crate::workload::{PullTerms, Workload};

/// A Deployment with those of its images that one pod brings.
#[derive(Clone, Debug)]
pub(super) struct PullSet {
    pub(super) workload: Arc<Workload>,
    pub(super) registries: Arc<[Box<str>]>,
}

/// One Deployment's prefetch, in progress or finished.
#[derive(Debug)]
pub(super) struct Prefetch {
    /// Tells it from earlier and later prefetches of the Deployment.
    pub(super) id: u64,
    pub(super) workload: Arc<Workload>,
    pub(super) started: Instant,
    /// True for all nodes; false for some that joined after the rollout.
    pub(super) covers_all_nodes: bool,
    pub(super) placement_context: PlacementContext,
    /// Planned nodes without a pull because they report the images, with the UID of each.
    pub(super) already_present: BTreeMap<NodeName, Arc<str>>,
    pub(super) nodes: NodePulls,
    pub(super) deferral: Deferral,
    pub(super) reports: Reports,
    pub(super) refusals: Refusals,
    pub(super) pull_secrets: PullSecrets,
    terms: Terms,
}

/// The terms on which the images are pulled.
#[derive(Debug, Default)]
struct Terms {
    /// The time at which the pull secrets or the placement last changed.
    changed_at: Option<Timestamp>,
    /// The sets of images that nodes lack, by the positions of the images.
    sets: BTreeMap<Vec<usize>, PullSet>,
}

/// The Deployment in the store, compared with its prefetch.
pub(super) enum StoredDeployment {
    /// The same images, on the same terms.
    Same,
    /// The same images are pulled on other terms.
    OtherTerms(Arc<Workload>),
    /// No enabled Deployment with these images.
    Other,
}

impl Prefetch {
    /// Returns a prefetch without nodes.
    pub(super) fn new(id: u64, workload: Arc<Workload>, started: Instant) -> Self {
        let reports = Reports {
            last_error: workload.too_large.map(|why| why.to_string()),
            ..Reports::default()
        };
        Self {
            id,
            workload,
            started,
            covers_all_nodes: true,
            placement_context: PlacementContext::default(),
            already_present: BTreeMap::new(),
            nodes: NodePulls::default(),
            deferral: Deferral::None,
            reports,
            refusals: Refusals::default(),
            pull_secrets: PullSecrets::default(),
            terms: Terms::default(),
        }
    }

    /// Returns whether the prefetch is for this image set of this very Deployment.
    pub(super) fn has_same_images(&self, workload: &Workload) -> bool {
        self.workload.image_set == workload.image_set && self.workload.uid == workload.uid
    }

    /// Compares the prefetch with the Deployment in the store, which may be ahead of the events.
    pub(super) fn compare(&self, store: &Store) -> StoredDeployment {
        match store.enabled(&self.workload.key) {
            Some(stored) if self.has_same_images(stored) => {
                if same_pull_terms(&self.workload, stored) {
                    StoredDeployment::Same
                } else {
                    StoredDeployment::OtherTerms(stored.clone())
                }
            }
            _ => StoredDeployment::Other,
        }
    }

    /// Returns whether both pull with the same credentials, in the same way; false until the credentials of both are known.
    pub(super) fn pulls_on_same_terms(&self, other: &Self, run_as: RunAs) -> bool {
        let (a, b) = (&self.workload, &other.workload);
        let (Some(own), Some(others)) = (self.secrets(), other.secrets()) else {
            return false;
        };
        own == others
            && a.terms.runtime_class == b.terms.runtime_class
            && a.constraints.tolerations == b.constraints.tolerations
            && (run_as == RunAs::Default || a.terms.service_account == b.terms.service_account)
    }

    /// Returns the pull secrets that a pod names, once they are known.
    fn secrets(&self) -> Option<&[String]> {
        match self.pull_secrets.names.as_deref()? {
            // The account has none, or the template names its own.
            [] => Some(&self.workload.terms.image_pull_secrets),
            names => Some(names),
        }
    }

    /// Adds a node, for a pull unless it reports the images. `planned` is the number of nodes in the plan.
    pub(super) fn add_node(&mut self, name: &NodeName, record: &NodeRecord, planned: usize) {
        if record.reports_all_images(&self.workload) {
            let uid = record.uid.clone();
            self.already_present.insert(name.clone(), uid);
            return;
        }
        self.already_present.remove(name);
        if self.nodes.add(name, record, planned) {
            self.reports.finished = None;
        }
    }

    /// Returns the groups of nodes that may send now.
    pub(super) fn dispatchable_groups(&mut self, now: Instant) -> Vec<usize> {
        if self.deferral == Deferral::AfterReady {
            return Vec::new();
        }
        let canary_only = self.deferral == Deferral::Unknown;
        self.nodes.dispatchable_groups(now, canary_only)
    }

    /// Takes the nodes out that report the images by now.
    pub(super) fn take_present_nodes(&mut self, store: &Store) {
        let pending = |_: &str, pull: &NodePull| pull.state() == PullState::Pending;
        for name in self.nodes.nodes_matching(pending) {
            let Some(record) = store.node(&name) else {
                continue;
            };
            if record.reports_all_images(&self.workload) {
                self.nodes.remove(&name);
                self.already_present.insert(name, record.uid.clone());
            }
        }
    }

    /// Marks the prefetch as finished. Returns true the first time, and again when the number of failed nodes has changed.
    pub(super) fn mark_finished(&mut self) -> bool {
        let failed = self.nodes.failed_count();
        self.reports.finished.replace(failed) != Some(failed)
    }

    /// Returns how far the prefetch is, for a rollout that is held.
    pub(super) fn progress(&self, now: Instant) -> Progress {
        let Outlook {
            mut pending,
            mut failed,
            abandoned,
        } = outlook(&self.nodes, now);
        // A pull of such an image that is in progress goes on, and is not waited for.
        if self.placement_context.sizes.too_large().is_some() {
            failed += std::mem::take(&mut pending);
        }
        Progress {
            planned: self.nodes.len() + self.already_present.len(),
            present: self.nodes.totals().present + self.already_present.len(),
            abandoned,
            failed,
            pending,
            refused: self.refusals.blocks(now),
        }
    }

    /// Returns the Deployment with only the images at these positions.
    pub(super) fn pull_set(&mut self, positions: &[usize]) -> PullSet {
        if let Some(known) = self.terms.sets.get(positions) {
            return known.clone();
        }
        let workload = if positions.len() == self.workload.images.len() {
            self.workload.clone()
        } else {
            Arc::new(self.workload.with_images(positions))
        };
        let workload = match self.secrets() {
            Some(secrets) if *secrets != *workload.terms.image_pull_secrets => Arc::new(Workload {
                terms: PullTerms {
                    image_pull_secrets: secrets.to_vec(),
                    ..workload.terms.clone()
                },
                ..Workload::clone(&workload)
            }),
            _ => workload,
        };
        let registries: BTreeSet<Box<str>> = workload
            .images
            .iter()
            .map(|image| image.reference.registry().into())
            .collect();
        let set = PullSet {
            workload,
            registries: registries.into_iter().collect(),
        };
        self.terms.sets.insert(positions.to_vec(), set.clone());
        set
    }

    /// Sets the pull secrets of the ServiceAccount.
    pub(super) fn set_pull_secrets(&mut self, names: Vec<String>) {
        self.pull_secrets.names = Some(names);
        self.terms.sets.clear();
    }

    /// Returns when the terms of the pull last changed.
    pub(super) fn terms_changed_at(&self) -> Option<Timestamp> {
        self.terms.changed_at
    }

    /// Takes over other terms for the same images.
    pub(super) fn set_terms(&mut self, workload: Arc<Workload>, now: Timestamp) {
        self.reports = Reports {
            last_error: workload.too_large.map(|why| why.to_string()),
            ..Reports::default()
        };
        self.nodes.answers.clear();
        self.nodes.failed_retries = 0;
        self.nodes.forget_disk_pressure();
        self.workload = workload;
        self.terms = Terms {
            changed_at: Some(now),
            sets: BTreeMap::new(),
        };
        self.refusals = Refusals::default();
    }

    /// Returns the window in which evidence counts on a node. Each node has its own time to refresh: otherwise all would
    /// pull at once.
    pub(super) fn evidence_window(
        &self,
        node: &str,
        refresh: Option<SignedDuration>,
        now: Timestamp,
    ) -> EvidenceWindow {
        let pulled_after = refresh.and_then(|every| {
            let spread =
                SignedDuration::try_from_secs_f64(every.as_secs_f64() * hash_fraction(node) / 10.0);
            now.checked_sub(every.saturating_add(spread.unwrap_or_default()))
                .ok()
        });
        EvidenceWindow {
            pulled_after,
            failed_after: self.terms.changed_at,
            node_created_at: self.nodes.get(node).and_then(|pull| pull.node_created_at),
        }
    }
}
