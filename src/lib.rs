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
//! Where it is asked for, a rollout waits for its images: [`hold`] has the webhook pause it as it is admitted, and the worker
//! resume it. All that is known of a hold is in the Deployment.
//!
//! Imports point one way: [`domain`] imports nobody here and is pure; [`cluster`] and [`queue`] know it; [`webhook`] knows those and
//! `hold`; [`worker`] knows those, [`puller`], [`whereabouts`] and [`report`]; [`run`] puts them together.

pub mod api_calls;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod hold;
pub mod leader;
pub mod metrics;
pub mod puller;
pub mod queue;
pub mod registration;
pub mod report;
pub mod run;
pub mod self_test;
pub mod server;
pub mod tls;
pub mod webhook;
pub mod whereabouts;
pub mod worker;

pub use headstart_core as domain;
