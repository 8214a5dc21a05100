//! Can a platform team trust this webhook?
//!
//! One control plane with two nodes for all tests, one installation at a time. Each test prints how long and how often it
//! went.

mod bad_input;
mod callers;
mod certificates;
mod client;
mod conformance;
mod consent;
mod forwarder;
mod gate;
mod healthy;
mod holds;
mod hostile;
mod installation;
mod load;
mod policy;
mod replica;
mod replicas;
mod skew;
mod supervision;
