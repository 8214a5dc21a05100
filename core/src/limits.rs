//! The limits for reading, keeping and printing data that others write. Each limit is here once, with its reason.
//!
//! Callers of the webhook are not authenticated, and a user who may edit one namespace may store 1.5 MiB in one object. The
//! limits are far above the sizes of workloads, and so low that one user's objects do not cost another user a prefetch.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Most containers, init containers and volumes of a pod template that are read. No kubelet runs a pod with more: each
/// container takes some megabytes and two processes.
pub const ITEMS: usize = 256;
/// Most images of one Deployment that are prefetched, and most in its annotation. One pod pulls them all, with a container
/// for each; a kubelet starts that many quickly.
pub const MAX_IMAGES: usize = 64;
/// Most images that are kept by name although they are not prefetched. More would not be read; the rest is counted.
pub const MAX_UNSUPPORTED: usize = 8;
/// Longest image reference, in bytes. The longest that runtimes take is about 650: a host, a repository of 255, a digest.
pub const IMAGE_BYTES: usize = 1024;

/// Longest value of the annotation for images, in bytes: 64 references of 256 bytes.
pub const IMAGES_BYTES: usize = 16 * 1024;
/// Longest value of the annotation that narrows the nodes, in bytes.
pub const SELECTOR_BYTES: usize = 4 * 1024;
/// Most conditions in it.
pub const SELECTOR_CONDITIONS: usize = 32;
/// Most values in one condition.
pub const SELECTOR_VALUES: usize = 64;
/// Longest value of every other label and annotation of headstart's, in bytes: a time takes 35, a label is at most 63.
pub const VALUE_BYTES: usize = 64;

/// Most tolerations that a prefetch pod takes over. Pods in the wild have fewer than ten.
pub const TOLERATIONS: usize = 64;
/// Most pull secrets that a prefetch pod takes over: the kubelet tries one after another.
pub const PULL_SECRETS: usize = 16;
/// Most terms of required node affinity, and most conditions in one term: each is looked at for each node.
pub const AFFINITY_TERMS: usize = 32;
/// Most values in one condition of it.
pub const AFFINITY_VALUES: usize = 64;
/// The most bytes that are kept of one Deployment. All Deployments of a cluster are in memory, in each replica: 5,000 of
/// the largest take 80 MiB.
pub const KEPT_BYTES: usize = 16 * 1024;
/// Largest prefetch pod, in bytes of JSON. Each node gets one, so a Deployment costs etcd this many times the nodes. With 64
/// images, headstart's own part is about 35 KiB.
pub const POD_BYTES: usize = 64 * 1024;

/// Longest text of others in one field of the log, or inside a sentence, in bytes.
pub const SHOWN_BYTES: usize = 200;
/// Longest message of an answer of the webhook, in bytes.
pub const ANSWER_BYTES: usize = 512;
/// Longest note of an event, in bytes: the API server refuses a longer one.
pub const NOTE_BYTES: usize = 1024;

/// Stands for the text that was cut off.
const ELLIPSIS: char = '…';

/// The text, or as much of its beginning as fits in so many bytes with a sign that there is more.
pub fn shown(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(bytes.saturating_sub(ELLIPSIS.len_utf8()));
    let (beginning, _) = text.split_at(end);
    Cow::Owned(format!("{beginning}{ELLIPSIS}"))
}

/// Returns the text that a value prints, up to so many bytes. The rest is not formatted.
pub fn printed(value: impl fmt::Display, bytes: usize) -> String {
    let mut text = Text {
        text: String::new(),
        room: bytes,
        cut: false,
    };
    // Fails when it is full, or when a value cannot be printed.
    let _ = write!(text, "{value}");
    let Text { mut text, cut, .. } = text;
    if cut {
        text.truncate(text.floor_char_boundary(bytes.saturating_sub(ELLIPSIS.len_utf8())));
        text.push(ELLIPSIS);
    }
    text
}

/// Takes text until it is full.
struct Text {
    text: String,
    room: usize,
    cut: bool,
}

impl fmt::Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let (fits, rest) = more.split_at(more.floor_char_boundary(self.room));
        self.text.push_str(fits);
        self.room -= fits.len();
        if rest.is_empty() {
            Ok(())
        } else {
            self.cut = true;
            Err(fmt::Error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_left_as_it_is() {
        assert_eq!(shown("short", 5), "short");
        assert_eq!(printed("short", 5), "short");
        assert_eq!(printed(format_args!("{}-{}", 1, 2), 3), "1-2");
        assert_eq!(shown("", 0), "");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        for bytes in 3..40 {
            for text in ["é".repeat(1000), "漢".repeat(1000), "a".repeat(1000)] {
                let cut = shown(&text, bytes).into_owned();
                assert!(cut.len() <= bytes && cut.ends_with('…'), "{bytes}: {cut}");
                assert_eq!(printed(&text, bytes), cut);
            }
        }
    }

    #[test]
    fn what_comes_after_the_cut_is_not_formatted() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("and so on, ")?;
                }
            }
        }
        assert_eq!(printed(Endless, 200).len(), 200);
    }
}
