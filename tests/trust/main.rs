//! Can a platform team trust this webhook? Real API server, real headstart processes.
//!
//! One control plane for all tests, one installation at a time. `HEADSTART_LONG=1` takes the lengths that a release is
//! judged by; each test prints how long and how often it went.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod bad_input;
mod callers;
mod certificates;
mod client;
mod conformance;
mod consent;
mod forwarder;
mod healthy;
mod holds;
mod hostile;
mod installation;
mod load;
mod policy;
mod replica;
mod replicas;

/// The short or the long form of something that a test does for long or often.
fn length<T: std::fmt::Debug>(what: &str, short: T, long: T) -> T {
    let is_long = std::env::var_os("HEADSTART_LONG").is_some();
    let chosen = if is_long { long } else { short };
    println!(
        "{what}: {chosen:?}{}",
        if is_long {
            ""
        } else {
            " (HEADSTART_LONG=1 for more)"
        }
    );
    chosen
}
