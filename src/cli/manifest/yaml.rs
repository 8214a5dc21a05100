//! One YAML document as JSON, by the rules of sigs.k8s.io/yaml: the last of repeated keys wins, `<<` merges where it
//! stands, and keys become texts.

use std::borrow::Cow;
use std::panic::{self, Location, catch_unwind};

use serde_json::Value;

mod nodes;
#[cfg(test)]
mod tests;
mod value;

/// How deep a document may be nested, aliases followed: as deep as serde_json reads JSON.
const MAX_DEPTH: usize = 128;
/// go.yaml.in/yaml takes `\'` in double quotes for `'`; libyaml stops there, with this.
const UNKNOWN_ESCAPE: &str = "found unknown escape character";
/// How many of those are taken in one document: each costs another reading.
const MAX_UNESCAPED: usize = 1_000;

/// A document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error {
    pub(super) message: String,
    /// Counted from 0, in the text that was read.
    pub(super) line: Option<usize>,
    /// The byte with a backslash that libyaml does not take.
    escape: Option<usize>,
}

impl Error {
    fn new(message: impl Into<String>, line: Option<usize>) -> Self {
        Self {
            message: message.into(),
            line,
            escape: None,
        }
    }
}

impl From<libyaml_safer::Error> for Error {
    fn from(error: libyaml_safer::Error) -> Self {
        let number = |number: u64| usize::try_from(number).ok();
        // A key without its colon is noticed a line too late.
        let mark = match error.problem() {
            "could not find expected ':'" => error.context_mark(),
            _ => error.problem_mark(),
        };
        let message = match error.context() {
            Some(context) => format!("{}, {context}", error.problem()),
            None => error.problem().to_owned(),
        };
        let is_escape = error.problem() == UNKNOWN_ESCAPE;
        Self {
            escape: mark
                .filter(|_| is_escape)
                .and_then(|mark| number(mark.index)),
            ..Self::new(message, mark.and_then(|mark| number(mark.line)))
        }
    }
}

/// Reads the first document of a text. What follows it is not looked at, as kubectl does not.
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

/// Says nothing of panics that [`read`] makes an error of.
pub(super) fn silence_panics() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let parsers = |place: &Location<'_>| place.file().contains("libyaml-safer");
        if !info.location().is_some_and(parsers) {
            hook(info);
        }
    }));
}

/// The text without the backslash at a byte, if it is one before `'`.
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

/// The text without its byte order mark, and from the encoding that it tells.
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
