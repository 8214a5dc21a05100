//! The main job on real nodes: kubelets, containerd, a registry, and headstart installed from its manifests.
//!
//! As root on Linux; elsewhere every test says that it is skipped, and why. The tests have one cluster. Those that stay in
//! their own namespaces share it; those that change it or count calls take it alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod by_container;
mod cluster;
mod crash;
mod disk;
mod drain;
mod every_image;
mod failures;
mod hold;
mod images_arrive;
mod left_alone;
mod limits;
mod narrowed;
mod offline;
mod pod_slots;
mod policies;
mod pull_secrets;
mod quotas;
mod race;
mod resources;
mod samples;
mod sharing;
mod slow_images;
mod turns;
mod uninstall;
mod upgrade;
