//! Reads JSON where it lies.
//!
//! Callers are not authenticated, and a body may have megabytes. A general parser copies what has escapes, remembers how deep it
//! is for each level, and repeats in its errors what it could not use; here nothing is copied, and what is read of a string is
//! bounded by whoever asks for it. All of it is checked to be JSON, but for the UTF-8 of strings that nobody reads.

use std::borrow::Cow;
use std::fmt;

/// Deepest nesting. The objects of Kubernetes have some twenty levels.
const MAX_DEPTH: u32 = 128;

/// What is left of a text to read.
#[derive(Clone, Debug)]
pub(super) struct Json<'a> {
    text: &'a [u8],
    at: usize,
}

/// Why something cannot be read. It repeats nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    /// What is wrong.
    what: &'static str,
    /// At which byte.
    at: usize,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// A string as it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

/// The beginning of a text, that is longer than so many bytes if the text is.
pub(super) fn beginning(text: &str, bytes: usize) -> &str {
    // A character takes at most four.
    let end = text.floor_char_boundary(bytes.saturating_add(4));
    text.get(..end).unwrap_or(text)
}

impl<'a> Text<'a> {
    /// What it says. Of a text with escapes that is longer than so many bytes, only the beginning, which is longer too;
    /// without escapes it is all there, but takes nothing.
    pub(super) fn up_to(self, bytes: usize) -> Cow<'a, str> {
        let text = match std::str::from_utf8(self.raw) {
            Ok(text) => Cow::Borrowed(text),
            // To be copied, so no more of it than counts: a character is at most a pair of escapes, which is twelve bytes.
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

    /// Whether it begins so, as far as can be seen without reading escapes.
    pub(super) fn may_begin_with(self, prefix: &str) -> bool {
        self.escaped || self.raw.starts_with(prefix.as_bytes())
    }
}

/// The text without its escapes, up to the first character beyond so many bytes.
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

/// What stands after `\u`. Half of a pair stands for nothing.
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

impl<'a> Json<'a> {
    /// From the beginning of a text.
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn invalid<T>(&self, what: &'static str) -> Result<T, Invalid> {
        Err(Invalid { what, at: self.at })
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8, what: &'static str) -> Result<(), Invalid> {
        if self.peek() != Some(byte) {
            return self.invalid(what);
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing may be left.
    pub(super) fn end(&mut self) -> Result<(), Invalid> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.invalid("more than one value"),
        }
    }

    /// Reads an object; what stands by each key is read by `each`, which has to read all of it.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(Text<'a>, &mut Self) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        self.eat(b'{', "no object")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.key()?;
            each(key, self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.invalid("neither a comma nor the end of an object"),
            }
        }
    }

    /// Something, or `None` for null.
    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Invalid> {
        if self.peek() == Some(b'n') {
            self.scalar()?;
            return Ok(None);
        }
        read(self).map(Some)
    }

    /// Reads a string.
    pub(super) fn text(&mut self) -> Result<Text<'a>, Invalid> {
        self.eat(b'"', "no string")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            self.at += plain(rest);
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.invalid("a control character in a string"),
                None => return self.invalid("a string without an end"),
            }
        }
        let raw = self.text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(Text { raw, escaped })
    }

    fn escape(&mut self) -> Result<(), Invalid> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = match rest.get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => {
                let digits = rest.get(2..6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return self.invalid("an escape that is none");
                }
                6
            }
            _ => return self.invalid("an escape that is none"),
        };
        self.at += length;
        Ok(())
    }

    fn key(&mut self) -> Result<Text<'a>, Invalid> {
        self.peek();
        let key = self.text()?;
        self.eat(b':', "no colon after a key")?;
        Ok(key)
    }

    /// Reads `true` or `false`.
    pub(super) fn boolean(&mut self) -> Result<bool, Invalid> {
        match self.peek() {
            Some(b't') => self.scalar().map(|()| true),
            Some(b'f') => self.scalar().map(|()| false),
            _ => self.invalid("no boolean"),
        }
    }

    /// Reads a whole number.
    pub(super) fn whole<N: std::str::FromStr>(&mut self) -> Result<N, Invalid> {
        self.peek();
        let start = self.at;
        self.number()?;
        let digits = self.text.get(start..self.at).unwrap_or_default();
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        match digits.parse() {
            Ok(number) => Ok(number),
            Err(_) => self.invalid("no whole number, or too large a one, ends"),
        }
    }

    /// Passes over a value of any kind, and returns it as it was written.
    pub(super) fn skip(&mut self) -> Result<&'a [u8], Invalid> {
        self.peek();
        let start = self.at;
        // One bit for each level that is open: whether it is an object.
        let (mut open, mut depth) = (0_u128, 0);
        loop {
            let bracket = self.peek();
            let close = match bracket {
                Some(b'{') => Some(b'}'),
                Some(b'[') => Some(b']'),
                _ => None,
            };
            match close {
                None => self.scalar()?,
                Some(close) => {
                    self.at += 1;
                    if self.peek() == Some(close) {
                        self.at += 1;
                    } else {
                        if depth == MAX_DEPTH {
                            return self.invalid("nested too deep");
                        }
                        let is_object = close == b'}';
                        open = (open << 1) | u128::from(is_object);
                        depth += 1;
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                }
            }
            // A value has ended: those that it was the last of end too.
            loop {
                if depth == 0 {
                    return Ok(self.text.get(start..self.at).unwrap_or_default());
                }
                match (self.peek(), open & 1 == 1) {
                    (Some(b','), is_object) => {
                        self.at += 1;
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        open >>= 1;
                        depth -= 1;
                    }
                    _ => return self.invalid("neither a comma nor the end of a list or an object"),
                }
            }
        }
    }

    /// Passes over what has no parts.
    fn scalar(&mut self) -> Result<(), Invalid> {
        let literal: &[u8] = match self.peek() {
            Some(b'"') => return self.text().map(drop),
            Some(b't') => b"true",
            Some(b'f') => b"false",
            Some(b'n') => b"null",
            _ => return self.number(),
        };
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(literal) {
            return self.invalid("no value");
        }
        self.at += literal.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Invalid> {
        let byte = |json: &Self| json.text.get(json.at).copied();
        let digits = |json: &mut Self| {
            let start = json.at;
            while byte(json).is_some_and(|byte| byte.is_ascii_digit()) {
                json.at += 1;
            }
            json.at > start
        };
        if byte(self) == Some(b'-') {
            self.at += 1;
        }
        let whole = if byte(self) == Some(b'0') {
            self.at += 1;
            true
        } else {
            digits(self)
        };
        let mut sound = whole;
        if byte(self) == Some(b'.') {
            self.at += 1;
            sound &= digits(self);
        }
        if matches!(byte(self), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(byte(self), Some(b'+' | b'-')) {
                self.at += 1;
            }
            sound &= digits(self);
        }
        if sound {
            Ok(())
        } else {
            self.invalid("no value")
        }
    }
}

