//! Virtual time: the steps that are to come, in the order of their times.

use std::collections::BTreeMap;
use std::rc::Rc;

use headstart_core::controller::command::{Command, CommandId, CommandResult};

use crate::api_server::{Kind, ObjectKey};
use crate::workloads::DeploymentId;

/// The life of a replica's process: its index, and how often it has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life {
    /// Which replica.
    pub replica: usize,
    /// Which of its processes.
    pub boot: u64,
}

/// A leadership term of a replica's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TermId {
    /// The process.
    pub life: Life,
    /// The number of the term, over all replicas.
    pub number: u64,
}

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A user, an operator or a fault acts: the position of the action.
    Act(usize),
    /// A replica's process starts.
    Boot(usize),
    /// A paused process goes on.
    Continue(Life),
    /// A watch brings its next change.
    Deliver(Life, Kind),
    /// A watch that was cut lists anew.
    Relist(Life, Kind),
    /// The driver takes the changes that have come in.
    Turn(Life),
    /// A timer of the controller is due.
    Timeout(TermId),
    /// A replica tries to get or renew the lease.
    Elect(Life),
    /// A command arrives at the API server.
    Execute(TermId, Rc<Command>),
    /// The answer to a command arrives.
    Answer(TermId, CommandId, Box<CommandResult>),
    /// A kubelet works on a pod: the node's UID, and the pod's.
    SyncPod {
        /// The node.
        node: String,
        /// Its UID.
        node_uid: String,
        /// The UID of the pod.
        pod: String,
    },
    /// The scheduler looks at a pod by its UID.
    BindPod(ObjectKey, String),
    /// A kubelet reports the images that it has.
    ReportImages {
        /// The node.
        node: String,
        /// Its UID.
        node_uid: String,
    },
    /// A deleted node joins again.
    Join(String),
    /// A node recovers.
    Recover(String),
    /// The Deployment controller looks at a Deployment.
    SyncDeployment(DeploymentId),
    /// The quota controller counts the pods of a namespace.
    CountForQuota(String),
    /// A pod of a rollout pulls its images, or starts.
    StartPod {
        /// The Deployment.
        deployment: DeploymentId,
        /// The images of its template.
        images: Rc<Vec<String>>,
        /// The node.
        node: String,
    },
    /// The garbage collector deletes what a Deployment owned, by its namespace and UID.
    CollectOwned {
        /// The namespace.
        namespace: String,
        /// The UID of the owner.
        uid: String,
    },
    /// The pod garbage collector looks for pods whose node is gone.
    CollectPods,
    /// The invariants that hold at all times are checked.
    Monitor,
    /// All faults end.
    Heal,
}

/// The steps to come.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    steps: BTreeMap<(u64, u64), Step>,
    count: u64,
    /// The time, in milliseconds.
    pub now: u64,
}

impl Queue {
    /// Adds a step for a time.
    pub(crate) fn at(&mut self, time: u64, step: Step) {
        self.count += 1;
        self.steps.insert((time.max(self.now), self.count), step);
    }

    /// Adds a step that comes so much later.
    pub(crate) fn after(&mut self, delay: u64, step: Step) {
        self.at(self.now + delay, step);
    }

    /// Takes the commands of a process that have not arrived.
    pub(crate) fn take_requests(&mut self, life: Life) -> Vec<Rc<Command>> {
        let of_life = |_: &(u64, u64), step: &mut Step| matches!(step, Step::Execute(term, _) if term.life == life);
        let taken = self.steps.extract_if(.., of_life);
        let commands = taken.filter_map(|(_, step)| match step {
            Step::Execute(_, command) => Some(command),
            _ => None,
        });
        commands.collect()
    }

    /// Goes to the next step, if it comes before the end.
    pub(crate) fn next(&mut self, end: u64) -> Option<Step> {
        let first = self.steps.first_entry()?;
        let (time, _) = *first.key();
        if time > end {
            self.now = end;
            return None;
        }
        self.now = time;
        Some(first.remove())
    }
}
