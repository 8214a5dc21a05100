//! An upgrade of headstart itself is not noticed by users who write.

use std::time::Duration;

use testbed::writes::slowest;

use crate::cluster::{alone, deployment, waiting};

/// A write that waits for a webhook that does not answer takes `timeoutSeconds`, which is 2 s.
const LATE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_upgrade_fails_no_call_and_delays_no_write() {
    let Some(turn) = alone().await else { return };
    let cluster = &*turn;
    cluster.namespace("upgrade", Some("enabled")).await;
    let before = cluster
        .sum_of_metric("apiserver_admission_webhook_fail_open_count{")
        .await;
    let calls = cluster.webhook_calls().await;
    let writes = cluster.writes("upgrade").await;
    cluster
        .kubectl(&[
            "rollout",
            "restart",
            "-n",
            "headstart",
            "deployment/headstart",
        ])
        .await;
    cluster
        .headstart
        .wait_until_ready(cluster.control_plane())
        .await
        .unwrap();
    // The old replicas serve on for a while; then they are gone.
    cluster.until_none_drains().await;
    let writes = writes.stop().await.unwrap();

    let longest = slowest(&writes);
    let failed = cluster
        .sum_of_metric("apiserver_admission_webhook_fail_open_count{")
        .await
        - before;
    eprintln!(
        "{} writes during the upgrade, the longest took {longest:?}, {failed} calls failed",
        writes.len()
    );
    assert!(writes.len() > 50, "{}", writes.len());
    assert!(
        cluster.webhook_calls().await - calls >= 50.0,
        "the writes called headstart"
    );
    assert_eq!(failed, 0.0);
    assert!(longest < LATE, "{longest:?}");

    let image = cluster.push("upgrade/app:1").await;
    cluster
        .apply(&deployment("upgrade", "after", waiting(&image)))
        .await;
    cluster.until_prefetched("upgrade", "after", 1).await;
}
