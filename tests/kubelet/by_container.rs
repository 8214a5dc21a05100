//! Tests on nodes where images cannot be mounted: a prefetch pod has a container for each image.
//!
//! These tests follow each other, because each change of the method is a rolling update of headstart.

use testbed::harness::lock::Alone;

use crate::cluster::{BY_CONTAINER, Cluster, alone_with};
use crate::{every_image, limits, offline};

const METHOD: &str = "container";

async fn by_container() -> Option<Alone<Cluster>> {
    alone_with(Some(BY_CONTAINER)).await
}

#[tokio::test]
async fn every_kind_of_image_arrives() {
    let Some(turn) = by_container().await else {
        return;
    };
    every_image::every_kind_of_image_arrives(&turn, METHOD).await;
}

#[tokio::test]
async fn a_missing_image_is_reported() {
    let Some(turn) = by_container().await else {
        return;
    };
    every_image::a_missing_image_is_reported(&turn, METHOD).await;
}

#[tokio::test]
async fn a_limit_range_is_no_obstacle() {
    let Some(turn) = by_container().await else {
        return;
    };
    limits::a_limit_range_is_no_obstacle_to(&turn, METHOD).await;
}

#[tokio::test]
async fn a_rollout_starts_with_the_registry_off_and_others_do_not_get_the_image() {
    let Some(mut turn) = by_container().await else {
        return;
    };
    offline::starts_with_the_registry_off(&mut turn, METHOD).await;
}
