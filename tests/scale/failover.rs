//! Leaders that are killed.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bed::{bed, deployment, is_long, until};

/// Nodes of the Deployment.
const NODES: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_no_image_and_leaves_no_pod() {
    let mut turn = bed().await;
    let bed = turn.as_mut().unwrap();
    let kills = if is_long() { 100 } else { 10 };
    bed.namespace("failover").await;
    bed.keep_pods().await;
    for kill in 1..=kills {
        // A standby is there before the leader goes.
        bed.add_keeping_replica().await;
        let image = format!("acme/web:{kill}");
        bed.apply(&deployment("failover", "web", "third=true", &[&image]))
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
    // One that was on its way when its sender was killed may be stored and yet not be answered with 201.
    let mut made = BTreeSet::new();
    for create in bed.writes("failover", "create") {
        if create.code == 201 {
            assert!(!create.name.is_empty());
            assert!(
                made.insert(create.name.clone()),
                "{} was made twice",
                create.name
            );
        }
    }
    assert!(made.len() > NODES * kills * 9 / 10, "{}", made.len());
    assert_eq!(bed.pods("failover", None).await.len(), NODES * kills);
    bed.clear("failover").await;
    bed.reset().await;
}
