//! Handles prefetch pods that the API server refuses.

use super::backoff;
use super::log::LogLine;
use super::pulls::Pulls;
use super::refusal_advice::option_for;
use super::timers::TimerKey;
use super::turn::Turn;
use crate::event::EventReason;
use crate::limits::{NOTE_BYTES, printed};
use crate::store::DeploymentNode;

/// Lets a Deployment wait whose pods the API server refuses: quota, a policy, a namespace that is being deleted. Asking again
/// would meet the same answer, and so would its other pods.
pub(super) fn on_create_refused(
    pulls: &mut Pulls,
    at: &DeploymentNode,
    message: &str,
    turn: &mut Turn<'_>,
) {
    let Some(prefetch) = pulls.prefetches.get_mut(&at.key) else {
        return;
    };
    let now = turn.now.monotonic;
    let waits = prefetch.refusals.blocks(now);
    prefetch.nodes.enqueue(&at.node);
    // Others of the same moment were refused with it.
    if waits {
        return;
    }
    prefetch.refusals.count += 1;
    let pause = backoff::refused_delay(prefetch.refusals.count, &at.key.to_string());
    let until = now + pause;
    prefetch.refusals.until = Some(until);
    turn.out.logs.push(LogLine::CreateRefused {
        at: at.clone(),
        error: message.to_owned(),
        pause,
        namespace_is_going: namespace_is_going(message),
    });
    let node = &at.node;
    let note = format_args!("Cannot create prefetch pods (node {node}): {message}");
    let advice = option_for(message).map_or_else(String::new, |option| format!(". {option}"));
    let note = printed(note, NOTE_BYTES - advice.len()) + &advice;
    prefetch.reports.last_error = Some(note.clone());
    let blocked = EventReason::PrefetchBlocked;
    turn.out.event(&prefetch.workload, blocked, "", note);
    let key = at.key.clone();
    turn.timers.set(TimerKey::RefusedUntil(key), until);
    turn.mark_changed(&at.key);
}

/// Returns whether a write failed because its namespace is being deleted, or is gone. A user asked for that, so it is no
/// reason to warn.
pub fn namespace_is_going(message: &str) -> bool {
    message.contains("because it is being terminated")
        || message.contains("namespaces \"") && message.contains("\" not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_is_deleted_is_known_by_what_the_api_server_says() {
        for going in [
            r#"pods "prefetch-web" is forbidden: unable to create new content in namespace shop because it is being terminated"#,
            r#"namespaces "shop" not found"#,
            r#"ApiError: namespaces "shop" not found: NotFound (ErrorResponse { .. })"#,
        ] {
            assert!(namespace_is_going(going), "{going}");
        }
        for staying in [
            r#"pods "prefetch-web" is forbidden: exceeded quota: pods"#,
            r#"pods "prefetch-web" not found"#,
        ] {
            assert!(!namespace_is_going(staying), "{staying}");
        }
    }
}
