//! Strings of JSON. Only the needed beginning of a string is decoded.

use std::borrow::Cow;

/// A string as it was written.
#[derive(Clone, Copy, Debug)]
pub(in crate::webhook) struct JsonStr<'a> {
    pub(super) raw: &'a [u8],
    pub(super) escaped: bool,
}

/// Returns the beginning of a text. It is longer than this number of bytes if the text is.
pub(in crate::webhook) fn beginning(text: &str, bytes: usize) -> &str {
    // A character takes at most four.
    let end = text.floor_char_boundary(bytes.saturating_add(4));
    text.get(..end).unwrap_or(text)
}

impl<'a> JsonStr<'a> {
    /// Decodes the string. If it has escapes and is longer than this number of bytes, only the beginning is decoded, which is
    /// longer too. Without escapes the whole string is borrowed.
    pub(in crate::webhook) fn up_to(self, bytes: usize) -> Cow<'a, str> {
        let text = match std::str::from_utf8(self.raw) {
            Ok(text) => Cow::Borrowed(text),
            // Invalid UTF-8 is copied, so only the needed part: a character is at most a pair of escapes, which is twelve
            // bytes.
            Err(_) => {
                let end = bytes.saturating_add(1).saturating_mul(12);
                String::from_utf8_lossy(self.raw.get(..end).unwrap_or(self.raw))
            }
        };
        if self.escaped {
            Cow::Owned(unescaped(&text, bytes))
        } else {
            text
        }
    }
}

/// Returns the text without its escapes, up to the first character beyond this number of bytes.
fn unescaped(text: &str, bytes: usize) -> String {
    let mut out = String::new();
    let mut rest = text;
    while out.len() <= bytes {
        let room = bytes - out.len();
        let (plain, escape) = rest.split_once('\\').unwrap_or((rest, ""));
        out.push_str(beginning(plain, room));
        if plain.len() > room || escape.is_empty() {
            break;
        }
        let mut characters = escape.chars();
        let character = match characters.next() {
            Some('u') => unicode(&mut characters),
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(other) => other,
            None => char::REPLACEMENT_CHARACTER,
        };
        out.push(character);
        rest = characters.as_str();
    }
    out
}

/// Returns the character after `\u`. Half of a pair is replaced.
fn unicode(characters: &mut std::str::Chars<'_>) -> char {
    let unit = |text: &str| {
        let digits = text.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut units = Vec::with_capacity(2);
    let text = characters.as_str();
    units.extend(unit(text));
    *characters = text.get(4..).unwrap_or_default().chars();
    let second = characters.as_str().strip_prefix("\\u").and_then(unit);
    if units.iter().all(|unit| (0xd800..0xdc00).contains(unit))
        && let Some(second) = second.filter(|second| (0xdc00..0xe000).contains(second))
    {
        units.push(second);
        let after = characters.as_str().get(6..).unwrap_or_default();
        *characters = after.chars();
    }
    let mut decoded = char::decode_utf16(units);
    let first = decoded.next().and_then(Result::ok);
    first.unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Returns the number of bytes of a string before its end, an escape, or a byte that a string must not contain.
pub(super) fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let (chunks, rest) = text.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        // Eight bytes at once: subtracting borrows into the high bit of each byte that is too small. The first such bit is
        // right.
        let bytes = u64::from_le_bytes(*chunk);
        let below = |bytes: u64, bound: u64| bytes.wrapping_sub(ONES * bound) & !bytes;
        let is = |byte: u8| below(bytes ^ (ONES * u64::from(byte)), 1);
        let special = (below(bytes, 0x20) | is(b'"') | is(b'\\')) & HIGHS;
        if special != 0 {
            return 8 * index + (special.trailing_zeros() / 8) as usize;
        }
    }
    let found = rest.iter().position(is_special).unwrap_or(rest.len());
    8 * chunks.len() + found
}