/// The elements of a list that was passed over, as they were written. What is no list has none.
pub(super) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut json = Json::new(list);
    let mut is_list = json.eat(b'[', "").is_ok();
    std::iter::from_fn(move || {
        if !is_list || json.peek() == Some(b']') {
            return None;
        }
        let element = json.skip().ok();
        is_list = element.is_some() && json.eat(b',', "").is_ok();
        element
    })
}

/// How many bytes of a string come before its end, an escape, or what must not be in it.
fn plain(text: &[u8]) -> usize {
    /// So many are looked at at once, without a branch for each.
    const CHUNK: usize = 16;
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let chunks = text.chunks_exact(CHUNK);
    let sound = chunks.take_while(|chunk| !chunk.iter().fold(false, |any, b| any | is_special(b)));
    let start = sound.count() * CHUNK;
    let rest = text.get(start..).unwrap_or_default();
    start + rest.iter().position(is_special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    fn is_json(text: &[u8]) -> bool {
        let mut json = Json::new(text);
        json.skip().and_then(|_| json.end()).is_ok()
    }

    fn text(json: &str, bytes: usize) -> String {
        let text = Json::new(json.as_bytes()).text();
        text.unwrap().up_to(bytes).into_owned()
    }

    proptest! {
        #[test]
        fn what_is_json_is_told_as_serde_json_does(text in r#"[\[\]{}:,"\\ 0-9a-f.eE+\-trulsn\n\t/]{0,24}"#) {
            let theirs = serde_json::from_slice::<IgnoredAny>(text.as_bytes());
            prop_assert_eq!(is_json(text.as_bytes()), theirs.is_ok(), "{:?}", theirs);
        }

        #[test]
        fn a_string_says_what_serde_json_reads(text: String) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(super::tests::text(&json, usize::MAX / 2), text.as_str());
            // All in escapes.
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let json = format!("\"{escaped}\"");
            prop_assert_eq!(super::tests::text(&json, usize::MAX / 2), text.as_str());
            // What is cut is the beginning, and longer than was asked for.
            let cut = super::tests::text(&json, 10);
            prop_assert!(text.starts_with(&cut));
            prop_assert!(cut == text || (11..=14).contains(&cut.len()), "{}", cut);
        }
    }

    #[test]
    fn damaged_and_odd_texts_are_told_as_serde_json_does() {
        let sound =
            br#"{"a":[1,-0.5e+3,"x\u00e9\n",{"b":{}},[],true,false,null],"c":"\ud834\udd1e"}"#;
        assert!(is_json(sound));
        for at in 0..sound.len() {
            for byte in [b'"', b'}', b']', b',', b' ', b'0', b'\\', 0x1f] {
                let mut damaged = sound.to_vec();
                damaged[at] = byte;
                let theirs = serde_json::from_slice::<IgnoredAny>(&damaged).is_ok();
                let shown = String::from_utf8_lossy(&damaged);
                assert_eq!(is_json(&damaged), theirs, "{shown}");
            }
            assert!(!is_json(&sound[..at]));
        }
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(is_json(nested(128).as_bytes()));
        assert!(!is_json(nested(130).as_bytes()));
        assert!(!is_json("[".repeat(1_000_000).as_bytes()));
    }

    #[test]
    fn half_of_a_pair_stands_for_nothing() {
        assert_eq!(text(r#""a\ud834b""#, 100), "a\u{fffd}b");
        assert_eq!(text(r#""\ud834\n""#, 100), "\u{fffd}\n");
        assert_eq!(text(r#""\udd1e\ud834""#, 100), "\u{fffd}\u{fffd}");
        assert_eq!(text(r#""\ud834A""#, 100), "\u{fffd}A");
    }

    #[test]
    fn a_list_has_its_elements_and_what_is_none_has_none() {
        let all = |text: &'static str| elements(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(all(r#"[ 1 , {"a":[2]},"x"]"#).len(), 3);
        for none in ["[]", "[ ]", "{}", "5", ""] {
            assert!(all(none).is_empty(), "{none}");
        }
    }
}
