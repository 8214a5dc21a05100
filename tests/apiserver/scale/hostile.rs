//! Deployments of one tenant that are as large as the API server stores them, and everybody else's.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::scale::cluster::{TestCluster, cluster, deployment, status_mib};

/// What reading them may take in passing, in MiB: the watch reads one after another, each with up to a megabyte of JSON, in a
/// list of all of them. Kept is next to nothing.
const MOST_MIB: f64 = 64.0;

fn annotated(name: &str, annotation: &str, value: String) -> Value {
    let mut object = deployment("hostile", name, "slice=3", &["acme/web:1"]);
    object["metadata"]["annotations"][annotation] = json!(value);
    object
}

fn with_spec(name: &str, spec: &Value) -> Value {
    let mut object = deployment("hostile", name, "slice=3", &["acme/web:1"]);
    json_patch::merge(&mut object["spec"]["template"]["spec"], spec);
    object
}

/// By the reason of the event that each is to have.
fn hostile(number: usize) -> (&'static str, Value) {
    let name = format!("web-{number}");
    match number % 4 {
        0 => {
            let selector = vec!["pool=none"; 25_000].join(",");
            let object = annotated(&name, "headstart.dev/node-selector", selector);
            ("InvalidAnnotation", object)
        }
        1 => {
            let images = vec!["a:1"; 60_000].join(",");
            let object = annotated(&name, "headstart.dev/images", images);
            ("InvalidAnnotation", object)
        }
        2 => {
            let toleration = |i| json!({ "key": format!("key-{i}"), "operator": "Exists" });
            let tolerations: Vec<_> = (0..10_000).map(toleration).collect();
            let object = with_spec(&name, &json!({ "tolerations": tolerations }));
            ("ImageNotPrefetched", object)
        }
        _ => {
            let container =
                |i| json!({ "name": format!("c{i}"), "image": format!("Not Valid {i}") });
            let containers: Vec<_> = (0..2_000).map(container).collect();
            let object = with_spec(&name, &json!({ "containers": containers }));
            ("ImageNotPrefetched", object)
        }
    }
}

/// The most that the leader has taken since it was started.
fn peak_mib(cluster: &TestCluster) -> f64 {
    status_mib(cluster.replicas[0].process().id().unwrap(), "VmHWM:")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_tenant_stores_costs_the_others_nothing() {
    const DEPLOYMENTS: usize = 28;
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    // A new one: what it takes at most is that of this test.
    cluster.end_replicas();
    cluster.keep_pods().await;
    cluster.namespace("hostile").await;
    cluster.namespace("peaceful").await;
    let before = peak_mib(cluster);
    let api = cluster.api::<Deployment>("hostile");
    let create = async |number: usize| {
        let object = serde_json::from_value(hostile(number).1).unwrap();
        api.create(&PostParams::default(), &object).await
    };
    for (number, limit) in [(0, "more than 4096 bytes"), (1, "more than 16384 bytes")] {
        let denied = create(number).await.unwrap_err().to_string();
        assert!(denied.contains(limit), "{denied}");
    }
    // They are stored while headstart is away, and a replica that starts with them reads them all at once.
    cluster.end_replicas();
    for number in 0..DEPLOYMENTS {
        create(number).await.unwrap();
    }
    cluster.keep_pods().await;
    let peaceful = deployment("peaceful", "web", "slice=3", &["acme/web:1"]);
    cluster.apply(&peaceful).await;
    cluster.event("peaceful", "web", "Prefetched").await;
    for number in 0..DEPLOYMENTS {
        let (reason, _) = hostile(number);
        let note = cluster
            .event("hostile", &format!("web-{number}"), reason)
            .await;
        assert!(note.len() <= 1024, "{note}");
    }
    for number in 0..4 {
        let events = cluster.events("hostile", &format!("web-{number}")).await;
        let (reason, _) = hostile(number);
        let complaints = events.iter().filter(|(found, _)| found == reason).count();
        assert!(complaints <= 4, "{events:?}");
    }
    let after = peak_mib(cluster);
    println!("at most {before:.1} MiB without them, {after:.1} MiB with them");
    assert!(after <= before + MOST_MIB);
    cluster.clear("hostile").await;
    cluster.clear("peaceful").await;
}
