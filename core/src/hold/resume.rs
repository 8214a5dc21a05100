//! Plans the write that ends a hold: the one write of a user's object that headstart makes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::pause::is_paused_by_user;
use crate::api::hold_mark::{HoldId, HoldMark, is_mark};
use crate::image::ImageSetId;
use crate::workload::Workload;

/// The result of a resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeOutcome {
    /// The rollout goes on.
    Resumed,
    /// Another client had resumed it; the marks are gone now.
    AlreadyResumed,
    /// It stays paused, because another client pauses it; the marks are gone now.
    LeftPaused,
    /// There is no such hold.
    NotHeld,
    /// It waits for other images.
    ImagesChanged,
    /// The Deployment was changed between the read and the write; nothing was written.
    Conflict,
}

impl ResumeOutcome {
    /// Returns whether the write that ends a hold was done.
    pub(crate) fn is_end(self) -> bool {
        matches!(
            self,
            Self::Resumed | Self::AlreadyResumed | Self::LeftPaused
        )
    }
}

/// The next step of a resume, after the Deployment was read.
#[derive(Clone, Debug, PartialEq)]
pub enum ResumePlan {
    /// Nothing is written.
    Done(ResumeOutcome),
    /// A merge patch is written. It names the version that was read: a pause that a user sets in between is theirs.
    Write {
        /// The patch.
        patch: Value,
        /// The result if the API server takes the patch.
        outcome: ResumeOutcome,
    },
}

/// Plans the end of a Deployment's hold; with `hold`, only of this one, and with `only_if`, only if it waits for these images.
pub fn plan_resume(
    deployment: &Deployment,
    hold: Option<&HoldId>,
    only_if: Option<&ImageSetId>,
) -> ResumePlan {
    let Some(mark) = HoldMark::read(deployment) else {
        return ResumePlan::Done(ResumeOutcome::NotHeld);
    };
    let found = HoldId {
        uid: deployment.metadata.uid.clone().unwrap_or_default(),
        since: mark.since,
    };
    if hold.is_some_and(|hold| *hold != found) {
        return ResumePlan::Done(ResumeOutcome::NotHeld);
    }
    let has_images = |wanted: &ImageSetId| {
        let workload = Workload::from_deployment(deployment);
        workload.is_some_and(|workload| workload.image_set == *wanted)
    };
    let outcome = if !mark.paused {
        ResumeOutcome::AlreadyResumed
    } else if is_paused_by_user(deployment) {
        ResumeOutcome::LeftPaused
    } else if only_if.is_some_and(|wanted| !has_images(wanted)) {
        return ResumePlan::Done(ResumeOutcome::ImagesChanged);
    } else {
        ResumeOutcome::Resumed
    };
    let mut patch = json!({
        "metadata": {
            // The API server answers 409 if it has another.
            "resourceVersion": deployment.metadata.resource_version,
            "labels": without_marks(deployment.metadata.labels.as_ref()),
            "annotations": without_marks(deployment.metadata.annotations.as_ref()),
        },
    });
    if outcome == ResumeOutcome::Resumed {
        patch["spec"] = json!({ "paused": Value::Null });
    }
    ResumePlan::Write { patch, outcome }
}

/// Returns the change that takes all marks away, of this version and of others.
fn without_marks(map: Option<&BTreeMap<String, String>>) -> Value {
    let keys = map.into_iter().flat_map(BTreeMap::keys);
    let marks = keys.filter(|key| is_mark(key));
    marks.map(|key| (key.clone(), Value::Null)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL};

    const SINCE: &str = "2026-01-01T00:00:00Z";

    fn held(change: &Value) -> Deployment {
        let mut object = json!({
            "metadata": {
                "namespace": "shop", "name": "web", "uid": "u1", "resourceVersion": "7",
                "labels": {HELD_LABEL: "true"}, "annotations": {HELD_SINCE: SINCE, HELD_UNTIL: SINCE},
            },
            "spec": {
                "paused": true, "selector": {},
                "template": {"spec": {"containers": [{"name": "a", "image": "app:1"}]}},
            },
        });
        json_patch::merge(&mut object, change);
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_patch_removes_the_marks_and_headstarts_own_pause_of_the_version_that_was_read() {
        let marks = json!({
            "resourceVersion": "7", "labels": {HELD_LABEL: null},
            "annotations": {HELD_SINCE: null, HELD_UNTIL: null},
        });
        let by_user =
            json!({"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {"f:paused": {}}}}]}});
        let unpaused = json!({"spec": {"paused": null}});
        for (change, outcome, spec) in [
            (json!({}), ResumeOutcome::Resumed, Some(&unpaused["spec"])),
            (by_user, ResumeOutcome::LeftPaused, None),
            (unpaused.clone(), ResumeOutcome::AlreadyResumed, None),
        ] {
            let mut patch = json!({ "metadata": marks });
            if let Some(spec) = spec {
                patch["spec"] = spec.clone();
            }
            let planned = plan_resume(&held(&change), None, None);
            assert_eq!(planned, ResumePlan::Write { patch, outcome });
        }
    }

    #[test]
    fn the_marks_of_other_versions_go_too_and_other_keys_stay() {
        let later = json!({"metadata": {
            "labels": {"headstart.dev/held-by": "a", "headstart.dev/prefetch": "hold", "app": "web"},
            "annotations": {"headstart.dev/held-x": "b", "headstart.dev/hold-until": "90%"},
        }});
        let marks = json!({
            "resourceVersion": "7", "labels": {HELD_LABEL: null, "headstart.dev/held-by": null},
            "annotations": {HELD_SINCE: null, HELD_UNTIL: null, "headstart.dev/held-x": null},
        });
        let planned = plan_resume(&held(&later), None, None);
        let patch = json!({ "metadata": marks, "spec": { "paused": null } });
        let outcome = ResumeOutcome::Resumed;
        assert_eq!(planned, ResumePlan::Write { patch, outcome });
    }

    #[test]
    fn another_hold_and_other_images_are_left_alone() {
        let deployment = held(&json!({}));
        let id = |uid: &str| HoldId {
            uid: uid.to_owned(),
            since: SINCE.parse().ok(),
        };
        let images = Workload::from_deployment(&deployment).unwrap().image_set;
        let ends = |hold: HoldId, images: &ImageSetId| match plan_resume(
            &deployment,
            Some(&hold),
            Some(images),
        ) {
            ResumePlan::Done(outcome) | ResumePlan::Write { outcome, .. } => outcome,
        };
        assert_eq!(ends(id("u1"), &images), ResumeOutcome::Resumed);
        assert_eq!(ends(id("u2"), &images), ResumeOutcome::NotHeld);
        let later = HoldId {
            since: None,
            ..id("u1")
        };
        assert_eq!(ends(later, &images), ResumeOutcome::NotHeld);
        assert_eq!(
            ends(id("u1"), &"other".into()),
            ResumeOutcome::ImagesChanged
        );
        let unmarked = held(&json!({"metadata": {"labels": null}}));
        let not_held = ResumePlan::Done(ResumeOutcome::NotHeld);
        assert_eq!(plan_resume(&unmarked, None, None), not_held);
    }
}
