//! The words and signs of a label selector.

use super::InvalidSelector;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A key, a value, or the word of an operator: which, its place tells.
    Word(&'a str),
    Not,
    Equal,
    NotEqual,
    Greater,
    Less,
    Open,
    Close,
    Comma,
    End,
}

impl Token<'_> {
    pub(super) fn unexpected(self, wanted: &'static str) -> InvalidSelector {
        let found = match self {
            Self::Word(word) => word,
            Self::Not => "!",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::End => "",
        };
        InvalidSelector::Syntax {
            found: super::named(found),
            wanted,
        }
    }
}

/// One after another, as long as there are any.
pub(super) struct Tokens<'a>(&'a str);

/// Those of a selector.
pub(super) fn tokens(selector: &str) -> Tokens<'_> {
    Tokens(selector.trim_start_matches(is_space))
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = self.0;
        let first = rest.chars().next().filter(|first| *first != '\0')?;
        let (token, length) = if rest.starts_with("==") {
            (Token::Equal, 2)
        } else if rest.starts_with("!=") {
            (Token::NotEqual, 2)
        } else if let Some(sign) = sign(first) {
            (sign, 1)
        } else {
            let end = rest.find(|c| c == '\0' || is_space(c) || sign(c).is_some());
            let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest);
            (Token::Word(word), word.len())
        };
        let after = rest.get(length..).unwrap_or_default();
        // Kubernetes' lexer cannot tell this character from the end of its input, and eats it when it ends a token.
        let after = after.strip_prefix('\0').unwrap_or(after);
        self.0 = after.trim_start_matches(is_space);
        Some(token)
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn sign(c: char) -> Option<Token<'static>> {
    Some(match c {
        '!' => Token::Not,
        '=' => Token::Equal,
        '>' => Token::Greater,
        '<' => Token::Less,
        '(' => Token::Open,
        ')' => Token::Close,
        ',' => Token::Comma,
        _ => return None,
    })
}
