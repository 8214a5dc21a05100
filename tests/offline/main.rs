//! What needs nothing but this repository: the command line, the README, and what holds of every review and every plan.

mod plan;
mod properties;
mod readme;
mod review;
mod structure;
mod uninstall;
