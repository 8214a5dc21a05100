//! The files that a control plane's components read: keys, tokens, kubeconfigs, the audit policy.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::AuditEvent;

/// A kubeconfig for a bearer of this token.
pub(crate) fn kubeconfig(server: &str, authority: &Path, user: &str, token: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{ "name": "testbed", "cluster": { "server": server, "certificate-authority": authority } }],
        "users": [{ "name": user, "user": { "token": token } }],
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": user } }],
    })
    .to_string()
}

/// Writes the keys that sign and prove ServiceAccount tokens.
pub(super) fn write_service_account_keys(directory: &Path) -> Result<()> {
    let key = rcgen::KeyPair::generate().context("generate the key of ServiceAccount tokens")?;
    fs::write(directory.join("service-account.key"), key.serialize_pem())?;
    Ok(fs::write(
        directory.join("service-account.pub"),
        key.public_key_pem(),
    )?)
}

/// The certificate authority in a file that the API server made for itself: its leaf, then the authority.
pub(super) fn authority(serving: &Path) -> Result<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let chain =
        fs::read_to_string(serving).with_context(|| format!("read {}", serving.display()))?;
    let start = chain
        .rfind(BEGIN)
        .with_context(|| format!("{} holds no certificate", serving.display()))?;
    Ok(chain[start..].to_owned())
}

/// One line per request, without bodies; leases of nodes are noise.
pub(super) fn audit_policy() -> String {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted", "Panic"],
        "rules": [
            { "level": "None", "namespaces": ["kube-node-lease"] },
            { "level": "None", "nonResourceURLs": ["/*"] },
            { "level": "Metadata" },
        ],
    })
    .to_string()
}

/// Reads the lines of an audit log that name `part`. Its last line may be half written, and is then left out.
pub(super) fn audit_events(log: &Path, part: &str) -> Result<Vec<AuditEvent>> {
    let content = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    let lines = content.lines().filter(|line| line.contains(part));
    Ok(lines.filter_map(parse_audit_event).collect())
}

fn parse_audit_event(line: &str) -> Option<AuditEvent> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = |pointer: &str| {
        event
            .pointer(pointer)
            .and_then(|value| value.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    Some(AuditEvent {
        verb: text("/verb"),
        resource: text("/objectRef/resource"),
        subresource: text("/objectRef/subresource"),
        namespace: text("/objectRef/namespace"),
        name: text("/objectRef/name"),
        user: text("/user/username"),
        user_agent: text("/userAgent"),
        code: event
            .pointer("/responseStatus/code")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_default(),
        time: text("/stageTimestamp"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_line_is_read_and_a_half_written_one_is_not() {
        let line = r#"{"stage":"ResponseComplete","verb":"create","user":{"username":"admin"},"userAgent":"kubectl",
            "objectRef":{"resource":"pods","namespace":"default","name":"web"},"responseStatus":{"code":201},
            "stageTimestamp":"2026-01-02T03:04:05.000006Z"}"#;
        let event = parse_audit_event(line).unwrap();
        assert_eq!(
            (event.verb.as_str(), event.resource.as_str(), event.code),
            ("create", "pods", 201)
        );
        assert!(parse_audit_event(&line[..40]).is_none());
    }
}
