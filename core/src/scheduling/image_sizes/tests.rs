use super::*;
use crate::testing::{node_info, wants};
use serde_json::{Value, json};

const GIB: u64 = 1 << 30;

/// A node that reports these images of the Docker Hub, by name and size, and has this storage.
fn node(images: &[(&str, u64)], storage: &str) -> NodeInfo {
    let images = images.iter().map(
        |(name, bytes)| json!({"names": [format!("docker.io/library/{name}")], "sizeBytes": bytes}),
    );
    let images: Vec<Value> = images.collect();
    node_info(&json!({"status": {
        "images": images, "allocatable": {"ephemeral-storage": storage},
    }}))
}

fn sizes(images: &[&str], nodes: &[NodeInfo], max: &str) -> ImageSizes {
    ImageSizes::of(&wants(images).images, nodes, max.parse().unwrap())
}

fn reason(sizes: &ImageSizes, node: &NodeInfo) -> Option<String> {
    sizes.filter(node).map(|why| why.to_string())
}

#[test]
fn the_limit_is_read_and_printed() {
    for (text, printed) in [
        ("10Gi", "10Gi"),
        ("1536Mi", "1536Mi"),
        ("2048Mi", "2Gi"),
        ("1.5Gi", "1536Mi"),
        ("2097152", "2Mi"),
        ("0", "none"),
        ("none", "none"),
    ] {
        let max: MaxImageSize = text.parse().unwrap();
        assert_eq!(max.to_string(), printed);
        assert_eq!(max.to_string().parse(), Ok(max));
    }
    for wrong in ["", "big", "1k", "-1Gi", "10 GiB"] {
        let error = wrong.parse::<MaxImageSize>().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{wrong:?} is no size")),
            "{error}"
        );
    }
}

#[test]
fn an_image_above_the_limit_goes_to_no_node_that_lacks_it() {
    let has = node(&[("a:1", 3 * GIB), ("b:1", GIB)], "100Gi");
    let lacks = node(&[], "100Gi");
    let sizes_of = |images: &[&str], max| sizes(images, std::slice::from_ref(&has), max);
    let both = sizes_of(&["b:1", "a:1"], "2Gi");
    let why = "image \"a:1\" takes 3Gi, and --max-image-size allows 2Gi";
    assert_eq!(reason(&both, &lacks).as_deref(), Some(why));
    assert_eq!(both.too_large().map(|large| large.image), Some("a:1"));
    assert_eq!(reason(&both, &has), None, "nothing is pulled");
    for (images, max) in [
        (&["b:1"], "2Gi"),
        (&["a:1"], "3Gi"),
        (&["c:1"], "1Mi"),
        (&["a:1"], "0"),
    ] {
        let sizes = sizes_of(images, max);
        assert_eq!(reason(&sizes, &lacks), None, "{images:?} {max}");
        assert_eq!(sizes.too_large(), None, "{images:?} {max}");
    }
}

#[test]
fn of_several_sizes_the_smallest_counts() {
    let nodes = [
        node(&[("a:1", 9 * GIB)], "100Gi"),
        node(&[("a:1", GIB)], "100Gi"),
        node(&[("a:1", 0)], "100Gi"),
    ];
    assert!(sizes(&["a:1"], &nodes[..1], "2Gi").too_large().is_some());
    let mut known = sizes(&["a:1"], &nodes[..1], "2Gi");
    assert!(!known.learn(&nodes[2]) && known.learn(&nodes[1]));
    assert!(!known.learn(&nodes[0]));
    assert_eq!(known.too_large(), None);
    assert_eq!(known, sizes(&["a:1"], &nodes, "2Gi"));
}

#[test]
fn a_node_without_room_for_what_it_lacks_is_left_out() {
    let has = node(&[("a:1", 4 * GIB), ("b:1", 4 * GIB)], "100Gi");
    let sizes = sizes(&["a:1", "b:1"], &[has], "10Gi");
    let why = |images: &[(&str, u64)], storage| reason(&sizes, &node(images, storage));
    assert_eq!(why(&[], "8Gi"), None);
    assert_eq!(
        why(&[], "7Gi").unwrap(),
        "the images take 8Gi, the node has at most 7Gi of disk left"
    );
    assert_eq!(
        why(&[("c:1", 10 * GIB)], "17Gi").unwrap(),
        "the images take 8Gi, the node has at most 7Gi of disk left"
    );
    assert_eq!(why(&[("a:1", 4 * GIB)], "8Gi"), None, "it lacks b:1");
    assert_eq!(
        why(&[("c:1", 10 * GIB)], "9Gi"),
        None,
        "images are elsewhere"
    );
    assert_eq!(
        reason(&sizes, &node_info(&json!({}))),
        None,
        "it does not say"
    );
}
