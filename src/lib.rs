//! headstart makes Kubernetes rollouts start with their images already on the nodes.
//!
//! ```text
//! AdmissionReview ─▶ webhook ─▶ pending reviews ─┐
//!                       ▲ reads                  ▼
//! watches ──────────▶ store ──── changes ──▶ driver ──▶ API server ──▶ prefetch pods
//!    ▲                                        │ ▲ events, results            │
//!    │                                        ▼ │                            │
//!    │                            core: controller, which only decides       │
//!    └───────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A review is answered at once and only recorded: its caller is not authenticated, and a later webhook may refuse the object.
//! The driver, on the elected leader only, acts on what the watches show to be stored. A new leader finds prefetch pods by
//! label and goes on.
//!
//! In a namespace in mode `hold` the webhook pauses a rollout as it is admitted, and the leader resumes it. The marks of a hold
//! are in the Deployment.
//!
//! Imports point one way: [`headstart_core`] performs no I/O and decides; `watch` feeds its store; `webhook` reads it; `driver`
//! runs its controller and sends what that commands; `run` puts them together. docs/architecture.md has the drawing.

mod ca_injector;
pub mod cli;
mod clock;
mod config;
mod driver;
mod event_recorder;
mod fence;
mod heartbeat;
mod hold_gate;
mod leader_election;
mod metrics;
mod release;
mod request_metrics;
mod run;
mod self_test;
mod server;
mod supervisor;
#[doc(hidden)]
pub mod testing;
mod tls;
mod watch;
mod watch_stream;
mod webhook;

pub use config::Config;
pub use run::run;
