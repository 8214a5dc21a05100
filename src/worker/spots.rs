//! The nodes of a Deployment's prefetch, how far each is, and how many are how far.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::lane::{Gate, HANDFUL, Lane, Reach, Tally, is_stopped, reach};
use crate::cluster::Machine;
use headstart_core::pod::status::Failure;

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
    pub(super) joined: Option<Timestamp>,
    /// Its architecture's position among the lanes.
    lane: usize,
    stage: Stage,
    /// How often its pod was lost.
    pub(super) attempts: u8,
    /// We sent a pod for this rollout: what it was to bring and did not, is lost.
    pub(super) sent: bool,
}

impl Spot {
    pub(super) fn stage(&self) -> Stage {
        self.stage
    }
}

/// All nodes of a prefetch. Stages change by [`Self::set`] alone, which counts them.
#[derive(Debug, Default)]
pub(super) struct Spots {
    all: HashMap<Arc<str>, Spot>,
    pub(super) lanes: Vec<Lane>,
    /// The lane whose turn it is.
    turn: usize,
    /// Nodes that are not decided.
    open: usize,
    given_up: usize,
}

impl Spots {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn contains(&self, node: &str) -> bool {
        self.all.contains_key(node)
    }

    pub(super) fn get(&self, node: &str) -> Option<&Spot> {
        self.all.get(node)
    }

    pub(super) fn get_mut(&mut self, node: &str) -> Option<&mut Spot> {
        self.all.get_mut(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Spot)> {
        self.all.iter()
    }

    pub(super) fn into_names(self) -> impl Iterator<Item = Arc<str>> {
        self.all.into_keys()
    }

    /// Nodes that are not decided.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Nodes that ended without all images by a fault of their own.
    pub(super) fn given_up(&self) -> usize {
        self.given_up
    }

    /// Adds a node to send a pod to; whether it is new. `all` is how many the plan has: a handful goes out at once.
    pub(super) fn add(&mut self, node: &Arc<str>, machine: &Machine, all: usize) -> bool {
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
        let new = self.all.insert(node.clone(), spot).is_none();
        if new {
            self.open += 1;
            self.lanes[lane].ready.push_back(node.clone());
        }
        new
    }

    /// Takes a node out; whether it was in.
    pub(super) fn remove(&mut self, node: &str) -> bool {
        // What it counted for is counted off.
        self.set(node, Stage::Waiting);
        let removed = self.all.remove(node).is_some();
        self.open -= usize::from(removed);
        removed
    }

    /// The nodes that are so, in no order.
    pub(super) fn names_where(&self, is: impl Fn(&str, &Spot) -> bool) -> Vec<Arc<str>> {
        let spots = self.all.iter();
        spots
            .filter(|(node, spot)| is(node, spot))
            .map(|(node, _)| node.clone())
            .collect()
    }

    /// Moves a node on, and counts it.
    pub(super) fn set(&mut self, node: &str, stage: Stage) {
        let Some(spot) = self.all.get_mut(node) else {
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
        if let Some((name, spot)) = self.all.get_key_value(node) {
            self.lanes[spot.lane].ready.push_back(name.clone());
        }
    }

    /// Puts a node back to where it was taken from.
    pub(super) fn give_back(&mut self, node: &Arc<str>) {
        if let Some(lane) = self.lane_of(node) {
            lane.ready.push_front(node.clone());
        }
    }

    pub(super) fn lane_of(&mut self, node: &str) -> Option<&mut Lane> {
        let spot = self.all.get(node)?;
        self.lanes.get_mut(spot.lane)
    }

    /// The lanes that may send now, beginning with the one whose turn it is; of first waves only, if `waves_only`.
    pub(super) fn sending_lanes(&mut self, now: Instant, waves_only: bool) -> Vec<usize> {
        let tallies: Vec<Tally> = self.lanes.iter().map(|lane| lane.tally).collect();
        let count = self.lanes.len();
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        (0..count)
            .map(|offset| (turn + offset) % count)
            .filter(|index| {
                let lane = &mut self.lanes[*index];
                lane.gate.look(now);
                // One node with all it wants proves that the images can be had.
                let proven = lane.tally.warm > 0;
                let may = lane.gate.lets_wave_through()
                    || !waves_only && (proven || lane.gate == Gate::Open);
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

    /// Nodes that cannot get all images: one failed there that cannot be had, or their lane is stopped for one that did.
    pub(super) fn failing(&self) -> usize {
        let tallies = || self.lanes.iter().map(|lane| lane.tally);
        let stopped: Vec<bool> = tallies().map(|lane| is_stopped(lane, tallies())).collect();
        if !stopped.contains(&true) {
            return self.totals().failing;
        }
        let cannot = |spot: &&Spot| match spot.stage {
            Stage::Warm | Stage::GivenUp | Stage::Failed(Reach::Node) => false,
            Stage::Failed(_) => true,
            _ => stopped[spot.lane],
        };
        self.all.values().filter(cannot).count()
    }

    /// Nodes that were not tried yet.
    pub(super) fn untried(&self) -> usize {
        let spots = self.all.values();
        let untried = |spot: &&Spot| match spot.stage {
            Stage::Waiting => true,
            Stage::BackOff => !spot.sent,
            _ => false,
        };
        spots.filter(untried).count()
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
