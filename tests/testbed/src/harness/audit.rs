//! headstart's requests to the API server, from its audit log ([`crate::control_plane::Options::audit`]).

use super::OWN_USER;
use crate::control_plane::{AuditEvent, ControlPlane};

/// Returns headstart's requests for pods of a namespace with this verb, with any answer.
///
/// # Panics
/// Without an audit log.
pub fn requests_for_pods(plane: &ControlPlane, namespace: &str, verb: &str) -> Vec<AuditEvent> {
    let of_headstart = own_requests(plane, namespace).into_iter();
    of_headstart
        .filter(|event| event.namespace == namespace)
        .filter(|event| event.verb == verb && event.resource == "pods")
        .collect()
}

/// All requests that headstart has made.
///
/// # Panics
/// Without an audit log.
pub fn requests(plane: &ControlPlane) -> Vec<AuditEvent> {
    own_requests(plane, OWN_USER)
}

/// headstart's requests among the lines of the log that name `part`.
fn own_requests(plane: &ControlPlane, part: &str) -> Vec<AuditEvent> {
    let events = plane.audit_events(part);
    let mut events = events.unwrap_or_else(|error| panic!("{error:#}"));
    events.retain(|event| event.user == OWN_USER);
    events
}
