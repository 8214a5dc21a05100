//! What a command does at the API server, as headstart's driver sends it, and what may go wrong on the way.

use std::collections::BTreeSet;
use std::sync::Arc;

use headstart_core::api::hold_mark::HoldId;
use headstart_core::controller::command::{
    Command, CommandResult, PodFilter, ResumeOutcome, WriteError,
};
use headstart_core::hold::{LAST_APPLIED, ResumePlan, plan_resume};
use headstart_core::image::ImageSetId;
use headstart_core::workload::DeploymentKey;
use serde_json::json;

use crate::api_server::{Kind, Object, ObjectKey, Preconditions, Status};
use crate::cluster::Cluster;
use crate::controllers::Controllers;
use crate::invariants::{Monitor, Violation};
use crate::mutation::Mutation;
use crate::options::Fault;
use crate::term::name_of;
use crate::workloads::object_key;

/// What happens to a request.
enum Fate {
    Done,
    /// It never arrives.
    Lost,
    /// The request is done, and the answer is lost.
    AnswerLost,
    /// The API server refuses the request.
    Refused(Status),
}

/// Carries out a command that arrives, and returns the result that its sender gets.
pub(crate) fn execute(
    command: &Command,
    controllers: &Controllers,
    cluster: &mut Cluster,
    monitor: &mut Monitor,
) -> Result<CommandResult, Violation> {
    let unknown = |what: &str| command.unknown_result(what);
    let fate = fate_of(command, cluster);
    match fate {
        Fate::Lost => Ok(unknown("connection reset")),
        Fate::Refused(status) => Ok(refused(command, &status)),
        Fate::Done => carry_out(command, controllers, cluster, monitor),
        Fate::AnswerLost => {
            carry_out(command, controllers, cluster, monitor)?;
            Ok(unknown("no answer within 30 s"))
        }
    }
}

fn fate_of(command: &Command, cluster: &mut Cluster) -> Fate {
    let name = name_of(command);
    if !cluster.is_api_up() {
        return Fate::Lost;
    }
    if cluster.healed {
        return Fate::Done;
    }
    let mut random = cluster.draw(&["fate", &name]);
    if cluster.options.has(Fault::LostAnswers) && random.per_mille(150) {
        if random.per_mille(500) {
            cluster.count("fault: request lost");
            return Fate::Lost;
        }
        cluster.count("fault: answer lost");
        return Fate::AnswerLost;
    }
    let (until, cases) = cluster.write_errors;
    if cluster.now() < until && random.per_mille(cases) {
        let key = ObjectKey::new(Kind::Pod, "", &name);
        let status = match random.below(4) {
            0 => Status::too_many_requests(),
            1 => Status::internal(),
            2 => Status::forbidden(&key, "denied by a policy"),
            _ => Status::invalid(&key, "a webhook changed it"),
        };
        cluster.count(match status.code {
            429 => "fault: 429",
            500 => "fault: 500",
            403 => "fault: 403",
            _ => "fault: 422",
        });
        return Fate::Refused(status);
    }
    Fate::Done
}

fn write_error(status: &Status) -> WriteError {
    WriteError::of_status(status.code, status.message.clone(), None)
}

fn refused(command: &Command, status: &Status) -> CommandResult {
    match command {
        Command::CreatePod { .. } => CommandResult::PodCreated(Err(write_error(status))),
        Command::DeletePod { .. } => CommandResult::PodDeleted(Err(write_error(status))),
        Command::ResumeRollout { .. } => CommandResult::Resumed(Err(write_error(status))),
        Command::ListPods { .. } | Command::ReadPullSecrets { .. } | Command::CountPods { .. } => {
            command.unknown_result(&status.message)
        }
    }
}

