//! Records the controller's observations and writes its log lines.

use headstart_core::controller::log::LogLine;
use headstart_core::controller::observation::Observation;
use headstart_core::pod::status::FailureKind;
use headstart_core::store::DeploymentNode;
use tracing::{debug, info, warn};

use crate::metrics::Metrics;

/// Records an observation.
pub(super) fn observe(metrics: &Metrics, observation: &Observation) {
    match observation {
        Observation::PrefetchPlanned => metrics.prefetch_planned(),
        Observation::NodePulled(after) => metrics.node_pulled(*after),
        Observation::PodFinished(pod) => metrics.pod_decided(pod),
        Observation::PodLost => metrics.image(FailureKind::Lost.reason()),
        Observation::WatchLag(lag) => metrics.watch_lag(*lag),
        Observation::HoldEnded { reason, after } => metrics.hold_ended(reason, *after),
    }
}

/// Writes a log line.
pub(super) fn log(line: &LogLine) {
    match line {
        LogLine::Leading { deployments } => info!(deployments, "a new term begins"),
        LogLine::Disabled(key) => info!(deployment = %key, "prefetch is disabled"),
        LogLine::RolledOutBefore(key) => debug!(deployment = %key, "rolled out before this term"),
        LogLine::Prefetching {
            key,
            images,
            count,
            nodes,
            skipped,
            already_present,
        } => info!(
            deployment = %key, image_set = %images, images = count, nodes, skipped, already_present,
            "prefetching",
        ),
        LogLine::TermsChanged(key) => {
            info!(deployment = %key, "credentials or placement of the same images changed");
        }
        LogLine::PullSecretsChanged { key, account } => {
            info!(deployment = %key, %account, "the ServiceAccount names other pull secrets");
        }
        LogLine::LookupFailed { key, what, error } => {
            warn!(deployment = %key, %error, "cannot read {what}; the prefetch goes on without");
        }
        LogLine::CountFailed {
            node,
            error,
            paused,
        } => {
            let pause = if *paused {
                ", as on no node in the next minute"
            } else {
                ""
            };
            warn!(%node, %error, "cannot count the pods on the node; prefetches do not look for its last slots{pause}");
        }
        LogLine::Deferred { key, nodes } => {
            debug!(deployment = %key, nodes, "the rollout pulls on these nodes by itself");
        }
        LogLine::NodeJoined { node, deployments } => {
            info!(%node, deployments, "prefetching to a node that joined");
        }
        LogLine::CreateFailed { at, error, retried } => {
            let DeploymentNode { key, node } = at;
            if *retried {
                debug!(deployment = %key, %node, %error, "a create failed and is tried again");
            } else {
                warn!(deployment = %key, %node, %error, "a prefetch pod could not be created");
            }
        }
        LogLine::CreateRefused {
            at,
            error,
            pause,
            namespace_is_going,
        } => {
            let DeploymentNode { key, node } = at;
            if *namespace_is_going {
                debug!(deployment = %key, "no prefetch pods in a namespace that is being deleted");
            } else {
                warn!(deployment = %key, %node, %error, ?pause, "the API server refuses prefetch pods");
            }
        }
        LogLine::PodLost {
            at,
            attempts,
            pause,
        } => {
            let DeploymentNode { key, node } = at;
            match pause {
                Some(pause) => {
                    debug!(deployment = %key, %node, attempts, ?pause, "the pod was lost; trying again later");
                }
                None => info!(deployment = %key, %node, attempts, "every pod was lost; giving up"),
            }
        }
        LogLine::ImageFailed { at, image, reason } => {
            let DeploymentNode { key, node } = at;
            info!(deployment = %key, %node, %image, reason, "an image failed");
        }
        LogLine::NodeRefused { at, message } => {
            let DeploymentNode { key, node } = at;
            info!(deployment = %key, %node, %message, "a node refused a prefetch pod");
        }
        LogLine::NodeSilent(DeploymentNode { key, node }) => {
            warn!(deployment = %key, %node, "the kubelet does not acknowledge a prefetch pod");
        }
        LogLine::Finished {
            key,
            present,
            failed,
        } => info!(deployment = %key, present, failed, "prefetch finished"),
        LogLine::DeletingPods { at, pods } => {
            let DeploymentNode { key, node } = at;
            debug!(deployment = %key, %node, pods, "deleting prefetch pods");
        }
        LogLine::DeleteFailed { at, pod, error } => {
            let namespace = &at.key.namespace;
            warn!(%namespace, %pod, %error, "cannot delete a prefetch pod");
        }
        LogLine::Held { key, until } => info!(deployment = %key, ?until, "held"),
        LogLine::Resumed { key, reason, after } => {
            info!(deployment = %key, reason, ?after, "resumed");
        }
        LogLine::LeftPaused(key) => {
            info!(deployment = %key, "stays paused: another client pauses it");
        }
        LogLine::HoldMarkRemoved(key) => {
            let (namespace, name) = (&key.namespace, &key.name);
            warn!(
                "label headstart.dev/held was removed but spec.paused is still true; run: kubectl rollout resume -n {namespace} deployment/{name}"
            );
        }
        LogLine::NotResumed { key, error } => {
            warn!(deployment = %key, %error, "cannot resume a rollout");
        }
    }
}
