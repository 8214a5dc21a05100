//! headstart makes Kubernetes rollouts start with their images already on the nodes.
//!
//! ```text
//! AdmissionReview ─▶ webhook ─▶ hints ─┐
//!                                      ▼
//! Deployment watch ─▶ cluster ─▶ queue ─▶ worker ─▶ plan ─▶ puller ─▶ prefetch pods
//! Node, Pod watch  ─────┘                   ▲        (pure)                │
//!                                           └── outcomes ◀── Pod watch ◀───┘ ─▶ report, metrics
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
//! and `hold`; `worker` knows those, `puller`, `whereabouts` and `report`; `run` puts them together.

// The next commit narrows what is `pub` in the rooms.
#![allow(unreachable_pub)]

mod api_calls;
pub mod cli;
mod clock;
mod cluster;
mod config;
mod hold;
mod leader;
mod metrics;
mod puller;
mod queue;
mod registration;
mod report;
mod run;
mod self_test;
mod server;
#[doc(hidden)]
pub mod testing;
mod tls;
mod webhook;
mod whereabouts;
mod worker;

pub use config::Config;
pub use run::run;
