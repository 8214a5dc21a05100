use super::*;
use headstart_core::pod::status::{FailureKind, PodStatusSummary};
use headstart_core::testing::workload;
use serde_json::json;

pub(crate) fn wants(images: &[&str]) -> Workload {
    let containers: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(n, image)| json!({"name": format!("c{n}"), "image": image}))
        .collect();
    workload(json!({"containers": containers}))
}

pub(crate) fn pod(of: &Workload, outcomes: Vec<ImageStatus>, ended: Option<i64>) -> PrefetchPod {
    let images: Vec<_> = of
        .images
        .iter()
        .map(|image| Some(image.reference.clone()))
        .collect();
    PrefetchPod {
        name: format!("prefetch-{}", of.image_set),
        uid: of.image_set.to_string(),
        node: "n1".into(),
        owner: Some(of.uid.clone()),
        revision: of.image_set.clone(),
        images: images.into(),
        outcome: PodStatusSummary {
            images: outcomes,
            ended: ended.map(|at| Timestamp::from_second(at).unwrap()),
        },
        created: Some(Timestamp::from_second(100).unwrap()),
        deleting: false,
    }
}

pub(crate) fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        message: String::new(),
    }
}

fn lacks(images: &[usize]) -> Verdict {
    Verdict::Lacks {
        images: images.to_vec(),
        failures: Vec::new(),
    }
}

fn at(second: i64) -> Option<Timestamp> {
    Some(Timestamp::from_second(second).unwrap())
}

#[test]
fn a_node_without_pods_lacks_everything() {
    let verdict = judge(&wants(&["a:1", "b:1"]), &[], Standards::default());
    assert_eq!(verdict, lacks(&[0, 1]));
}

#[test]
fn images_common_to_two_rollouts_are_not_pulled_again() {
    let (old, new) = (wants(&["a:1", "b:1"]), wants(&["a:2", "b:1"]));
    let done = pod(
        &old,
        vec![ImageStatus::Pulled, ImageStatus::Pulled],
        Some(120),
    );
    assert_eq!(
        judge(&new, std::slice::from_ref(&done), Standards::default()),
        lacks(&[0])
    );
    assert_eq!(
        judge(&old, &[done], Standards::default()),
        Verdict::Warm,
        "a rollback finds what is warm"
    );
    let half = pod(&old, vec![ImageStatus::Pending, ImageStatus::Pending], None);
    assert!(is_wanted(&new, &half));
    assert!(matches!(
        judge(&new, &[half], Standards::default()),
        Verdict::UnderWay { pulling: true, .. }
    ));
}

#[test]
fn a_tag_that_may_move_is_asked_for_again_by_the_next_rollout() {
    let (mut old, mut new) = (wants(&["a:latest", "b:1"]), wants(&["a:latest", "b:2"]));
    // As the API server sets it for this tag.
    old.images[0].always = true;
    new.images[0].always = true;
    let done = pod(
        &old,
        vec![ImageStatus::Pulled, ImageStatus::Pulled],
        Some(120),
    );
    assert_eq!(judge(&new, &[done], Standards::default()), lacks(&[0, 1]));
}

#[test]
fn what_failed_in_an_earlier_rollout_or_on_other_terms_says_nothing() {
    let (old, new) = (wants(&["a:1"]), wants(&["a:1", "b:1"]));
    let refused = || vec![ImageStatus::Failed(failure(FailureKind::NotFound))];
    assert_eq!(
        judge(&new, &[pod(&old, refused(), None)], Standards::default()),
        lacks(&[0, 1])
    );
    let failed = [pod(&old, refused(), None)];
    assert!(matches!(
        judge(&old, &failed, Standards::default()),
        Verdict::Failed(_)
    ));
    let other_terms = Standards {
        failures_since: at(101),
        ..Standards::default()
    };
    assert_eq!(judge(&old, &failed, other_terms), lacks(&[0]));
}

#[test]
fn a_pod_that_was_rejected_leaves_its_images_to_another() {
    let web = wants(&["a:1"]);
    let rejected = failure(FailureKind::Rejected);
    let pods = [pod(
        &web,
        vec![ImageStatus::Rejected(rejected.clone())],
        Some(120),
    )];
    let verdict = judge(&web, &pods, Standards::default());
    let expected = Verdict::Lacks {
        images: vec![0],
        failures: vec![(0, rejected)],
    };
    assert_eq!(verdict, expected);
}

#[test]
fn a_pull_that_the_kubelet_tries_again_is_under_way_but_pulls_nothing() {
    let web = wants(&["a:1"]);
    let failing = failure(FailureKind::Transient);
    let pods = [pod(&web, vec![ImageStatus::Failed(failing.clone())], None)];
    assert_eq!(
        judge(&web, &pods, Standards::default()),
        Verdict::UnderWay {
            pulling: false,
            failures: vec![(0, failing)]
        }
    );
}

#[test]
fn refresh_asks_again_for_what_is_older() {
    let web = wants(&["a:1"]);
    let done = [pod(&web, vec![ImageStatus::Pulled], Some(120))];
    for (limit, expected) in [(120, Verdict::Warm), (121, lacks(&[0]))] {
        let standards = Standards {
            fresh_since: at(limit),
            ..Standards::default()
        };
        assert_eq!(judge(&web, &done, standards), expected);
    }
}

#[test]
fn what_a_node_had_is_not_what_a_namesake_has() {
    let web = wants(&["a:1"]);
    let done = [pod(&web, vec![ImageStatus::Pulled], Some(120))];
    for (joined, expected) in [(100, Verdict::Warm), (101, lacks(&[0]))] {
        let standards = Standards {
            node_since: at(joined),
            ..Standards::default()
        };
        assert_eq!(judge(&web, &done, standards), expected);
    }
}

#[test]
fn pods_of_a_namesake_and_pods_on_their_way_out_do_not_count() {
    let web = wants(&["a:1"]);
    let done = pod(&web, vec![ImageStatus::Pulled], Some(120));
    for other in [
        PrefetchPod {
            owner: Some("another".into()),
            ..done.clone()
        },
        PrefetchPod {
            deleting: true,
            ..done.clone()
        },
    ] {
        assert_eq!(judge(&web, &[other], Standards::default()), lacks(&[0]));
    }
}
