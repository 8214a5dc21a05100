//! headstart's contract with its users: labels, annotations, and their values.

pub mod annotations;
pub mod hold_mark;
pub mod mode;
pub mod well_known;
