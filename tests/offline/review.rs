//! Review → answer, for random bodies. The same contract is fuzzed in `fuzz/`, whose corpus is tried here.

mod contract;

use contract::{Taken, check};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Each takes a fraction of a millisecond.
const CASES: u32 = 2000;

/// JSON, biased to the words that a review is made of.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..4)
                .prop_map(|pairs| pairs.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "metadata",
        "name",
        "namespace",
        "labels",
        "annotations",
        "spec",
        "template",
        "containers",
        "initContainers",
        "volumes",
        "image",
        "reference",
        "headstart.dev/prefetch",
        "headstart.dev/max-nodes",
        "headstart.dev/images",
        "headstart.dev/node-selector",
        "enabled",
        "app:1",
        "Not Valid",
        "30%",
        "a in (b,c)",
        "",
        "é漢",
    ])
    .prop_map(str::to_owned)
}

/// A Deployment, of which some parts are anything.
fn object() -> impl Strategy<Value = Value> {
    let images = prop::collection::vec(word(), 0..5);
    let annotations = prop::collection::btree_map(word(), word(), 0..4);
    (images, annotations, any_json(), 0..4_usize).prop_map(|(images, annotations, odd, place)| {
        let containers: Vec<_> = images
            .iter()
            .map(|image| json!({"name": "a", "image": image}))
            .collect();
        let mut object = json!({
            "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
            "spec": {"template": {"spec": {"containers": containers}}},
        });
        match place {
            0 => object["spec"]["template"]["spec"]["volumes"] = odd,
            1 => object["metadata"]["labels"] = odd,
            2 => object["spec"]["template"]["spec"]["containers"] = odd,
            _ => {}
        }
        object
    })
}

fn review() -> impl Strategy<Value = Value> {
    let maybe = || prop_oneof![3 => object(), 1 => any_json(), 1 => Just(Value::Null)];
    let uid = prop_oneof![3 => Just("705ab4f5".to_owned()), 1 => ".{0,200}"];
    let operation = prop::sample::select(vec!["CREATE", "UPDATE", "DELETE", "CONNECT", ""]);
    (uid, operation, maybe(), maybe(), any::<Option<bool>>()).prop_map(
        |(uid, operation, object, old, dry_run)| {
            json!({
                "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
                "request": {
                    "uid": uid, "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                    "operation": operation, "object": object, "oldObject": old, "dryRun": dry_run,
                },
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_review_is_answered_by_the_contract(review in review()) {
        let uid = review["request"]["uid"].as_str().unwrap().len();
        let taken = check(review.to_string().as_bytes());
        prop_assert_eq!(taken != Taken::Refused, (1..=128).contains(&uid));
    }

    #[test]
    fn a_damaged_review_is_answered_by_the_contract_or_refused(review in review(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut body = review.to_string().into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        check(&body);
        check(&body[..at]);
    }

    #[test]
    fn any_json_is_answered_by_the_contract_or_refused(json in any_json()) {
        check(json.to_string().as_bytes());
    }

    #[test]
    fn any_bytes_are_answered_by_the_contract_or_refused(body: Vec<u8>) {
        check(&body);
    }
}

#[test]
fn the_fuzz_targets_corpus_is_answered_by_the_contract() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/review");
    let taken: Vec<_> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|entry| check(&std::fs::read(entry.unwrap().path()).unwrap()))
        .collect();
    for (kind, least) in [
        (Taken::Refused, 3),
        (Taken::Answered, 5),
        (Taken::Patched, 5),
    ] {
        let count = taken.iter().filter(|taken| **taken == kind).count();
        assert!(count >= least, "{kind:?}: {count} of {taken:?}");
    }
}
