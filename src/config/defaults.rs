//! Defaults that several commands share.

/// The namespace that headstart runs in.
pub(crate) const DEFAULT_NAMESPACE: &str = "headstart";
/// headstart's own image for a plan, which starts no pods: the image that the manifests install.
pub(crate) const DEFAULT_NOOP_IMAGE: &str = concat!("headstart:v", env!("CARGO_PKG_VERSION"));
/// The PriorityClass that the manifests install.
pub(crate) const DEFAULT_PRIORITY_CLASS: &str = "headstart-prefetch";
/// The limit for the duration of a prefetch pod.
pub(crate) const DEFAULT_POD_DEADLINE: &str = "30m";
