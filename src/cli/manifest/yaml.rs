//! One YAML document as JSON, by the rules of sigs.k8s.io/yaml: the last of repeated keys wins, `<<` merges where it
//! stands, and keys become texts.

use std::borrow::Cow;
use std::panic::{self, Location, catch_unwind};

use serde_json::Value;

mod error;
mod nodes;
#[cfg(test)]
mod tests;
mod value;

pub(super) use error::Error;

/// The limit for escapes that are removed from one document: the document is read once more for each.
const MAX_UNESCAPED: usize = 1_000;

/// Reads the first document of a text and ignores the rest, as kubectl does.
pub(super) fn read(text: &[u8]) -> Result<Value, Error> {
    let mut text = utf8(text)?;
    // libyaml-safer panics at tags in forms that go.yaml.in/yaml refuses: `[!a,b]`, `!%ff`.
    let read = |text: &[u8]| {
        let read = catch_unwind(|| read_utf8(text));
        read.unwrap_or_else(|_| Err(Error::new("there is a tag (!…) that cannot be read", None)))
    };
    for _ in 0..MAX_UNESCAPED {
        match read(&text) {
            Err(error) => match error.escape.and_then(|at| unescape(&text, at)) {
                Some(unescaped) => text = unescaped.into(),
                None => return Err(error),
            },
            read => return read,
        }
    }
    read(&text)
}

/// Hides the panics that [`read`] turns into errors.
pub(super) fn silence_panics() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let parsers = |place: &Location<'_>| place.file().contains("libyaml-safer");
        if !info.location().is_some_and(parsers) {
            hook(info);
        }
    }));
}

/// Returns the text without the backslash at this byte, if a `'` follows it.
fn unescape(text: &[u8], at: usize) -> Option<Vec<u8>> {
    let rest = text.get(at..)?.strip_prefix(b"\\")?;
    rest.starts_with(b"'").then(|| [&text[..at], rest].concat())
}

fn read_utf8(text: &[u8]) -> Result<Value, Error> {
    match nodes::read(text)? {
        Some((nodes, root)) => value::of(&nodes, root),
        None => Ok(Value::Null),
    }
}

/// Returns the text as UTF-8 without its byte order mark, which names the encoding.
fn utf8(text: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let (big_endian, text) = match text {
        [0xef, 0xbb, 0xbf, text @ ..] => return Ok(text.into()),
        [0xff, 0xfe, text @ ..] => (false, text),
        [0xfe, 0xff, text @ ..] => (true, text),
        _ => return Ok(text.into()),
    };
    let (pairs, odd) = text.as_chunks();
    let units = pairs.iter().map(|pair| match big_endian {
        true => u16::from_be_bytes(*pair),
        false => u16::from_le_bytes(*pair),
    });
    let decoded: Result<String, _> = char::decode_utf16(units).collect();
    match decoded {
        Ok(decoded) if odd.is_empty() => Ok(decoded.into_bytes().into()),
        _ => Err(Error::new(
            "it begins as UTF-16, but is not; write it in UTF-8",
            None,
        )),
    }
}
