//! Turns on the cluster, shared or alone, and the options of headstart's environment that tests ask for.

use testbed::harness::lock::{Alone, ClusterLock, Shared};
use testbed::{nodes, progress};

use crate::cluster::Cluster;

pub(crate) const HOLDS_OFF: &str = "HEADSTART_HOLD=off";
pub(crate) const BY_CONTAINER: &str = "HEADSTART_PULL_METHOD=container";
pub(crate) const AFFINITY: &str = "HEADSTART_PIN=affinity";
pub(crate) const POD_LABELS: &str = "HEADSTART_POD_LABELS=team=shop";
pub(crate) const ANY_USER: &str = "HEADSTART_RUN_AS_USER=none";
pub(crate) const SMALL_IMAGES: &str = "HEADSTART_MAX_IMAGE_SIZE=1Mi";
/// The options of headstart's environment that tests ask for, in the order of their turns.
const OPTIONS: [&str; 6] = [
    HOLDS_OFF,
    BY_CONTAINER,
    AFFINITY,
    POD_LABELS,
    ANY_USER,
    SMALL_IMAGES,
];

/// Pulls and their reports take a kubelet seconds, and little of the machine: several tests that stay in their own namespaces
/// run at a time.
static CLUSTER: ClusterLock<Cluster> = ClusterLock::new(4);

/// A turn on the cluster for a test that stays in its own namespaces and counts nothing else; `None` where there can be no
/// cluster.
pub(crate) async fn shared() -> Option<Shared<Cluster>> {
    is_possible().then_some(())?;
    let cluster = CLUSTER.shared(Cluster::start).await;
    cluster.has_option(None).await;
    Some(cluster)
}

/// A turn alone on the cluster for a test that restarts something, changes what all namespaces have in common, or counts
/// calls; `None` where there can be no cluster.
pub(crate) async fn alone() -> Option<Alone<Cluster>> {
    alone_with(None).await
}

/// As [`alone`], for a test that has headstart run with this option after a while.
pub(crate) async fn alone_until(option: &'static str) -> Option<Alone<Cluster>> {
    alone_in(rank(Some(option)), None).await
}

/// As [`alone`], with this option of headstart's environment, such as [`AFFINITY`]. It stays until a test asks for another.
pub(crate) async fn alone_with(option: Option<&'static str>) -> Option<Alone<Cluster>> {
    alone_in(rank(option), option).await
}

async fn alone_in(rank: u8, option: Option<&'static str>) -> Option<Alone<Cluster>> {
    is_possible().then_some(())?;
    let cluster = CLUSTER.alone_in(rank, Cluster::start).await;
    cluster.has_option(option).await;
    Some(cluster)
}

/// Returns when it is the turn of the tests with an option. Each change of it is a rolling update of headstart, so those without go first
/// and those with the same follow each other.
fn rank(option: Option<&str>) -> u8 {
    let known = OPTIONS.iter().position(|known| Some(*known) == option);
    assert_eq!(
        known.is_some(),
        option.is_some(),
        "{option:?} is in OPTIONS"
    );
    known.map_or(0, |position| u8::try_from(position + 1).unwrap())
}

fn is_possible() -> bool {
    let reason = nodes::unavailable();
    if let Some(reason) = &reason {
        progress::say(&format!(
            "SKIPPED, nothing on real nodes was tested: {reason}"
        ));
    }
    reason.is_none()
}
