//! The events that go into a controller and the commands that come out, as data.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::api::hold_mark::HoldId;
use crate::event::EventReason;
use crate::image::ImageSetId;
use crate::scheduling::selector::Selector;
use crate::store::{Change, DeploymentNode, NodeName};
use crate::time::Instant;
use crate::workload::{DeploymentKey, Workload};

use super::log::LogLine;
use super::observation::Observation;
pub use super::write_error::WriteError;
pub use crate::hold::ResumeOutcome;

/// Tells one command of a leadership term from all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// Something that happened. Events name objects; the controller reads their newest state from the store.
#[derive(Clone, Debug)]
pub enum Event {
    /// A Deployment changed. `reviewed` is the webhook's review of the stored images, if it is not used yet.
    DeploymentChanged {
        /// The Deployment.
        key: DeploymentKey,
        /// The images that the webhook admitted, and the time of the review.
        reviewed: Option<Reviewed>,
    },
    /// Only the progress of a Deployment's rollout changed.
    RolloutChanged(DeploymentKey),
    /// A node came, went or changed.
    NodeChanged(NodeName),
    /// Only the images that a node reports changed.
    NodeImagesChanged(NodeName),
    /// A prefetch pod changed.
    PodChanged(DeploymentNode),
    /// The room for pods in a namespace changed.
    QuotaChanged(String),
    /// A command is done. The driver sends this exactly once for each command.
    CommandFinished {
        /// The command.
        id: CommandId,
        /// The result.
        result: CommandResult,
    },
    /// The permission to create pods changed.
    PermissionChanged(CreatePermission),
    /// The webhook configuration was found (true), or is deleted (false): then headstart is being removed, and all holds end.
    RegistrationChanged(bool),
    /// The time that [`super::Controller::next_timeout`] returned has come.
    Timeout,
}

impl From<Change> for Event {
    fn from(change: Change) -> Self {
        match change {
            Change::Deployment(key) => Self::DeploymentChanged {
                key,
                reviewed: None,
            },
            Change::Rollout(key) => Self::RolloutChanged(key),
            Change::Node(node) => Self::NodeChanged(node),
            Change::NodeImages(node) => Self::NodeImagesChanged(node),
            Change::Pod(at) => Self::PodChanged(at),
            Change::Quota(namespace) => Self::QuotaChanged(namespace),
        }
    }
}

/// A review that the webhook answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// The images that were admitted.
    pub images: ImageSetId,
    /// The time at which the review came in.
    pub at: Instant,
}

/// The permission to create pods: with `--require-policies`, only after the self-test has shown that all policies are
/// enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CreatePermission {
    /// The self-test has no answer yet: creates wait for it.
    #[default]
    Unknown,
    /// Yes.
    Granted,
    /// No, and why.
    Refused(String),
}

/// A request to the API server. The driver sends each once; retries are timers of the controller.
#[derive(Clone, Debug)]
pub enum Command {
    /// Creates a prefetch pod.
    CreatePod {
        /// Names the command.
        id: CommandId,
        /// The pod.
        pod: Arc<Pod>,
    },
    /// Deletes a pod if it still has this UID.
    DeletePod {
        /// Names the command.
        id: CommandId,
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
        /// The UID.
        uid: String,
    },
    /// Ends the hold of a Deployment.
    ResumeRollout {
        /// Names the command.
        id: CommandId,
        /// The Deployment.
        key: DeploymentKey,
        /// The hold: no other hold of the Deployment is ended.
        hold: HoldId,
        /// Only if it waits for these images.
        only_if: Option<ImageSetId>,
    },
    /// Lists pods of a Deployment.
    ListPods {
        /// Names the command.
        id: CommandId,
        /// The Deployment.
        workload: Arc<Workload>,
        /// Selects its pods.
        selector: Selector,
        /// The pods to list.
        filter: PodFilter,
    },
    /// Reads the pull secrets of a ServiceAccount.
    ReadPullSecrets {
        /// Names the command.
        id: CommandId,
        /// The Deployment that uses the account.
        key: DeploymentKey,
        /// The name of the account, in the namespace of the Deployment.
        account: String,
    },
    /// Counts the pods on a node that have not ended.
    CountPods {
        /// Names the command.
        id: CommandId,
        /// The node.
        node: NodeName,
    },
}

impl Command {
    /// Returns the name of the command.
    pub fn id(&self) -> CommandId {
        match self {
            Self::CreatePod { id, .. }
            | Self::DeletePod { id, .. }
            | Self::ResumeRollout { id, .. }
            | Self::ListPods { id, .. }
            | Self::ReadPullSecrets { id, .. }
            | Self::CountPods { id, .. } => *id,
        }
    }

    /// Returns the result of a command that ended without one: its effect is not known.
    pub fn unknown_result(&self, message: &str) -> CommandResult {
        let unknown = || WriteError::Unknown(message.to_owned());
        match self {
            Self::CreatePod { .. } => CommandResult::PodCreated(Err(unknown())),
            Self::DeletePod { .. } => CommandResult::PodDeleted(Err(unknown())),
            Self::ResumeRollout { .. } => CommandResult::Resumed(Err(unknown())),
            Self::ListPods { .. } => CommandResult::PodsListed(Err(message.to_owned())),
            Self::ReadPullSecrets { .. } => CommandResult::PullSecretsRead(Err(message.to_owned())),
            Self::CountPods { .. } => CommandResult::PodsCounted(Err(message.to_owned())),
        }
    }
}

/// The pods of a Deployment that are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodFilter {
    /// Those that have not ended.
    Running,
    /// Those that are about to start and bring all images of the Deployment.
    Starting,
}

/// The result of a command.
#[derive(Clone, Debug)]
pub enum CommandResult {
    /// The pod is stored, under this UID if it was not there already.
    PodCreated(Result<Option<String>, WriteError>),
    /// The pod is gone, or is another by the same name.
    PodDeleted(Result<(), WriteError>),
    /// The hold is over, or something else was found.
    Resumed(Result<ResumeOutcome, WriteError>),
    /// The nodes that have such pods.
    PodsListed(Result<BTreeSet<String>, String>),
    /// The names of the pull secrets; none if there is no such account.
    PullSecretsRead(Result<Vec<String>, String>),
    /// The number of pods on the node.
    PodsCounted(Result<u32, String>),
}

/// An event on a Deployment, for `kubectl describe`.
#[derive(Clone, Debug)]
pub struct EventRecord {
    /// The Deployment.
    pub workload: Arc<Workload>,
    /// The reason.
    pub reason: EventReason,
    /// Tells events of one reason apart: each is written once.
    pub subject: String,
    /// The text.
    pub note: String,
}

/// All that comes out of one event.
#[derive(Debug, Default)]
pub struct Output {
    /// Requests to send.
    pub commands: Vec<Command>,
    /// Events to write.
    pub events: Vec<EventRecord>,
    /// Measurements to record.
    pub observations: Vec<Observation>,
    /// Lines to log.
    pub logs: Vec<LogLine>,
}

impl Output {
    /// Adds an event on a Deployment.
    pub(super) fn event(
        &mut self,
        workload: &Arc<Workload>,
        reason: EventReason,
        subject: impl Into<String>,
        note: String,
    ) {
        self.events.push(EventRecord {
            workload: workload.clone(),
            reason,
            subject: subject.into(),
            note,
        });
    }
}
