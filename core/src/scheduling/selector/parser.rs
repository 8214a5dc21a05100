//! From a label selector's words to its conditions.

use std::iter::Peekable;
use std::str::FromStr;

use super::lexer::{Token, Tokens, tokens};
use super::{InvalidSelector, Operator, Requirement, Selector};
use crate::limits::{SELECTOR_CONDITIONS, SELECTOR_VALUES};

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(selector: &str) -> Result<Self, InvalidSelector> {
        let tokens = tokens(selector).peekable();
        let requirements = Parser { tokens }.selector()?;
        Ok(Self(requirements.into()))
    }
}

/// The recursive descent of Kubernetes' own `labels.Parser`, rule by rule.
struct Parser<'a> {
    tokens: Peekable<Tokens<'a>>,
}

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Token<'a> {
        self.tokens.peek().copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        self.tokens.next().unwrap_or(Token::End)
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, InvalidSelector> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::End => break,
                Token::Not | Token::Word(_) if requirements.len() == SELECTOR_CONDITIONS => {
                    return Err(InvalidSelector::TooManyConditions);
                }
                Token::Not | Token::Word(_) => requirements.push(self.requirement()?),
                other => return Err(other.unexpected("a label key, or ! before one,")),
            }
            match self.next() {
                Token::End => break,
                Token::Comma => {
                    if !matches!(self.peek(), Token::Not | Token::Word(_)) {
                        return Err(self.peek().unexpected("a label key after the comma"));
                    }
                }
                other => return Err(other.unexpected("a comma or the end")),
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(requirements)
    }

    fn requirement(&mut self) -> Result<Requirement, InvalidSelector> {
        let absent = self.peek() == Token::Not;
        if absent {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return Err(other.unexpected("a label key")),
        };
        if absent {
            return Requirement::new(key, Operator::DoesNotExist, &[""; 0]);
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, &[""; 0]);
        }
        let (operator, mut values) = match self.next() {
            Token::Word("in") => (Operator::In, self.set()?),
            Token::Word("notin") => (Operator::NotIn, self.set()?),
            Token::Equal => (Operator::In, vec![self.exact()?]),
            Token::NotEqual => (Operator::NotIn, vec![self.exact()?]),
            Token::Greater => (Operator::Gt, vec![self.exact()?]),
            Token::Less => (Operator::Lt, vec![self.exact()?]),
            other => return Err(other.unexpected("one of = == != in notin < >")),
        };
        values.sort_unstable();
        values.dedup();
        Requirement::new(key, operator, &values)
    }

    fn exact(&mut self) -> Result<&'a str, InvalidSelector> {
        match self.peek() {
            // Nothing is a value too: the empty one.
            Token::End | Token::Comma => Ok(""),
            Token::Word(value) => {
                self.next();
                Ok(value)
            }
            other => Err(other.unexpected("a value")),
        }
    }

    /// `(a,b)`; nothing before, between or after commas is the empty value.
    fn set(&mut self) -> Result<Vec<&'a str>, InvalidSelector> {
        match self.next() {
            Token::Open => {}
            other => return Err(other.unexpected("an opening parenthesis")),
        }
        let mut values = Vec::new();
        let mut after_value = false;
        loop {
            if values.len() > SELECTOR_VALUES {
                return Err(InvalidSelector::TooManyValues);
            }
            match self.next() {
                Token::Word(value) if !after_value => {
                    values.push(value);
                    after_value = true;
                }
                Token::Comma => {
                    if !after_value {
                        values.push("");
                    }
                    after_value = false;
                }
                Token::Close => {
                    if !after_value {
                        values.push("");
                    }
                    return Ok(values);
                }
                other => return Err(other.unexpected("a comma or a closing parenthesis")),
            }
        }
    }
}
