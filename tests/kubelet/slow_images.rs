//! Images whose pull takes a while.

use crate::cluster::Cluster;

pub(crate) const IMAGE_BYTES: u64 = 12 << 20;

/// Pushes an image, and limits what each node gets from the registry. The limit stays until it is lifted.
pub(crate) async fn push_slow(
    cluster: &Cluster,
    name: &str,
    seed: u64,
    bytes_per_second: u64,
) -> String {
    let registry = cluster.nodes.registry();
    let image = cluster.image(name).random_layer(IMAGE_BYTES, seed);
    let image = registry.push(name, &image).await.unwrap();
    registry.limit_bandwidth(bytes_per_second).await.unwrap();
    image
}
