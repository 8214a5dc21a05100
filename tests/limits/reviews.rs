//! Bodies that anyone may post.

use std::time::Duration;

use headstart::testing::{MAX_BODY, RequestError, ReviewResponse, Webhook};

use crate::contract::{check, webhook};
use crate::{KIB, MIB, list, peak, time, turn};

/// The most heap that an answer may take beside the body.
const MOST_HEAP: usize = MIB;

/// A body with about so many bytes of something.
type Shape = fn(usize) -> Vec<u8>;

fn review(request: &str) -> Vec<u8> {
    let head = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":"#;
    format!("{head}{request}}}").into_bytes()
}

/// Of a Deployment with these metadata, pod template's spec, and status.
fn deployment(metadata: &str, spec: &str, status: &str) -> Vec<u8> {
    let object = object(metadata, spec, status);
    request("705ab4f5", "web", "shop", &object, "null")
}

fn object(metadata: &str, spec: &str, status: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"web"{metadata}}},"spec":{{"template":{{"spec":{{{spec}}}}}}},"status":{{{status}}}}}"#
    )
}

fn request(uid: &str, name: &str, namespace: &str, object: &str, old: &str) -> Vec<u8> {
    review(&format!(
        r#"{{"uid":"{uid}","kind":{{"group":"apps","kind":"Deployment"}},"name":"{name}","namespace":"{namespace}","operation":"UPDATE","object":{object},"oldObject":{old},"dryRun":false}}"#
    ))
}

