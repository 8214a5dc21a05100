//! Values of JSON without parts.

use super::{Invalid, Json};

impl Json<'_> {
    /// Reads `true` or `false`.
    pub(in crate::webhook) fn boolean(&mut self) -> Result<bool, Invalid> {
        match self.peek() {
            Some(b't') => self.scalar().map(|()| true),
            Some(b'f') => self.scalar().map(|()| false),
            _ => self.invalid("no boolean"),
        }
    }

    /// Reads a whole number.
    pub(in crate::webhook) fn whole<N: std::str::FromStr>(&mut self) -> Result<N, Invalid> {
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

    /// Skips a value without parts.
    pub(super) fn scalar(&mut self) -> Result<(), Invalid> {
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
