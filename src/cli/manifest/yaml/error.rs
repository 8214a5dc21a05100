//! Why a document cannot be read.

/// How deep a document may be nested, aliases followed: as deep as serde_json reads JSON.
pub(super) const MAX_DEPTH: usize = 128;
/// go.yaml.in/yaml takes `\'` in double quotes for `'`; libyaml stops there, with this.
pub(super) const UNKNOWN_ESCAPE: &str = "found unknown escape character";

/// A document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::manifest) struct Error {
    pub(in crate::cli::manifest) message: String,
    /// Counted from 0, in the text that was read.
    pub(in crate::cli::manifest) line: Option<usize>,
    /// The byte with a backslash that libyaml does not take.
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
