//! One Deployment's prefetch: its nodes, and how far each is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::share;
use super::lane::{Gate, HANDFUL, Lane, Reach, Tally, is_stopped, reach};
use super::race::Race;
use crate::cluster::Machine;
use crate::cluster::verdict::Standards;
use crate::domain::hold::Progress;
use crate::domain::outcome::Failure;
use crate::domain::placement::Ineligible;
use crate::domain::plan::Situation;
use crate::domain::workload::Workload;

/// How far a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A pod is to be sent.
    Waiting,
    /// A pod is to be sent after a pause.
    BackOff,
    /// A create is on its way, or the watch has not shown its pod yet.
    Sent,
    /// A pod is at it.
    UnderWay,
    /// Every image is there.
    Warm,
    /// An image cannot be had, and whom that stops.
    Failed(Reach),
    /// It was tried often enough.
    GivenUp,
}

impl Stage {
    pub(super) fn is_decided(self) -> bool {
        matches!(self, Self::Warm | Self::Failed(_) | Self::GivenUp)
    }
}

/// One node of a prefetch.
#[derive(Debug)]
pub(super) struct Spot {
    /// The UID of the node: a namesake that comes after it has none of its images.
    pub(super) uid: Arc<str>,
    /// When that joined.
    joined: Option<Timestamp>,
    /// Its architecture's position among the lanes.
    lane: usize,
    pub(super) stage: Stage,
    /// How often its pod was lost.
    pub(super) attempts: u8,
    /// We sent a pod for this rollout: what it was to bring and did not, is lost.
    pub(super) sent: bool,
}

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
    pub(super) situation: Situation,
    /// Nodes left out when the plan was made, and why.
    pub(super) skipped: Vec<(String, Ineligible)>,
    /// Nodes left out because they report the images already.
    pub(super) reporting: usize,
    pub(super) spots: HashMap<Arc<str>, Spot>,
    pub(super) lanes: Vec<Lane>,
    /// Which nodes come last.
    pub(super) race: Race,
    /// The lane whose turn it is.
    turn: usize,
    /// Nodes that are not decided.
    pub(super) open: usize,
    given_up: usize,
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
    variants: HashMap<Vec<usize>, Variant>,
}

