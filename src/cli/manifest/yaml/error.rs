//! The error of a document that cannot be read.

/// The limit for the nesting of a document, with aliases followed: the same as serde_json's for JSON.
pub(super) const MAX_DEPTH: usize = 128;
/// libyaml's error for `\'` in double quotes, which go.yaml.in/yaml takes for `'`.
pub(super) const UNKNOWN_ESCAPE: &str = "found unknown escape character";

/// A document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::manifest) struct Error {
    pub(in crate::cli::manifest) message: String,
    /// Counted from 0, in the parsed text.
    pub(in crate::cli::manifest) line: Option<usize>,
    /// The position of a backslash that libyaml does not accept.
    pub(super) escape: Option<usize>,
}

impl Error {
    pub(super) fn new(message: impl Into<String>, line: Option<usize>) -> Self {
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
        // libyaml reports a key without its colon one line too late.
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
