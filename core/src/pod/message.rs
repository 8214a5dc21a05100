//! Reads the messages of the runtime and the registry that the kubelet passes on.

use super::failure::FailureKind;
use crate::image::ImageRef;

/// Longest message that is kept, in bytes. An Event's note may have 1,024.
pub(super) const MAX_MESSAGE: usize = 700;

/// Words of an `Authorization` header that a token follows.
const SCHEMES: [&str; 2] = ["Bearer", "Basic"];
/// The text after them in a sentence is shorter.
const SHORTEST_TOKEN: usize = 16;

/// The runtimes answer in prose. These are the phrases of containerd 2 and CRI-O (containers/image), in the
/// order in which one message can contain several.
pub(super) fn classify(message: &str) -> FailureKind {
    let message = message.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    if says(&["no space left on device", "disk quota exceeded"]) {
        FailureKind::NoSpace
    } else if says(&["429 too many requests", "toomanyrequests"]) {
        FailureKind::Transient
    } else if says(&[
        "no match for platform",
        "no image found in image index for architecture",
        "no matching manifest",
    ]) {
        FailureKind::WrongPlatform
    } else if host_not_found(&message) {
        FailureKind::HostNotFound
    } else if says(&[
        "401 unauthorized",
        "403 forbidden",
        "pull access denied",
        "insufficient_scope",
        "authorization failed",
        "authentication required",
        "no basic auth credentials",
        "unauthorized:",
        "access to the requested resource is not authorized",
        "requested access to the resource is denied",
    ]) {
        FailureKind::Unauthorized
    } else if says(&[
        "code = notfound",
        "manifest unknown",
        "name unknown",
        "404 not found",
    ]) {
        FailureKind::NotFound
    } else if says(&["invalid reference format", "couldn't parse image"]) {
        FailureKind::InvalidName
    } else {
        FailureKind::Transient
    }
}

/// Returns whether a message says that a host has no address. In both runtimes Go's resolver says so: `lookup HOST on
/// SERVER:53: no such host`. A resolver that fails or does not answer says `server misbehaving` or `i/o timeout`.
fn host_not_found(message: &str) -> bool {
    let Some((_, after)) = message.split_once("dial tcp: lookup ") else {
        return false;
    };
    after.contains(": no such host")
}

/// Returns whether a message is about an image of this one's repository. A runtime may spell it in full or as the pod does,
/// and by the digest of its own architecture's image instead of the tag.
pub(super) fn refers_to(message: &str, image: &ImageRef) -> bool {
    message
        .split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '\\'))
        .map(|word| word.trim_end_matches([':', ',', '.', ';']))
        .any(|word| {
            word.parse()
                .is_ok_and(|named: ImageRef| named.is_of_repository(image))
        })
}

/// Returns the message without the credentials that a registry may have put into its URLs: pre-signed queries, and user
/// names with passwords.
pub(super) fn redact(message: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in message.split_whitespace() {
        let after_scheme = words
            .last()
            .is_some_and(|last| SCHEMES.iter().any(|scheme| last.ends_with(scheme)));
        words.push(if word.contains("://") {
            without_credentials(word)
        } else if after_scheme && word.len() >= SHORTEST_TOKEN {
            "…".to_owned()
        } else {
            word.to_owned()
        });
    }
    let mut line = words.join(" ");
    if line.len() > MAX_MESSAGE {
        line.truncate(line.floor_char_boundary(MAX_MESSAGE));
        line.push('…');
    }
    line
}

fn without_credentials(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let (rest, query) = match rest.split_once('?') {
        // What closes the URL in the sentence is kept.
        Some((rest, query)) => (
            rest,
            Some(query.trim_start_matches(|c: char| !matches!(c, '"' | '\''))),
        ),
        None => (rest, None),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    match query {
        Some(closing) => format!("{scheme}://{host}{path}?…{closing}"),
        None => format!("{scheme}://{host}{path}"),
    }
}
