//! Tests that need nothing but this repository: the command line, the README, and the properties of every review and
//! every plan.

mod plan;
mod properties;
mod readme;
mod review;
mod structure;
mod uninstall;
