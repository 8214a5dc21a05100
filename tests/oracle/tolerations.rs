//! Taints and tolerations, against `k8s.io/component-helpers/scheduling/corev1`.

use headstart_core::scheduling::tolerations::{Taint, first_untolerated};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::asking::{Answer, Kind};
use crate::text::one_of;

#[derive(Clone, Debug)]
struct Case {
    taints: Vec<Value>,
    tolerations: Vec<Value>,
}

fn cases() -> impl Strategy<Value = Case> {
    let key = || one_of(&["a", "b", "node.kubernetes.io/not-ready", ""]);
    let value = || one_of(&["", "a", "5", "6"]);
    let effect = || one_of(&["NoSchedule", "NoExecute", "PreferNoSchedule", "", "Never"]);
    let taint = (key(), option::of(value()), effect())
        .prop_map(|(key, value, effect)| json!({"key": key, "value": value, "effect": effect}));
    let operator = one_of(&[
        "Exists", "Exists", "Equal", "Equal", "", "Gt", "Lt", "exists",
    ]);
    let seconds = option::weighted(0.2, any::<i32>());
    let toleration = (
        option::weighted(0.8, key()),
        option::weighted(0.8, operator),
        option::of(value()),
        option::weighted(0.6, effect()),
        seconds,
    )
        .prop_map(|(key, operator, value, effect, seconds)| {
            json!({
                "key": key, "operator": operator, "value": value, "effect": effect, "tolerationSeconds": seconds,
            })
        });
    (vec(taint, 0..4), vec(toleration, 0..5)).prop_map(|(taints, tolerations)| Case {
        taints,
        tolerations,
    })
}

fn ours(case: &Case) -> Answer {
    let read =
        |taint: &Value| Taint::read(&serde_json::from_value(taint.clone()).expect("a taint"));
    let taints: Vec<Taint> = case.taints.iter().filter_map(read).collect();
    let tolerations: Vec<_> = case
        .tolerations
        .iter()
        .map(|toleration| serde_json::from_value(toleration.clone()).expect("a toleration"))
        .collect();
    let untolerated = first_untolerated(&taints, &tolerations);
    Answer {
        matches: untolerated.is_none(),
        taint: untolerated.and_then(|untolerated| {
            let mut given = case.taints.iter();
            given.position(|taint| read(taint).as_ref() == Some(untolerated))
        }),
        ..Answer::default()
    }
}

#[test]
fn taints_repel_as_for_the_scheduler() {
    let kind = Kind {
        name: "tolerations",
        question: |case: &Case| json!({"tolerations": {"taints": case.taints, "tolerations": case.tolerations}}),
        ours,
        is_yes: |answer| answer.matches,
    };
    kind.compare(&cases());
}
