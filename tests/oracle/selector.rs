//! Label selectors, against `k8s.io/apimachinery/pkg/labels`.

use std::collections::BTreeMap;

use headstart_core::scheduling::labels::Labels;
use headstart_core::scheduling::selector::{Operator, Selector};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use crate::asking::{Answer, Kind, Requirement};
use crate::text::{long, nearly, one_of};

const ALPHABET: &str = "abAB019.-_/ ,=!<>()\t\n\0éin";

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        16 => one_of(&["a", "b", "zone", "a.io/b", "in", "notin", "cpus"]),
        2 => one_of(&["A.io/b", "-a", "a-", "a/b/c", "/a", "a/", "a..b/c", "a_b.io/c", "a.b-/c", "é"]),
        1 => long(62..=65),
        1 => long(251..=255).prop_map(|prefix| format!("{prefix}/a")),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        16 => one_of(&["a", "b", "1", "16", "", "in", "A_b.c-d"]),
        2 => one_of(&["-1", "+1", "1-", "a/b", "01", "9223372036854775807", "9223372036854775808", "1_0"]),
        1 => long(62..=65),
    ]
}

fn space() -> impl Strategy<Value = String> {
    one_of(&["", "", "", " ", "  ", "\t", "\n", "\r"])
}

fn requirement() -> impl Strategy<Value = String> {
    let exact = (
        one_of(&["=", "==", "!=", "<", ">", "===", "=!", "=="]),
        value(),
    )
        .prop_map(|(sign, value)| format!("{sign}{value}"));
    let values = vec(
        (space(), value(), space()).prop_map(|(l, v, r)| l + &v + &r),
        0..4,
    );
    let set = (one_of(&[" in ", " notin ", " in", " near ", "in "]), values)
        .prop_map(|(word, values)| format!("{word}({})", values.join(",")));
    let exists = Just(String::new());
    let condition = prop_oneof![3 => exact, 3 => set, 2 => exists];
    (
        space(),
        one_of(&["", "", "", "", "!"]),
        space(),
        key(),
        space(),
        condition,
        space(),
    )
        .prop_map(|(a, not, b, key, c, condition, d)| format!("{a}{not}{b}{key}{c}{condition}{d}"))
}

fn selectors() -> impl Strategy<Value = (String, BTreeMap<String, String>)> {
    let selector = vec(requirement(), 0..4).prop_map(|requirements| requirements.join(","));
    // What an object carries may be anything here: the libraries match what no API server stores, too.
    let labels = btree_map(key(), value(), 0..5);
    (nearly(selector, ALPHABET), labels)
}

fn ours((text, labels): &(String, BTreeMap<String, String>)) -> Answer {
    let Ok(selector) = text.parse::<Selector>() else {
        return Answer {
            refused: true,
            ..Answer::default()
        };
    };
    assert_eq!(
        selector.to_string().parse().as_ref(),
        Ok(&selector),
        "reads back what it prints"
    );
    let requirements = selector.requirements().iter();
    Answer {
        requirements: requirements
            .map(|requirement| Requirement {
                key: requirement.key().to_owned(),
                operator: match requirement.operator() {
                    Operator::In => "In",
                    Operator::NotIn => "NotIn",
                    Operator::Exists => "Exists",
                    Operator::DoesNotExist => "DoesNotExist",
                    Operator::Gt => "Gt",
                    Operator::Lt => "Lt",
                }
                .to_owned(),
                values: requirement.values().map(str::to_owned).collect(),
            })
            .collect(),
        matches: selector.matches(&Labels::from(labels)),
        ..Answer::default()
    }
}

#[test]
fn selectors_are_parsed_and_match_as_in_kubernetes() {
    let kind = Kind {
        name: "label selectors",
        question: |(text, labels): &(String, BTreeMap<String, String>)| json!({"selector": {"text": text, "labels": labels}}),
        ours,
        is_yes: |answer| !answer.refused,
    };
    kind.compare(&selectors());
}

#[test]
fn selectors_that_are_right_match_as_in_kubernetes() {
    let key = || one_of(&["a", "b", "zone", "cpus"]);
    let value = || one_of(&["a", "b", "1", "16", ""]);
    let requirement = prop_oneof![
        (key(), one_of(&["=", "!="]), value()).prop_map(|(key, sign, value)| key + &sign + &value),
        (key(), one_of(&["<", ">"]), one_of(&["0", "1", "9", "16"]))
            .prop_map(|(key, sign, value)| key + &sign + &value),
        (key(), one_of(&["in", "notin"]), vec(value(), 1..3))
            .prop_map(|(key, word, values)| format!("{key} {word} ({})", values.join(","))),
        key(),
        key().prop_map(|key| format!("!{key}")),
    ];
    let selector = vec(requirement, 1..3).prop_map(|requirements| requirements.join(","));
    let kind = Kind {
        name: "label selectors that match",
        question: |(text, labels): &(String, BTreeMap<String, String>)| json!({"selector": {"text": text, "labels": labels}}),
        ours,
        is_yes: |answer| answer.matches,
    };
    kind.compare(&(selector, btree_map(key(), value(), 0..5)));
}
