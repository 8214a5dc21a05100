//! The sample that the manifests come with.

use crate::cluster::{shared, until};

#[tokio::test]
async fn the_sample_nginx_arrives_on_all_labelled_nodes_and_its_finished_pods_go() {
    let Some(turn) = shared().await else { return };
    let cluster = &*turn;
    // The registry here stands in for the public one: the name is the sample's but for the host.
    let image = cluster.push("nginx:1.29").await;
    let sample = include_str!("../../manifests/samples/nginx.yaml");
    let sample = sample.replace("image: nginx:1.29", &format!("image: {image}"));
    assert!(
        sample.contains(&image),
        "the sample runs another image than this test pushes"
    );
    for node in ["node-2", "node-3"] {
        cluster
            .nodes
            .label(node, "nginx-schedulable", "true")
            .await
            .unwrap();
    }
    cluster
        .control_plane()
        .kubectl_with_input(&["apply", "-f", "-"], &sample)
        .await
        .unwrap();
    cluster.until_prefetched("nginx-sample", "nginx", 1).await;
    assert_eq!(cluster.nodes_with(&image).await, ["node-2", "node-3"]);
    cluster.until_complete("nginx-sample", "nginx").await;
    until("the finished prefetch pods to be removed", async || {
        cluster
            .prefetch_pods("nginx-sample", "nginx")
            .await
            .is_empty()
    })
    .await;
    cluster
        .control_plane()
        .kubectl_with_input(&["delete", "-f", "-"], &sample)
        .await
        .unwrap();
}
