//! Leaders that are killed.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bed::{bed, deployment, is_long, until};

/// Nodes of the Deployment.
const NODES: usize = 150;
/// Finished pods that Kubernetes' own garbage collector leaves (`--terminated-pod-gc-threshold`'s default).
const FINISHED_KEPT: usize = 12_500;
const SELECTOR: &str = "third=true,slice in (0,1,2,3,4,5,6,7,8,9)";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_no_image_and_leaves_no_pod() {
    let mut turn = bed().await;
    let bed = turn.as_mut().unwrap();
    let kills = if is_long() { 100 } else { 10 };
    bed.namespace("failover").await;
    bed.take_turns().await;
    for kill in 1..=kills {
        // A standby is there before the leader goes.
        bed.add_replica().await;
        let image = format!("acme/web:{kill}");
        bed.apply(&deployment("failover", "web", SELECTOR, &[&image]))
            .await;
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let pause = Duration::from_millis(u64::from(nanos.subsec_micros() % 4000));
        tokio::time::sleep(pause).await;
        // SIGKILL: whatever was under way is cut off.
        drop(bed.replicas.remove(0));
        let arrived = async || {
            let warm = bed.warm("failover").await;
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
    bed.made_once("failover");
    let asked = bed.asked_for("failover").len();
    assert_eq!(asked, NODES * kills, "each pod by its own name");
    let left = bed.pods("failover", None).await.len();
    assert_eq!(left, (NODES * kills).min(FINISHED_KEPT));
    bed.clear("failover").await;
    bed.reset().await;
}
