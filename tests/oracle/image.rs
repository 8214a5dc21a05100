//! Image references, against `github.com/distribution/reference` as containerd uses it.

use headstart_core::image::ImageRef;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::json;

use crate::asking::{Answer, Kind};
use crate::text::{long, nearly, one_of};

const ALPHABET: &str = "aAzZ059.-_:/@+[]% \n\0éİK";

fn host() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        8 => one_of(&["docker.io", "localhost", "ghcr.io", "Host", "a_b.io", "10.0.0.1", "[::1]"]),
        4 => one_of(&[
            "docker.io", "index.docker.io", "localhost", "ghcr.io", "a", "A", "Host", "10.0.0.1", "[::1]", "[2001:db8::1]",
            "[fe80::1%eth0]", "a_b.io", "a..b", "-a.io", "a-.io", "a--b.io", "a__b.c", "docker.io.", "registry-1.x.y.z",
        ]),
        1 => "[a-zA-Z0-9.-]{1,8}",
        1 => "[a-z]{1,3}[._-]{1,3}[a-z]{1,3}",
    ];
    let port = prop_oneof![
        9 => Just(String::new()),
        3 => Just(":5000".to_owned()),
        1 => one_of(&[":0", ":", ":a", ":99999999", ":5000:1"]),
    ];
    (host, port).prop_map(|(host, port)| host + &port)
}

fn path() -> impl Strategy<Value = String> {
    let component = prop_oneof![
        12 => one_of(&["nginx", "library", "a", "a.b", "a__b", "a----b"]),
        2 => one_of(&[
            "nginx", "library", "a", "0", "a.b", "a_b", "a__b", "a___b", "a-b", "a----b", "a.-b", "a..b", "A", "_a", "a_", "",
            "localhost",
        ]),
        1 => "[a-z0-9]{1,4}([._-]{1,3}[a-z0-9]{1,4}){0,2}",
    ];
    prop_oneof![
        20 => vec(component, 1..4).prop_map(|parts| parts.join("/")),
        1 => long(236..=262),
        1 => long(63..=65),
    ]
}

fn tag() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => one_of(&["latest", "1.27", "V1.0_x"]),
        2 => one_of(&["_", "V1.0_x", "-1", ".1", "a.b-c", "", "1:2", "a/b"]),
        2 => "[a-zA-Z0-9_.-]{1,8}",
        1 => long(126..=130),
    ]
}

fn digest() -> impl Strategy<Value = String> {
    let algorithm = one_of(&[
        "sha256",
        "sha256",
        "sha256",
        "sha384",
        "sha512",
        "SHA256",
        "md5",
        "sha256+b64",
        "sha1",
        "blake3",
        "",
    ]);
    let length = prop_oneof![
        5 => Just(64_usize), 2 => Just(96), 2 => Just(128), 1 => Just(32), 1 => Just(63), 1 => 0_usize..140,
    ];
    let digit = one_of(&["0", "9", "a", "f", "a", "f", "F", "g"]);
    (algorithm, length, digit)
        .prop_map(|(a, length, digit)| format!("{a}:{}", digit.repeat(length)))
}

fn references() -> impl Strategy<Value = String> {
    let parts = (
        option::of(host()),
        path(),
        option::of(tag()),
        option::weighted(0.3, digest()),
    );
    let reference = parts.prop_map(|(host, path, tag, digest)| {
        let host = host.map(|host| format!("{host}/")).unwrap_or_default();
        let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = digest
            .map(|digest| format!("@{digest}"))
            .unwrap_or_default();
        format!("{host}{path}{tag}{digest}")
    });
    let id = (62_usize..67).prop_map(|length| "0f".repeat(34)[..length].to_owned());
    prop_oneof![30 => nearly(reference, ALPHABET), 1 => nearly(id, ALPHABET), 1 => any::<String>()]
}

#[test]
fn references_are_normalised_as_containerd_does() {
    let kind = Kind {
        name: "image references",
        question: |reference: &String| json!({"image": reference}),
        ours: |reference| match reference.parse::<ImageRef>() {
            Ok(image) => Answer {
                image: image.to_string(),
                ..Answer::default()
            },
            Err(_) => Answer {
                refused: true,
                ..Answer::default()
            },
        },
        is_yes: |answer| !answer.refused,
    };
    kind.compare(&references());
}