/// What a prefetch begins with.
pub(super) struct Begin {
    pub(super) id: u64,
    pub(super) workload: Arc<Workload>,
    pub(super) started: Instant,
    pub(super) whole: bool,
    pub(super) situation: Situation,
    pub(super) skipped: Vec<(String, Ineligible)>,
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
            skipped,
            cancel,
        } = begin;
        Self {
            id,
            workload,
            started,
            whole,
            situation,
            skipped,
            reporting: 0,
            spots: HashMap::new(),
            lanes: Vec::new(),
            race: Race::Over,
            turn: 0,
            open: 0,
            given_up: 0,
            reported: HashSet::new(),
            refusals: 0,
            refused_until: None,
            trouble: None,
            revised: None,
            closed: None,
            looked_through: Instant::now(),
            cancel,
            variants: HashMap::new(),
        }
    }

    pub(super) fn is_for(&self, workload: &Workload) -> bool {
        self.workload.revision == workload.revision && self.workload.uid == workload.uid
    }

    /// Adds a node to send a pod to. `all` is how many the plan has: a handful goes out at once.
    pub(super) fn add(&mut self, node: &Arc<str>, machine: &Machine, all: usize) {
        let architecture = machine.candidate.architecture();
        let known = self
            .lanes
            .iter()
            .position(|lane| *lane.architecture == *architecture);
        let lane = known.unwrap_or_else(|| {
            self.lanes.push(Lane::new(architecture, all > HANDFUL));
            self.lanes.len() - 1
        });
        let spot = Spot {
            uid: machine.uid.clone(),
            joined: machine.created,
            lane,
            stage: Stage::Waiting,
            attempts: 0,
            sent: false,
        };
        if self.spots.insert(node.clone(), spot).is_none() {
            self.open += 1;
            self.closed = None;
            self.lanes[lane].ready.push_back(node.clone());
        }
    }

    /// Takes a node out; whether it was in.
    pub(super) fn remove(&mut self, node: &str) -> bool {
        // What it counted for is counted off.
        self.set(node, Stage::Waiting);
        let removed = self.spots.remove(node).is_some();
        self.open -= usize::from(removed);
        removed
    }

    /// The nodes that are so, in no order.
    pub(super) fn nodes_where(&self, is: impl Fn(&str, &Spot) -> bool) -> Vec<Arc<str>> {
        let spots = self.spots.iter();
        spots
            .filter(|(node, spot)| is(node, spot))
            .map(|(node, _)| node.clone())
            .collect()
    }

    /// Moves a node on, and counts it.
    pub(super) fn set(&mut self, node: &str, stage: Stage) {
        let Some(spot) = self.spots.get_mut(node) else {
            return;
        };
        let before = std::mem::replace(&mut spot.stage, stage);
        let tally = &mut self.lanes[spot.lane].tally;
        for (stage, entering) in [(before, false), (stage, true)] {
            let step = |count: &mut usize| {
                *count = if entering { *count + 1 } else { *count - 1 };
            };
            match stage {
                Stage::Warm => step(&mut tally.warm),
                Stage::Failed(Reach::Plan) => step(&mut tally.failing),
                Stage::Failed(Reach::Architecture) => {
                    step(&mut tally.failing);
                    step(&mut tally.platform);
                }
                Stage::Failed(Reach::Node) | Stage::GivenUp => step(&mut self.given_up),
                _ => {}
            }
            if !stage.is_decided() {
                step(&mut self.open);
            }
        }
    }

    /// Puts a node in line for a pod.
    pub(super) fn line_up(&mut self, node: &str) {
        self.set(node, Stage::Waiting);
        if let Some((name, spot)) = self.spots.get_key_value(node) {
            self.lanes[spot.lane].ready.push_back(name.clone());
        }
    }

    /// Puts a node back to where it was taken from.
    pub(super) fn lanes_give_back(&mut self, node: &Arc<str>) {
        if let Some(lane) = self.lane_of(node) {
            lane.ready.push_front(node.clone());
        }
    }

    pub(super) fn lane_of(&mut self, node: &str) -> Option<&mut Lane> {
        let spot = self.spots.get(node)?;
        self.lanes.get_mut(spot.lane)
    }

    /// The lanes that may send now, beginning with the one whose turn it is.
    pub(super) fn sending_lanes(&mut self, now: Instant) -> Vec<usize> {
        let tallies: Vec<Tally> = self.lanes.iter().map(|lane| lane.tally).collect();
        let count = self.lanes.len();
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        // Until it is known who starts where, a first wave alone goes.
        let looking = self.race == Race::Looking;
        (0..count)
            .map(|offset| (turn + offset) % count)
            .filter(|index| {
                let lane = &mut self.lanes[*index];
                lane.gate.look(now);
                // One node with all it wants proves that the images can be had.
                let proven = lane.tally.warm > 0;
                let may = lane.gate.lets_wave_through()
                    || !looking && (proven || lane.gate == Gate::Open);
                may && !is_stopped(lane.tally, tallies.iter().copied())
            })
            .collect()
    }

    /// What is known of all its nodes.
    pub(super) fn totals(&self) -> Tally {
        let tallies = self.lanes.iter().map(|lane| lane.tally);
        tallies.fold(Tally::default(), |a, b| Tally {
            warm: a.warm + b.warm,
            failing: a.failing + b.failing,
            platform: a.platform + b.platform,
        })
    }

    /// Nodes that ended without all images.
    pub(super) fn lost(&self) -> usize {
        self.totals().failing + self.given_up
    }

    /// Every node is decided; whether that is news. It is once, and again when nodes that had failed have got there after
    /// all.
    pub(super) fn close(&mut self) -> bool {
        let lost = self.lost();
        self.closed.replace(lost) != Some(lost)
    }

    /// How far it is, for a rollout that waits for it.
    pub(super) fn progress(&self, now: Instant) -> Progress {
        let totals = self.totals();
        let tallies = || self.lanes.iter().map(|lane| lane.tally);
        let stopped: Vec<bool> = tallies().map(|lane| is_stopped(lane, tallies())).collect();
        let failing = if stopped.contains(&true) {
            let cannot = |spot: &&Spot| match spot.stage {
                Stage::Warm | Stage::GivenUp | Stage::Failed(Reach::Node) => false,
                Stage::Failed(_) => true,
                _ => stopped[spot.lane],
            };
            self.spots.values().filter(cannot).count()
        } else {
            totals.failing
        };
        Progress {
            planned: self.spots.len() + self.reporting,
            warm: totals.warm + self.reporting,
            lost: self.given_up,
            failing,
            open: self.open,
            blocked: self.refused_until.is_some_and(|until| now < until),
        }
    }

    /// Nodes that were not tried yet.
    pub(super) fn untried(&self) -> usize {
        let spots = self.spots.values();
        let untried = |spot: &&Spot| match spot.stage {
            Stage::Waiting => true,
            Stage::BackOff => !spot.sent,
            _ => false,
        };
        spots.filter(untried).count()
    }

    /// The Deployment with only these of its images.
    pub(super) fn variant(&mut self, positions: &[usize]) -> Variant {
        if let Some(known) = self.variants.get(positions) {
            return known.clone();
        }
        let workload = if positions.len() == self.workload.images.len() {
            self.workload.clone()
        } else {
            Arc::new(self.workload.narrowed_to(positions))
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

    /// Takes over what changed about how and where the same images are wanted.
    pub(super) fn revise(&mut self, workload: Arc<Workload>, now: Timestamp) {
        self.workload = workload;
        self.variants.clear();
        self.revised = Some(now);
        self.reported.clear();
        self.refused_until = None;
        self.trouble = None;
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

/// The stage of a node where an image cannot be had: the failure that speaks for most others decides.
pub(super) fn failed_stage(failures: &[(usize, Failure)]) -> Stage {
    let reaches = failures.iter().map(|(_, failure)| reach(failure.kind));
    let widest = reaches.max_by_key(|reach| match reach {
        Reach::Node => 0,
        Reach::Architecture => 1,
        Reach::Plan => 2,
    });
    Stage::Failed(widest.unwrap_or(Reach::Node))
}
