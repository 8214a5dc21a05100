//! A namespace and a node that refuse pods. Both tests wait for pauses most of the time, each in a namespace of its own: they
//! run at the same time.

use crate::scale::cluster::cluster;
use crate::scale::{quota, rejected};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_and_a_full_node_are_asked_again_later_and_not_all_the_time() {
    let mut turn = cluster().await;
    turn.keep_pods().await;
    let cluster = &*turn;
    tokio::join!(
        quota::is_said_once_not_asked_all_the_time_and_passes(cluster),
        rejected::a_node_is_asked_again_later_and_it_alone(cluster),
    );
}
