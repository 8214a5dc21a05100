//! Reads JSON in place.
//!
//! Callers are not authenticated, and a body may have megabytes. A general parser copies strings with escapes, keeps state for
//! each level, and repeats unusable values in its errors. Here nothing is copied, and the caller bounds the part of a string
//! that is read. The whole text is checked to be JSON, except the UTF-8 of strings that are not read.

use std::fmt;

mod scalar;
#[cfg(test)]
mod tests;
mod text;

pub(super) use text::{JsonStr, beginning};

use text::plain;

/// The deepest nesting. The objects of Kubernetes have some twenty levels.
const MAX_DEPTH: u32 = 128;

/// A position in a text.
#[derive(Clone, Debug)]
pub(super) struct Json<'a> {
    text: &'a [u8],
    at: usize,
}

/// The reason for which a value cannot be read. It repeats nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    /// The error.
    what: &'static str,
    /// The position of the error, in bytes.
    at: usize,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl<'a> Json<'a> {
    /// Starts at the beginning of a text.
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn invalid<T>(&self, what: &'static str) -> Result<T, Invalid> {
        Err(Invalid { what, at: self.at })
    }

    /// Returns the next byte that is not whitespace.
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

    /// Checks that nothing is left.
    pub(super) fn end(&mut self) -> Result<(), Invalid> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.invalid("more than one value"),
        }
    }

    /// Reads an object. `each` reads the value of each key, and has to read all of it.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(JsonStr<'a>, &mut Self) -> Result<(), Invalid>,
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

    /// Reads a list and returns it as it was written. `each` reads each element, and has to read all of it. A value that is no
    /// list is skipped.
    pub(super) fn list(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Invalid>,
    ) -> Result<&'a [u8], Invalid> {
        if self.peek() != Some(b'[') {
            return self.skip();
        }
        let start = self.at;
        self.at += 1;
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                each(self)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => {
                        self.at += 1;
                        break;
                    }
                    _ => return self.invalid("neither a comma nor the end of a list"),
                }
            }
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    /// Reads a value, or returns `None` for null.
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
    pub(super) fn text(&mut self) -> Result<JsonStr<'a>, Invalid> {
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
        Ok(JsonStr { raw, escaped })
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

    fn key(&mut self) -> Result<JsonStr<'a>, Invalid> {
        self.peek();
        let key = self.text()?;
        self.eat(b':', "no colon after a key")?;
        Ok(key)
    }

    /// Skips a value of any kind, and returns it as it was written.
    pub(super) fn skip(&mut self) -> Result<&'a [u8], Invalid> {
        self.peek();
        let start = self.at;
        // One bit for each open level: set if it is an object.
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
            // A value has ended. The containers that end with it end too.
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

    /// Reads a value. A value of another form is skipped, and is the inner error. The outer error is text that is not JSON.
    pub(super) fn attempt<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Invalid>,
    ) -> Result<Result<T, Invalid>, Invalid> {
        let start = self.clone();
        let read = read(self);
        if read.is_err() {
            *self = start;
            self.skip()?;
        }
        Ok(read)
    }
}

/// Reads each element of a list that was skipped; nothing if it is no list.
pub(super) fn each<'a, T>(
    list: &'a [u8],
    read: impl Fn(&mut Json<'a>) -> Result<T, Invalid>,
) -> impl Iterator<Item = Result<T, Invalid>> {
    let mut json = Json::new(list);
    let mut is_list = json.eat(b'[', "").is_ok();
    std::iter::from_fn(move || {
        if !is_list || json.peek() == Some(b']') {
            return None;
        }
        let element = json.attempt(&read);
        is_list = element.is_ok() && json.eat(b',', "").is_ok();
        element.ok()
    })
}
