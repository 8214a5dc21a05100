//! The code that the suites with a cluster have in common.
//!
//! - [`lock`]: turns on a cluster, shared or alone, and the time of each test
//! - [`audit`]: headstart's requests to the API server, from its audit log
//! - [`is_long`], [`length`]: the effect of `HEADSTART_LONG=1`
//! - [`until`], [`deployment`]

pub mod audit;
pub mod lock;
mod times;

use std::time::Duration;

use serde_json::{Value, json};

use crate::process::Wait;

/// The user that headstart acts as.
pub const OWN_USER: &str = "system:serviceaccount:headstart:headstart";
/// The longest wait for a condition in a cluster of a few nodes, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The longest wait for a condition in a cluster of hundreds of nodes.
pub const PATIENCE_AT_SCALE: Duration = Duration::from_secs(600);

/// Waits until the condition holds, for [`PATIENCE`].
///
/// # Panics
/// Panics if it does not come to hold.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    until_within(PATIENCE, what, condition).await;
}

/// Waits until the condition holds, for [`PATIENCE_AT_SCALE`].
///
/// # Panics
/// Panics if it does not come to hold.
pub async fn until_at_scale(what: &str, condition: impl AsyncFn() -> bool) {
    until_within(PATIENCE_AT_SCALE, what, condition).await;
}

async fn until_within(limit: Duration, what: &str, condition: impl AsyncFn() -> bool) {
    if let Err(in_vain) = Wait::new(what, limit).until(condition).await {
        panic!("{in_vain}");
    }
}

/// Returns whether each test runs at its full size: `HEADSTART_LONG` is exactly `1`.
pub fn is_long() -> bool {
    std::env::var("HEADSTART_LONG").is_ok_and(|value| value == "1")
}

/// Chooses the short or the long form of something that a test does for long or often, and prints which.
pub fn length<T: std::fmt::Debug>(what: &str, short: T, long: T) -> T {
    if is_long() {
        println!("{what}: {long:?}");
        long
    } else {
        println!("{what}: {short:?} (HEADSTART_LONG=1 for {long:?})");
        short
    }
}

/// A Deployment of one replica with this pod spec.
pub fn deployment(namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "namespace": namespace, "name": name },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": spec },
        },
    })
}
