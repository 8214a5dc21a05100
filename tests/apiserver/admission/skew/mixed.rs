//! Replicas of both releases at the same time: one answers the API server, the other leads.

use std::time::Duration;

use futures::future::join_all;
use headstart_core::api::hold_mark::HoldMark;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;

use super::{Release, Skew, is_held, leads, previous_release};
use crate::admission::replica::Replica;

/// Deployments that roll out at the same time, and how often each is updated.
const DEPLOYMENTS: usize = 25;
const UPDATES: usize = 4;

/// The time that a hold had left when it ended.
async fn update(skew: &Skew, name: &str, image: &str) -> Duration {
    let updated = skew.update(name, image).await;
    let mark = HoldMark::read(&updated).filter(|mark| mark.paused);
    let mark = mark.unwrap_or_else(|| panic!("{name} is not held for {image}: {updated:?}"));
    skew.goes_on(name).await;
    let left = mark.until.unwrap().duration_since(Timestamp::now());
    Duration::try_from(left).unwrap_or_default()
}

/// Updates each Deployment, one image after the other. Returns how many holds there were, and the least time that one had left.
async fn updates(skew: &Skew, round: &str) -> (usize, Duration) {
    let each = (0..DEPLOYMENTS).map(async |index| {
        let name = format!("web-{index}");
        let mut left = Vec::new();
        for version in 0..UPDATES {
            let image = format!("registry.example/{name}:{round}-{version}");
            left.push(update(skew, &name, &image).await);
        }
        left
    });
    let left: Vec<Duration> = join_all(each).await.concat();
    (left.len(), left.into_iter().min().unwrap_or_default())
}

/// Updates everything while one replica answers the API server and another leads.
async fn hold_and_resume(skew: &Skew, what: &str, gate: &Replica, leader: &Replica) {
    skew.register(Release::This, gate.port).await;
    let failed = skew.installation.failed_open().await;
    let (holds, least) = updates(skew, what).await;
    let failed = skew.installation.failed_open().await - failed;
    assert_eq!(failed, 0.0, "{:?}", skew.installation.call_errors());
    println!("{what}: {holds} updates held and resumed, at least {least:?} before their time");
    assert!(least > Duration::ZERO, "one was overdue");
    assert_eq!([gate.leads().await, leader.leads().await], [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_and_a_leader_of_different_releases_hold_and_resume_every_update() {
    let Some(previous) = previous_release().await else {
        return;
    };
    let skew = Skew::new(previous).await;
    let old = skew.replica(Release::Previous).await;
    leads(&old).await;
    let new = skew.replica(Release::This).await;
    join_all((0..DEPLOYMENTS).map(async |index| {
        let name = format!("web-{index}");
        skew.create(&name, &format!("registry.example/{name}:0"))
            .await;
        skew.goes_on(&name).await;
    }))
    .await;
    hold_and_resume(&skew, "gate-of-this-release", &new, &old).await;

    old.signal("-TERM").await;
    leads(&new).await;
    assert!(old.ended().await.success(), "{}", old.log());
    let old = skew.replica(Release::Previous).await;
    hold_and_resume(&skew, "gate-of-the-previous-release", &old, &new).await;

    let all = skew.deployments.list(&ListParams::default()).await.unwrap();
    assert!(!all.iter().any(is_held));
    drop((old, new));
    skew.end().await;
}
