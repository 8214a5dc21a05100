//! Asks Kubernetes' own libraries the same questions as headstart, 100,000 of each kind and 10,000 files, and wants the same
//! answers.
//!
//! The libraries are Go: `tests/testbed/go/oracle` speaks for them. A failure prints the smallest question that shows
//! the difference, and the seed. `HEADSTART_SEED` asks the questions of a seed again, `HEADSTART_CASES` fewer or more
//! of them.
//!
//! One difference is meant: where Kubernetes keeps apart the three ways to say that a label equals a value (`=`, `==`,
//! and `in` with one value), headstart has one. The oracle answers with that one.

mod affinity;
mod asking;
mod file;
mod fit;
mod image;
mod restricted;
mod selector;
mod text;
mod tolerations;
