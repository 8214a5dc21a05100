//! headstart makes Kubernetes rollouts start with their images already on the nodes.
//!
//! ```text
//! AdmissionReview ─▶ webhook ─▶ hints ─┐
//!                                      ▼
//! Deployment watch ─▶ cluster ─▶ queue ─▶ worker ─▶ plan ─▶ puller ─▶ prefetch pods
//! Node, Pod watch  ─────┘                   ▲        (pure)                │
//!                                           └── outcomes ◀── Pod watch ◀───┘ ─▶ event_recorder, metrics
//! ```
//!
//! A review is answered at once and only *noted*: its caller is not authenticated, and a later webhook may still
//! refuse the object. The worker, on the elected leader only, acts on what the watches show to be stored. What it
//! knows can be listed: a restart finds prefetch pods by label and goes on.
//!
//! Where it is asked for, a rollout waits for its images: `hold` has the webhook pause it as it is admitted, and the worker
//! resume it. All that is known of a hold is in the Deployment.
//!
//! Imports point one way: [`headstart_core`] imports nobody here and is pure; `cluster` and `queue` know it; `webhook` knows those
//! and `hold`; `worker` knows those, `puller`, `whereabouts` and `event_recorder`; `run` puts them together.

pub mod cli;
mod clock;
mod request_metrics;
// `unreachable_pub` is allowed in the rooms that the controller in core and the driver replace.
mod ca_injector;
#[allow(unreachable_pub)]
mod cluster;
mod config;
mod event_recorder;
#[allow(unreachable_pub)]
mod hold;
mod leader_election;
mod metrics;
#[allow(unreachable_pub)]
mod puller;
#[allow(unreachable_pub)]
mod queue;
mod run;
mod self_test;
mod server;
#[doc(hidden)]
pub mod testing;
mod tls;
mod webhook;
#[allow(unreachable_pub)]
mod whereabouts;
#[allow(unreachable_pub)]
mod worker;

pub use config::Config;
pub use run::run;
