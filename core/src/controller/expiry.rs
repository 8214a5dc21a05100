//! Decides when a prefetch pod is no longer needed.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::turn::Turn;
use crate::evidence::still_needed;
use crate::pod::status::ImageStatus;
use crate::store::PrefetchPod;
use crate::workload::Workload;

/// The time to delete a pod that is not needed now.
pub(super) const IMMEDIATELY: Option<Timestamp> = Some(Timestamp::MIN);

/// The shortest time for which a pod stays that has not ended and could not get its images. The kubelet asks again after 10 s,
/// and after 20 s more; by then it has read a pull secret that was missing, or the tag exists.
const MIN_RETRY_WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// Returns when a pod is to be deleted, if neither it nor its Deployment changes before. `workload` is the Deployment, `None`
/// if it is gone or disabled; `retain` is how long finished pods stay, `refresh` how often images are pulled again.
pub(super) fn expires_at(
    workload: Option<&Workload>,
    pod: &PrefetchPod,
    retain: SignedDuration,
    refresh: Option<SignedDuration>,
) -> Option<Timestamp> {
    if pod.deleting {
        return None;
    }
    let Some(workload) = workload else {
        return IMMEDIATELY;
    };
    // Its Deployment was deleted, or the pod was orphaned: no other controller deletes it in time.
    if pod.owner.as_deref() != Some(workload.uid.as_str()) {
        return IMMEDIATELY;
    }
    let has_something = pod.outcome.images.contains(&ImageStatus::Pulled);
    if pod.revision != workload.image_set {
        if !pod.outcome.is_final() {
            // Its images are not wanted any more. A pull that has begun goes on; one that has not is saved.
            return IMMEDIATELY.filter(|_| !still_needed(workload, pod));
        }
        if !has_something {
            // It has no image, and the kubelet may still ask the registry for one.
            return IMMEDIATELY;
        }
    }
    if !pod.outcome.is_final() {
        return None;
    }
    let after = |since: Option<Timestamp>, pause| {
        since.map_or(IMMEDIATELY, |since| since.checked_add(pause).ok())
    };
    // The next refresh replaces it; until then the pod keeps its images from garbage collection.
    if let Some(every) = refresh
        && pod.revision == workload.image_set
    {
        let ended = pod.outcome.ended.or(pod.created);
        return after(ended, every.saturating_mul(2));
    }
    if !workload.state.rollout.settled {
        return None;
    }
    // A finished pod keeps its images from the node's garbage collection until the rollout has them in use.
    let since = [
        pod.outcome.ended,
        pod.created,
        workload.state.rollout.progressed,
    ]
    .into_iter()
    .flatten()
    .max();
    let tried_on = pod.outcome.ended.is_none() && !pod.outcome.all_pulled();
    let stays = if tried_on {
        retain.max(MIN_RETRY_WINDOW)
    } else {
        retain
    };
    after(since, stays)
}

/// Returns whether pods are deleted because of the state of their node.
pub(super) fn is_cleared(node: &str, turn: &Turn<'_>) -> bool {
    let record = turn.store.node(node);
    record.is_some_and(|record| record.info.is_leaving() || record.info.has_disk_pressure())
}

/// Returns whether a pod is deleted because of the state of its node. Where disk is short that is every pod: an unfinished one
/// pulls, and a finished one keeps its images from garbage collection. On a node that is about to go it is every unfinished pod.
pub(super) fn is_in_the_way(node: &str, pod: &PrefetchPod, turn: &Turn<'_>) -> bool {
    let record = turn.store.node(node).filter(|_| !pod.deleting);
    record.is_some_and(|record| {
        let unfinished = pod.outcome.ended.is_none();
        record.info.has_disk_pressure() || unfinished && record.info.is_leaving()
    })
}

