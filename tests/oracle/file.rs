//! Files with objects, against what kubectl and the API server read: `k8s.io/apimachinery/pkg/util/yaml` as cli-runtime's
//! resource builder uses it, and then the decoder of typed objects.
//!
//! The same means: the same number of Deployments and of objects that cannot be read, in the same order, and Deployments
//! that are equal as typed objects. It ends at the first document that is no YAML, where kubectl reads no further; headstart
//! reads on.
//!
//! Not compared:
//! - the form of quantities and times, which headstart keeps as texts and the API server takes apart;
//! - what Go leaves to chance: two keys of one mapping that are the same only as texts (`1` and `"1"`);
//! - a value that JSON has no form for (`.nan`) where a later key replaces it: only headstart refuses it;
//! - the texts of [`generators::is_read_otherwise`], the escape `\/`, which only headstart takes, and byte order marks behind the
//!   first line;
//! - UTF-16 with the low byte first, which kubectl takes for half a character too long.

mod generators;

use generators::{deployment, file, is_read_otherwise};
use headstart::testing::{Reason, read_manifest, silence_parser};
use k8s_openapi::api::apps::v1::Deployment;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::asking::{Answer, Kind};
use crate::text::nearly;

/// Each is a whole file, of one Deployment or several.
const CASES: usize = 10_000;

/// A Deployment as JSON, or why there is none, up to where kubectl stops.
fn readings(file: &[u8]) -> Vec<Value> {
    let mut readings = Vec::new();
    for found in read_manifest(file) {
        match found {
            Ok(object) if !object.is::<Deployment>() => {}
            Ok(object) => readings.push(match object.decode::<Deployment>() {
                Ok(deployment) => json!(deployment),
                Err(_) => "broken".into(),
            }),
            Err(broken) => match broken.reason {
                Reason::NoObject(_) => readings.push("broken".into()),
                Reason::Syntax { .. } => {
                    readings.push("unreadable".into());
                    break;
                }
            },
        }
    }
    readings
}

struct File(Vec<u8>);

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) => write!(f, "{text:?}\n{text}"),
            Err(_) => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

fn kind(name: &'static str) -> Kind<File> {
    Kind {
        name,
        question: |File(bytes)| json!({"file": {"bytes": bytes, "read": readings(bytes)}}),
        ours: |File(bytes)| Answer {
            readings: readings(bytes)
                .into_iter()
                .map(|reading| reading.as_str().unwrap_or("Deployment").to_owned())
                .collect(),
            ..Answer::default()
        },
        is_yes: |answer| {
            let mut readings = answer.readings.iter();
            !answer.readings.is_empty() && readings.all(|reading| reading == "Deployment")
        },
    }
}

#[test]
fn files_are_read_as_kubectl_reads_them() {
    kind("files").compare_some(CASES, &file().prop_map(File));
}

#[test]
fn files_with_a_slip_are_read_as_kubectl_reads_them() {
    let document = deployment().prop_filter("no quantities, no times", |text| {
        !text.contains("resources") && !text.contains("creationTimestamp: 2")
    });
    let slips = nearly(document, "a0 \t\n\r:-#{}[]&*!|>'\"%@`,?~<.é\u{0}");
    let slips = slips.prop_filter("read by other rules", |text| !is_read_otherwise(text));
    silence_parser();
    kind("files with a slip").compare_some(CASES, &slips.prop_map(|text| File(text.into_bytes())));
}
