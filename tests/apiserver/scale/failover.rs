//! Leaders that are killed.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testbed::harness::length;

use crate::scale::cluster::{cluster, deployment, third_of_slice, until};

/// Finished pods that Kubernetes' own garbage collector leaves (`--terminated-pod-gc-threshold`'s default).
const FINISHED_KEPT: usize = 12_500;
/// Half of the slices.
const SELECTOR: &str = "third=true,slice in (0,1,2,3,4,5,6,7,8,9)";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_no_image_and_leaves_no_pod() {
    let mut turn = cluster().await;
    let cluster = &mut *turn;
    let kills = length("kills", 3, 100);
    let nodes = 10 * third_of_slice();
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
            let on: BTreeSet<_> = of_web.into_iter().filter(|(_, i)| *i == image).collect();
            on.len()
        };
        until(
            &format!("kill {kill}: {image} on {nodes} nodes"),
            async || arrived().await == nodes,
        )
        .await;
        eprintln!("kill {kill} of {kills}, {pause:?} after the write: all {nodes} nodes are warm");
    }
    cluster.made_once("failover");
    let asked = cluster.asked_for("failover").len();
    assert_eq!(asked, nodes * kills, "each pod by its own name");
    let left = cluster.pods("failover", None).await.len();
    assert_eq!(left, (nodes * kills).min(FINISHED_KEPT));
    cluster.clear("failover").await;
}
