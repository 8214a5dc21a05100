//! The registry: how it answers for each image.

use std::collections::BTreeMap;

/// How the registry answers for an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// It sends it.
    #[default]
    Image,
    /// There is none.
    NotFound,
    /// The credentials are wrong.
    Unauthorized,
    /// There is none for the platform of the node.
    WrongPlatform,
    /// Too many requests.
    TooMany,
    /// No connection.
    Unreachable,
    /// It sends a byte now and then.
    Tarpit,
}

impl Answer {
    /// All answers but the image.
    pub const FAILURES: [Self; 6] = [
        Self::NotFound,
        Self::Unauthorized,
        Self::WrongPlatform,
        Self::TooMany,
        Self::Unreachable,
        Self::Tarpit,
    ];

    /// Returns whether asking again meets the same answer.
    pub fn is_permanent(self) -> bool {
        matches!(
            self,
            Self::NotFound | Self::Unauthorized | Self::WrongPlatform
        )
    }

    /// Returns the message of the runtime; `None` if there is none.
    pub fn message(self, image: &str) -> Option<String> {
        let failed = format!("failed to pull and unpack image \"{image}\": failed to resolve");
        match self {
            Self::Image | Self::Tarpit => None,
            Self::NotFound => Some(format!(
                "rpc error: code = NotFound desc = {failed}: {image}: not found"
            )),
            Self::Unauthorized => Some(format!(
                "{failed}: unexpected status from HEAD request: 401 Unauthorized"
            )),
            Self::WrongPlatform => Some(format!("{failed}: no match for platform in manifest")),
            Self::TooMany => Some(format!("{failed}: 429 Too Many Requests")),
            Self::Unreachable => Some(format!("{failed}: dial tcp 10.0.0.1:443: i/o timeout")),
        }
    }
}

/// The registry.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    answers: BTreeMap<String, Answer>,
}

impl Registry {
    /// Returns the answer for an image.
    pub(crate) fn answer(&self, image: &str) -> Answer {
        self.answers.get(image).copied().unwrap_or_default()
    }

    /// Changes the answer for an image.
    pub(crate) fn set(&mut self, image: &str, answer: Answer) {
        self.answers.insert(image.to_owned(), answer);
    }

    /// Lets all answers end that pass.
    pub(crate) fn heal(&mut self) {
        self.answers.retain(|_, answer| answer.is_permanent());
    }
}
