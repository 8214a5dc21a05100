//! An upgrade and a rollback with holds open: the other release's leader ends them, and nothing is prefetched again.

use std::time::Duration;

use serde_json::json;
use testbed::FakeNodes;

use super::{NODES, Release, Skew, is_held, leads, marks, previous_release};
use crate::admission::installation::until;
use crate::admission::replica::Replica;

/// Longer than a replica takes to hand over.
const SLOW: std::ops::Range<Duration> = Duration::from_secs(4)..Duration::from_secs(5);

impl Skew {
    /// Creates a Deployment that is held, and waits until the leader pulls its images.
    async fn create_held(&self, name: &str) {
        let created = self
            .create(name, &format!("registry.example/{name}:1"))
            .await;
        assert!(is_held(&created), "{name}: {created:?}");
        until(&format!("the prefetch of {name}"), async || {
            self.prefetch_pods(name).await.len() == NODES
        })
        .await;
    }

    /// The same, until its end.
    async fn rolls_out(&self, name: &str) {
        self.create_held(name).await;
        self.goes_on(name).await;
    }

    /// Stops the leader while a hold is open. The next one was there before, and ends it.
    async fn takes_over(&self, leader: Replica, next: &Replica, held: &str) {
        leader.signal("-TERM").await;
        leads(next).await;
        self.goes_on(held).await;
        assert!(leader.ended().await.success(), "{}", leader.log());
        let ends = |replica: &Replica| {
            let log = replica.log();
            let mut lines = log.lines();
            lines.any(|line| line.contains("resumed") && line.contains(held))
        };
        assert_eq!([ends(&leader), ends(next)], [false, true], "{held}");
    }
}

#[tokio::test]
async fn an_upgrade_and_a_rollback_end_each_others_holds_and_prefetch_nothing_again() {
    let Some(previous) = previous_release().await else {
        return;
    };
    let skew = Skew::new(previous).await;
    let cluster = skew.installation.cluster;
    let pulls = async |pull: std::ops::Range<Duration>| {
        let fake = FakeNodes {
            count: 0,
            pull,
            ..FakeNodes::default()
        };
        cluster.add_fake_nodes(fake, |_, _| {}).await.unwrap();
    };
    let failed = skew.installation.failed_open().await;

    skew.apply(Release::Previous, 1).await;
    let old = skew.replica(Release::Previous).await;
    leads(&old).await;
    skew.register(Release::Previous, old.port).await;
    skew.rolls_out("old").await;

    // The upgrade. The manifests come first: their policies allow what the previous release does, and their webhooks reach it.
    skew.register(Release::This, old.port).await;
    skew.rolls_out("old-by-new-manifests").await;
    let new = skew.replica(Release::This).await;
    pulls(SLOW).await;
    skew.create_held("upgraded").await;
    // As a version after this one would: nothing changes, and they go with the other marks.
    let later = json!({ "metadata": {
        "labels": { "headstart.dev/held-by": "later" }, "annotations": { "headstart.dev/held-x": "later" },
    } });
    let marked = skew.patch("upgraded", later).await;
    assert_eq!(marks(&marked).len(), 5, "{marked:?}");
    skew.takes_over(old, &new, "upgraded").await;
    pulls(FakeNodes::default().pull).await;
    skew.register(Release::This, new.port).await;
    skew.rolls_out("new").await;

    // The rollback: the previous manifests first, while this release still leads.
    skew.register(Release::Previous, new.port).await;
    skew.rolls_out("new-by-old-manifests").await;
    let old = skew.replica(Release::Previous).await;
    pulls(SLOW).await;
    skew.create_held("rolled-back").await;
    skew.takes_over(new, &old, "rolled-back").await;
    pulls(FakeNodes::default().pull).await;
    skew.register(Release::Previous, old.port).await;
    skew.rolls_out("old-again").await;

    let failed = skew.installation.failed_open().await - failed;
    assert_eq!(failed, 0.0, "{:?}", skew.installation.call_errors());
    // Each Deployment has had one prefetch pod on each node, and no other since.
    for (name, tag) in [
        ("old", "v1"),
        ("old-by-new-manifests", "v1"),
        ("upgraded", "v1"),
        ("new", "v2"),
        ("new-by-old-manifests", "v2"),
        ("rolled-back", "v2"),
        ("old-again", "v1"),
    ] {
        let pods = skew.prefetch_pods(name).await;
        assert_eq!(pods.len(), NODES, "{name}: {pods:?}");
        let made = pods.values().filter(|image| image.ends_with(tag));
        assert_eq!(made.count(), NODES, "{name} by {tag}: {pods:?}");
    }
    drop(old);
    skew.end().await;
}