fn annotated(annotation: &str, value: &str) -> Vec<u8> {
    let metadata = format!(r#","annotations":{{"headstart.dev/{annotation}":"{value}"}}"#);
    deployment(&metadata, r#""containers":[{"image":"app:1"}]"#, "")
}

fn of_pod(spec: &str) -> Vec<u8> {
    deployment("", spec, "")
}

fn affinity(terms: &str) -> Vec<u8> {
    of_pod(&format!(
        r#""containers":[{{"image":"app:1"}}],"affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{terms}]}}}}}}"#
    ))
}

const SHAPES: &[(&str, Shape)] = &[
    ("a selector of many conditions", |n| {
        annotated("node-selector", &list(n, |_| "a".into()))
    }),
    ("a selector of many values", |n| {
        annotated(
            "node-selector",
            &format!("a in ({})", list(n, |i| i.to_string())),
        )
    }),
    ("a list of many images", |n| {
        annotated("images", &list(n, |i| format!("app:{i}")))
    }),
    ("a list of nothing", |n| annotated("images", &",".repeat(n))),
    ("a long number", |n| annotated("max-nodes", &"1".repeat(n))),
    ("an annotation in escapes", |n| {
        annotated("images", &"\\u0061".repeat(n / 6))
    }),
    ("a long mark of a hold", |n| {
        let value = "2".repeat(n);
        let metadata = format!(
            r#","labels":{{"headstart.dev/held":"true"}},"annotations":{{"headstart.dev/held-until":"{value}"}}"#
        );
        deployment(&metadata, r#""containers":[{"image":"app:1"}]"#, "")
    }),
    ("a long mode", |n| {
        let metadata = format!(
            r#","labels":{{"headstart.dev/prefetch":"{}"}}"#,
            "x".repeat(n)
        );
        deployment(&metadata, r#""containers":[{"image":"app:1"}]"#, "")
    }),
    ("a long label of somebody else", |n| {
        let metadata = format!(r#","labels":{{"app":"{}"}}"#, "\\n".repeat(n / 2));
        deployment(&metadata, r#""containers":[{"image":"app:1"}]"#, "")
    }),
    ("many annotations by our prefix", |n| {
        let annotations = list(n, |i| {
            format!(r#""headstart.dev/x{i}":"{}""#, "v".repeat(100))
        });
        deployment(&format!(r#","annotations":{{{annotations}}}"#), "", "")
    }),
    ("many labels", |n| {
        let labels = list(n, |i| format!(r#""l{i}":"""#));
        deployment(&format!(r#","labels":{{{labels}}}"#), "", "")
    }),
    ("a long key in escapes", |n| {
        let key = "\\u0061".repeat(n / 12);
        deployment(&format!(r#","{key}":1,"labels":{{"{key}":""}}"#), "", "")
    }),
    ("many containers", |n| {
        of_pod(&format!(
            r#""containers":[{}]"#,
            list(n, |i| format!(
                r#"{{"name":"c{i}","image":"registry.example/app-{i}:v1"}}"#
            ))
        ))
    }),
    ("many bad images", |n| {
        of_pod(&format!(
            r#""initContainers":[{}]"#,
            list(n, |i| format!(r#"{{"image":"Not Valid {i}"}}"#))
        ))
    }),
    ("many volumes", |n| {
        of_pod(&format!(
            r#""volumes":[{}]"#,
            list(n, |i| format!(
                r#"{{"name":"v","image":{{"reference":"app:{i}"}}}}"#
            ))
        ))
    }),
    ("empty containers", |n| {
        of_pod(&format!(r#""containers":[{}]"#, list(n, |_| "{}".into())))
    }),
    ("a long image", |n| {
        of_pod(&format!(
            r#""containers":[{{"image":"{}"}}]"#,
            "a/".repeat(n / 2)
        ))
    }),
    ("an image in escapes", |n| {
        of_pod(&format!(
            r#""containers":[{{"image":"{}"}}]"#,
            "\\u0061".repeat(n / 6)
        ))
    }),
    ("an image that is no UTF-8", |n| {
        let mut body = of_pod(&format!(
            r#""containers":[{{"image":"{}"}}]"#,
            "~".repeat(n)
        ));
        body.iter_mut()
            .filter(|byte| **byte == b'~')
            .for_each(|byte| *byte = 0xff);
        body
    }),
    ("many tolerations", |n| {
        of_pod(&format!(
            r#""containers":[{{"image":"app:1"}}],"tolerations":[{}]"#,
            list(n, |_| "{}".into())
        ))
    }),
    ("many pull secrets", |n| {
        of_pod(&format!(
            r#""imagePullSecrets":[{}]"#,
            list(n, |_| r#"{"name":"a"}"#.into())
        ))
    }),
    ("an affinity of many terms", |n| {
        affinity(&list(n, |_| "{}".into()))
    }),
    ("an affinity of many values", |n| {
        affinity(&format!(
            r#"{{"matchExpressions":[{{"key":"a","operator":"In","values":[{}]}}]}}"#,
            list(n, |i| format!(r#""{i}""#))
        ))
    }),
    ("an affinity to pods", |n| {
        let terms = list(n.min(14 * KIB), |_| "{}".into());
        let padding = "x".repeat(n.saturating_sub(14 * KIB));
        of_pod(&format!(
            r#""hostname":"{padding}","affinity":{{"podAffinity":{{"preferredDuringSchedulingIgnoredDuringExecution":[{terms}]}}}}"#
        ))
    }),
    ("deep nesting in what is not read", |n| {
        deployment(
            &format!(
                r#","managedFields":{}{}"#,
                "[".repeat(n / 2),
                "]".repeat(n / 2)
            ),
            "",
            "",
        )
    }),
    ("deep nesting where an object should be", |n| {
        of_pod(&format!(r#""containers":{}"#, r#"{"a":"#.repeat(n / 5)))
    }),
    ("many conditions", |n| {
        deployment(
            "",
            "",
            &format!(
                r#""conditions":[{}]"#,
                list(n, |_| r#"{"type":"Available","reason":"x"}"#.into())
            ),
        )
    }),
    ("a condition with a long reason", |n| {
        let reason = "\\t".repeat(n / 2);
        deployment(
            "",
            "",
            &format!(r#""conditions":[{{"type":"Progressing","reason":"{reason}"}}]"#),
        )
    }),
    ("a number of many digits", |n| {
        deployment(&format!(r#","generation":{}"#, "1".repeat(n)), "", "")
    }),
    ("a string where an object should be", |n| {
        request(
            "1",
            "web",
            "shop",
            &format!(r#"{{"metadata":"{}"}}"#, "\\u0061".repeat(n / 6)),
            "null",
        )
    }),
    ("a long uid", |n| {
        request(&"u".repeat(n), "web", "shop", "{}", "null")
    }),
    ("a long name", |n| {
        request("1", &"n".repeat(n), "shop", &object("", "", ""), "null")
    }),
    ("a long namespace in escapes", |n| {
        request(
            "1",
            "web",
            &"\\u006e".repeat(n / 6),
            &object("", "", ""),
            "null",
        )
    }),
    ("a string where a boolean should be", |n| {
        review(&format!(
            r#"{{"uid":"1","dryRun":"{}"}}"#,
            "\\u0061".repeat(n / 6)
        ))
    }),
    ("a long version", |n| {
        format!(r#"{{"apiVersion":"{}","kind":"Pod"}}"#, "v".repeat(n)).into_bytes()
    }),
    ("two objects of many images", |n| {
        let images = |tag: &str| {
            let containers = list(n / 2, |i| format!(r#"{{"image":"app-{i}:{tag}"}}"#));
            object("", &format!(r#""containers":[{containers}]"#), "")
        };
        request("1", "web", "shop", &images("1"), &images("2"))
    }),
    ("an exempt namespace", |n| {
        let containers = list(n, |i| format!(r#"{{"image":"app:{i}"}}"#));
        let object = object("", &format!(r#""containers":[{containers}]"#), "");
        request("1", "web", "kube-system", &object, "null")
    }),
];

type Path = fn(&Webhook, &[u8]) -> Result<ReviewResponse, RequestError>;

const PATHS: [(&str, Path); 3] = [
    ("/mutate", Webhook::mutate),
    ("/hold", Webhook::hold),
    ("/validate", Webhook::validate),
];

#[test]
fn no_body_takes_much_heap() {
    let _turn = turn();
    // The first answer of all makes what all share.
    check(b"{}");
    for (name, shape) in SHAPES {
        let body = shape(MAX_BODY - 64 * KIB);
        assert!(
            body.len() > 6 * MIB && body.len() <= MAX_BODY,
            "{name}: {}",
            body.len()
        );
        for (path, decide) in PATHS {
            let taken = peak(|| decide(webhook(), &body));
            assert!(taken <= MOST_HEAP, "{name} to {path}: {taken} bytes");
        }
    }
}

#[test]
fn no_body_takes_more_time_than_its_size_explains() {
    /// Shorter times are not compared: they say nothing.
    const FLOOR: Duration = Duration::from_millis(2);
    /// The number of attempts. If other processes keep the processor busy, the larger body suffers more. A quadratic
    /// time never looks linear.
    const ATTEMPTS: usize = 10;
    let _turn = turn();
    for (name, shape) in SHAPES {
        let (small, large) = (shape(MIB / 8), shape(MIB / 2));
        for (path, decide) in PATHS {
            let attempt = |_| {
                let of_small = time(|| decide(webhook(), &small));
                let of_large = time(|| decide(webhook(), &large));
                (of_small, of_large)
            };
            let mut attempts = (0..ATTEMPTS).map(attempt);
            let linear = |&(small, large): &(Duration, Duration)| large <= 5 * small + FLOOR;
            let found = attempts.find(linear);
            assert!(
                found.is_some(),
                "{name} to {path}: not linear in {ATTEMPTS} attempts"
            );
        }
    }
}

/// The same shapes are answered by the contract, at sizes about each limit.
#[test]
fn every_shape_is_answered_by_the_contract() {
    let _turn = turn();
    for (_, shape) in SHAPES {
        for bytes in [0, 30, 60, 250, 1000, 5000, 20_000, 100_000] {
            check(&shape(bytes));
        }
    }
}

/// Up to 560,000 references took seconds of a processor for each review.
#[test]
fn a_list_of_half_a_million_images_is_denied_at_once_with_the_limit() {
    let _turn = turn();
    for references in [50_000, 560_000] {
        let body = annotated("images", &vec!["a:1"; references].join(","));
        let answer = webhook().validate(&body).unwrap();
        let answer = serde_json::to_string(&answer).unwrap();
        assert!(
            answer.contains(r#""allowed":false"#) && answer.contains("more than 16384 bytes"),
            "{answer}"
        );
        assert!(answer.len() < KIB);
        let time = time(|| webhook().validate(&body));
        // Without optimisation everything takes ten times as long.
        let most = if cfg!(debug_assertions) { 150 } else { 10 };
        assert!(time < Duration::from_millis(most), "{references}: {time:?}");
    }
}

/// Of a review of an exempt namespace only the frame is read, with any objects in it.
#[test]
fn a_review_of_an_exempt_namespace_takes_next_to_nothing() {
    let _turn = turn();
    let (_, shape) = SHAPES
        .iter()
        .find(|(name, _)| *name == "an exempt namespace")
        .unwrap();
    let body = shape(MAX_BODY - 64 * KIB);
    for (path, decide) in PATHS {
        drop(decide(webhook(), &body));
        let taken = peak(|| decide(webhook(), &body));
        assert!(taken <= 2 * KIB, "{path}: {taken} bytes");
    }
}
