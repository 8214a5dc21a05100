//! Leaders that are killed.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::scale::cluster::{cluster, deployment, is_long, until};

/// Nodes of the Deployment.
const NODES: usize = 150;
/// Finished pods that Kubernetes' own garbage collector leaves (`--terminated-pod-gc-threshold`'s default).
const FINISHED_KEPT: usize = 12_500;
const SELECTOR: &str = "third=true,slice in (0,1,2,3,4,5,6,7,8,9)";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_no_image_and_leaves_no_pod() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    let kills = if is_long() { 100 } else { 10 };
    cluster.namespace("failover").await;
    cluster.take_turns().await;
    for kill in 1..=kills {
        // A standby is there before the leader goes.
        cluster.add_replica().await;
        let image = format!("acme/web:{kill}");
        cluster
            .apply(&deployment("failover", "web", SELECTOR, &[&image]))
            .await;
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let pause = Duration::from_millis(u64::from(nanos.subsec_micros() % 4000));
        tokio::time::sleep(pause).await;
        // SIGKILL: whatever was under way is cut off.
        drop(cluster.replicas.remove(0));
        let arrived = async || {
            let warm = cluster.warm("failover").await;
            let of_web = warm.get("web").cloned().unwrap_or_default();
            let nodes: BTreeSet<_> = of_web.into_iter().filter(|(_, i)| *i == image).collect();
            nodes.len()
        };
        until(
            &format!("kill {kill}: {image} on {NODES} nodes"),
            async || arrived().await == NODES,
        )
        .await;
        eprintln!("kill {kill} of {kills}, {pause:?} after the write: all {NODES} nodes are warm");
    }
    cluster.made_once("failover");
    let asked = cluster.asked_for("failover").len();
    assert_eq!(asked, NODES * kills, "each pod by its own name");
    let left = cluster.pods("failover", None).await.len();
    assert_eq!(left, (NODES * kills).min(FINISHED_KEPT));
    cluster.clear("failover").await;
    cluster.reset().await;
}