/// Returns how long finished pods stay on a node after the rollout. Karpenter looks for nodes to remove only where no pod has
/// come or gone for a while, so there they go at once.
pub(super) fn retention(node: &str, turn: &Turn<'_>) -> SignedDuration {
    let record = turn.store.node(node);
    if record.is_some_and(|record| record.info.is_karpenter()) {
        SignedDuration::ZERO
    } else {
        turn.config.retain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::status::FailureKind;
    use crate::rollout::Rollout;
    use crate::testing::{failure, pod, wants};

    const RETAIN: SignedDuration = SignedDuration::from_secs(600);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn settled(images: &[&str]) -> Workload {
        let mut workload = wants(images);
        workload.state.rollout = Rollout {
            settled: true,
            progressed: Some(at(200)),
            ..Rollout::default()
        };
        workload
    }

    fn due(workload: Option<&Workload>, pod: &PrefetchPod, now: i64) -> bool {
        expires_at(workload, pod, RETAIN, None).is_some_and(|due| due <= at(now))
    }

    #[test]
    fn finished_pods_stay_until_the_rollout_is_done_and_the_retention_over() {
        let web = settled(&["a:1"]);
        let done = pod(&web, vec![ImageStatus::Pulled], Some(120));
        assert!(!due(Some(&web), &done, 799));
        assert!(due(Some(&web), &done, 800), "600 s after the rollout");
        let rolling = wants(&["a:1"]);
        assert!(!due(Some(&rolling), &done, 9999));
    }

    #[test]
    fn pods_of_an_earlier_rollout_go_at_once_unless_they_bring_or_hold_something() {
        let (old, new) = (wants(&["a:1", "b:1"]), settled(&["a:2", "b:1"]));
        let pending = || ImageStatus::Pending;
        let shared = pod(&old, vec![pending(), pending()], None);
        assert!(!due(Some(&new), &shared, 101), "b:1 is wanted");
        let half = pod(&old, vec![pending(), ImageStatus::Pulled], None);
        assert!(due(Some(&new), &half, 101), "only a:1 is still to come");
        let done = pod(
            &old,
            vec![ImageStatus::Pulled, ImageStatus::Pulled],
            Some(120),
        );
        assert!(!due(Some(&new), &done, 121), "for a rollback");
        let refused = ImageStatus::Failed(failure(FailureKind::NotFound));
        let nothing = pod(&old, vec![refused.clone(), refused], None);
        assert!(due(Some(&new), &nothing, 101));
    }

    #[test]
    fn a_pod_that_the_kubelet_still_tries_gets_a_second_chance_however_short_the_retention() {
        let web = settled(&["a:1"]);
        let refused = ImageStatus::Failed(failure(FailureKind::Unauthorized));
        let short = SignedDuration::from_secs(3);
        let due = |outcome: ImageStatus, ended| {
            expires_at(Some(&web), &pod(&web, vec![outcome], ended), short, None)
        };
        assert_eq!(due(refused.clone(), None), Some(at(260)));
        assert_eq!(due(refused, Some(120)), Some(at(203)), "it has ended");
        assert_eq!(due(ImageStatus::Pulled, None), Some(at(203)), "it has all");
    }

    #[test]
    fn orphans_and_pods_of_deployments_that_are_gone_go_at_once() {
        let web = settled(&["a:1"]);
        let done = pod(&web, vec![ImageStatus::Pulled], Some(120));
        assert!(due(None, &done, 121));
        let orphan = PrefetchPod {
            owner: None,
            ..done.clone()
        };
        assert!(due(Some(&web), &orphan, 121));
        let going = PrefetchPod {
            deleting: true,
            ..done
        };
        assert!(!due(None, &going, 121), "asked for already");
    }

    #[test]
    fn with_refresh_a_pod_holds_its_images_until_the_next() {
        let web = settled(&["a:1"]);
        let done = pod(&web, vec![ImageStatus::Pulled], Some(120));
        let hour = Some(SignedDuration::from_hours(1));
        assert_eq!(
            expires_at(Some(&web), &done, RETAIN, hour),
            Some(at(120 + 7200)),
            "one that no other replaced"
        );
    }
}
