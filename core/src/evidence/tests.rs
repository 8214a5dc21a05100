use super::*;
use crate::pod::status::FailureKind;
use crate::testing::{failure, pod, wants};

fn missing(images: &[usize]) -> NodeImages {
    NodeImages::Missing {
        images: images.to_vec(),
        failures: Vec::new(),
    }
}

fn at(second: i64) -> Option<Timestamp> {
    Some(Timestamp::from_second(second).unwrap())
}

#[test]
fn a_node_without_pods_lacks_everything() {
    let found = images_on_node(&wants(&["a:1", "b:1"]), &[], &[], EvidenceWindow::default());
    assert_eq!(found, missing(&[0, 1]));
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
        images_on_node(&new, &[&done], &[], EvidenceWindow::default()),
        missing(&[0])
    );
    assert_eq!(
        images_on_node(&old, &[&done], &[], EvidenceWindow::default()),
        NodeImages::Present,
        "a rollback finds what is warm"
    );
    let half = pod(&old, vec![ImageStatus::Pending, ImageStatus::Pending], None);
    assert!(still_needed(&new, &half));
    assert!(matches!(
        images_on_node(&new, &[&half], &[], EvidenceWindow::default()),
        NodeImages::Pulling { active: true, .. }
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
    assert_eq!(
        images_on_node(&new, &[&done], &[], EvidenceWindow::default()),
        missing(&[0, 1])
    );
}

#[test]
fn what_failed_in_an_earlier_rollout_or_on_other_terms_says_nothing() {
    let (old, new) = (wants(&["a:1"]), wants(&["a:1", "b:1"]));
    let refused = || vec![ImageStatus::Failed(failure(FailureKind::NotFound))];
    assert_eq!(
        images_on_node(
            &new,
            &[&pod(&old, refused(), None)],
            &[],
            EvidenceWindow::default()
        ),
        missing(&[0, 1])
    );
    let failed = pod(&old, refused(), None);
    assert!(matches!(
        images_on_node(&old, &[&failed], &[], EvidenceWindow::default()),
        NodeImages::Failed(_)
    ));
    let other_terms = EvidenceWindow {
        failed_after: at(101),
        ..EvidenceWindow::default()
    };
    assert_eq!(
        images_on_node(&old, &[&failed], &[], other_terms),
        missing(&[0])
    );
}

#[test]
fn a_pod_that_was_rejected_leaves_its_images_to_another() {
    let web = wants(&["a:1"]);
    let rejected = failure(FailureKind::Rejected);
    let pod = pod(
        &web,
        vec![ImageStatus::Rejected(rejected.clone())],
        Some(120),
    );
    let found = images_on_node(&web, &[&pod], &[], EvidenceWindow::default());
    let expected = NodeImages::Missing {
        images: vec![0],
        failures: vec![(0, rejected)],
    };
    assert_eq!(found, expected);
}

#[test]
fn a_pull_that_the_kubelet_tries_again_is_under_way_but_pulls_nothing() {
    let web = wants(&["a:1"]);
    let failing = failure(FailureKind::Transient);
    let pod = pod(&web, vec![ImageStatus::Failed(failing.clone())], None);
    assert_eq!(
        images_on_node(&web, &[&pod], &[], EvidenceWindow::default()),
        NodeImages::Pulling {
            active: false,
            failures: vec![(0, failing)]
        }
    );
}

#[test]
fn refresh_asks_again_for_what_is_older() {
    let web = wants(&["a:1"]);
    let done = pod(&web, vec![ImageStatus::Pulled], Some(120));
    for (limit, expected) in [(120, NodeImages::Present), (121, missing(&[0]))] {
        let window = EvidenceWindow {
            pulled_after: at(limit),
            ..EvidenceWindow::default()
        };
        assert_eq!(images_on_node(&web, &[&done], &[], window), expected);
    }
}

#[test]
fn what_a_node_had_is_not_what_a_namesake_has() {
    let web = wants(&["a:1"]);
    let done = pod(&web, vec![ImageStatus::Pulled], Some(120));
    for (joined, expected) in [(100, NodeImages::Present), (101, missing(&[0]))] {
        let window = EvidenceWindow {
            node_created_at: at(joined),
            ..EvidenceWindow::default()
        };
        assert_eq!(images_on_node(&web, &[&done], &[], window), expected);
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
        assert_eq!(
            images_on_node(&web, &[&other], &[], EvidenceWindow::default()),
            missing(&[0])
        );
    }
}