fn carry_out(
    command: &Command,
    controllers: &Controllers,
    cluster: &mut Cluster,
    monitor: &mut Monitor,
) -> Result<CommandResult, Violation> {
    match command {
        Command::CreatePod { pod, .. } => {
            let value = serde_json::to_value(&**pod).unwrap_or_default();
            let created = cluster.api.create(Kind::Pod, value, "headstart");
            Ok(CommandResult::PodCreated(match created {
                Ok(pod) => {
                    monitor.on_created(&pod);
                    Ok(Some(pod.uid().to_owned()))
                }
                Err(status) if status.reason == "AlreadyExists" => Ok(None),
                Err(status) => Err(write_error(&status)),
            }))
        }
        Command::DeletePod {
            namespace,
            name,
            uid,
            ..
        } => {
            let key = ObjectKey::new(Kind::Pod, namespace, name);
            let ignored = cluster.mutation == Some(Mutation::UidIgnored);
            let only = Preconditions {
                uid: (!ignored).then(|| uid.clone()),
                resource_version: None,
            };
            let deleted = cluster.api.delete(&key, &only);
            Ok(CommandResult::PodDeleted(match deleted {
                Ok(pod) => {
                    monitor.on_deleted(&pod, uid)?;
                    Ok(())
                }
                Err(status) if matches!(status.code, 404 | 409) => Ok(()),
                Err(status) => Err(write_error(&status)),
            }))
        }
        Command::ResumeRollout {
            key, hold, only_if, ..
        } => {
            let resumed = resume(key, hold, only_if.as_ref(), cluster, monitor)?;
            Ok(CommandResult::Resumed(resumed))
        }
        Command::ListPods {
            workload, filter, ..
        } => {
            let key = object_key(&workload.key);
            let images: Vec<String> = workload
                .images
                .iter()
                .map(|image| image.as_written.to_string())
                .collect();
            let starting = (*filter == PodFilter::Starting).then_some(images.as_slice());
            let nodes: BTreeSet<String> =
                controllers.nodes_of(&key, starting).into_iter().collect();
            Ok(CommandResult::PodsListed(Ok(nodes)))
        }
        Command::ReadPullSecrets { key, account, .. } => {
            let account = ObjectKey::new(Kind::ServiceAccount, &key.namespace, account);
            let secrets = cluster.api.get(&account).map_or_else(
                |_| Vec::new(),
                |account| {
                    let secrets = account.value["imagePullSecrets"].as_array();
                    let names = secrets.into_iter().flatten();
                    let names = names.filter_map(|secret| secret["name"].as_str());
                    names.map(str::to_owned).collect()
                },
            );
            Ok(CommandResult::PullSecretsRead(Ok(secrets)))
        }
        Command::CountPods { node, .. } => {
            let pods = u32::try_from(cluster.pods_on(node)).unwrap_or(u32::MAX);
            Ok(CommandResult::PodsCounted(Ok(pods)))
        }
    }
}

/// Ends a hold, as headstart's driver does: a read, and a write of the version that was read. A user may write in between.
fn resume(
    key: &DeploymentKey,
    hold: &HoldId,
    only_if: Option<&ImageSetId>,
    cluster: &mut Cluster,
    monitor: &mut Monitor,
) -> Result<Result<ResumeOutcome, WriteError>, Violation> {
    let object = object_key(key);
    monitor.before_resume(&object, cluster);
    let Ok(stored) = cluster.api.get(&object) else {
        return Ok(Ok(ResumeOutcome::NotHeld));
    };
    let read = if cluster.mutation == Some(Mutation::UserPauseIgnored) {
        without_pausers(&stored)
    } else {
        stored
    };
    let (mut patch, outcome) = match plan_resume(read.deployment(), Some(hold), only_if) {
        ResumePlan::Done(outcome) => return Ok(Ok(outcome)),
        ResumePlan::Write { patch, outcome } => (patch, outcome),
    };
    monitor.between_read_and_write(&object, cluster);
    if cluster.mutation == Some(Mutation::VersionIgnored) {
        patch["metadata"]["resourceVersion"].take();
    }
    let before = cluster.api.get(&object).ok();
    Ok(match cluster.api.patch(&object, &patch, "headstart") {
        Ok(after) => {
            if let Some(before) = before {
                monitor.on_resumed(&object, &before, &after, only_if)?;
            }
            Ok(outcome)
        }
        Err(status) if status.code == 409 => Ok(ResumeOutcome::Conflict),
        Err(status) if status.code == 404 => Ok(ResumeOutcome::NotHeld),
        Err(status) => Err(write_error(&status)),
    })
}

/// Returns an object without what tells that other clients pause it: a mutation.
fn without_pausers(object: &Object) -> Arc<Object> {
    let mut value = object.value.clone();
    let none = json!({"metadata": {"managedFields": null, "annotations": {LAST_APPLIED: null}}});
    json_patch::merge(&mut value, &none);
    Arc::new(Object::new(value))
}
