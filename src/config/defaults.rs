//! Defaults that several commands share.

/// The namespace that headstart runs in.
pub(crate) const DEFAULT_NAMESPACE: &str = "headstart";
/// headstart's own image for a plan, which starts nothing: what the manifests install.
pub(crate) const DEFAULT_NOOP_IMAGE: &str = concat!("headstart:v", env!("CARGO_PKG_VERSION"));
/// The PriorityClass that the manifests install.
pub(crate) const DEFAULT_PRIORITY_CLASS: &str = "headstart-prefetch";
/// How long a prefetch pod may take.
pub(crate) const DEFAULT_POD_DEADLINE: &str = "30m";
