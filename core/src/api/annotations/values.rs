//! The values of the annotations, and their text forms.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::jiff::SignedDuration;

use crate::image::{ImageRef, InvalidImage};
use crate::limits::{MAX_IMAGES, shown};
use crate::list::items;

/// The number of characters of a value that an error repeats.
pub(super) const SHOWN_VALUE: usize = 60;

/// Shortest time between two prefetches of the same images: each asks the API server for a pod per node.
const MIN_REFRESH: SignedDuration = SignedDuration::from_mins(1);

/// `headstart.dev/max-nodes` and `headstart.dev/after-ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// A number of them.
    Number(u32),
    /// A share of all, rounded up.
    Percent(Percent),
}

impl Amount {
    /// Returns the number that this is of so many. A number may be larger.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Number(number) => usize::try_from(number).unwrap_or(usize::MAX),
            Self::Percent(share) => share.of(all),
        }
    }
}

impl Amount {
    /// Returns the condition on new pods that this is, in words.
    pub fn of_new_pods_ready(self) -> String {
        match self {
            Self::Number(1) => "1 new pod is ready".to_owned(),
            Self::Number(number) => format!("{number} new pods are ready"),
            Self::Percent(share) => format!("{share} of the new pods are ready"),
        }
    }
}

/// From 1 to 100 of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// So many of these, rounded up.
    pub fn of(self, all: usize) -> usize {
        all.saturating_mul(usize::from(self.0)).div_ceil(100)
    }
}

/// `headstart.dev/hold-until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldUntil(pub Percent);

/// `headstart.dev/refresh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh(pub SignedDuration);

/// `headstart.dev/hold-timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldTimeout(pub SignedDuration);

/// `headstart.dev/images`: references that a runtime would take, as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageList(pub Vec<String>);

/// The reason why a value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// Neither digits nor digits and a percent sign.
    #[error("not a whole number")]
    NotANumber,
    /// Zero would be a roundabout way to disable prefetching.
    #[error("not above zero")]
    Zero,
    /// More than there is.
    #[error("more than 100%")]
    MoreThanAll,
    /// A share without its sign.
    #[error("the percent sign is missing")]
    NoPercent,
    /// Not in the form that Go and Kubernetes write durations.
    #[error("not a duration")]
    NotADuration,
    /// Too often.
    #[error("below one minute")]
    TooShort,
    /// One of the images.
    #[error("image {0:?}: {1}")]
    Image(String, InvalidImage),
    /// More than one pod pulls.
    #[error("more than {MAX_IMAGES} images")]
    TooManyImages,
}

fn number(value: &str) -> Result<u32, InvalidValue> {
    // FromStr would also take a plus sign.
    if !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidValue::NotANumber);
    }
    match value.parse() {
        Ok(0) => Err(InvalidValue::Zero),
        Ok(number) => Ok(number),
        Err(_) => Err(InvalidValue::NotANumber),
    }
}

fn duration(value: &str) -> Result<SignedDuration, InvalidValue> {
    match value.parse::<SignedDuration>() {
        Ok(duration) if duration.is_positive() => Ok(duration),
        Ok(_) => Err(InvalidValue::Zero),
        Err(_) => Err(InvalidValue::NotADuration),
    }
}

impl FromStr for Percent {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let percent = number(value.strip_suffix('%').ok_or(InvalidValue::NoPercent)?)?;
        match u8::try_from(percent) {
            Ok(percent) if percent <= 100 => Ok(Self(percent)),
            _ => Err(InvalidValue::MoreThanAll),
        }
    }
}

impl FromStr for Amount {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        if value.ends_with('%') {
            value.parse().map(Self::Percent)
        } else {
            number(value).map(Self::Number)
        }
    }
}

impl FromStr for HoldUntil {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        value.parse().map(Self)
    }
}

impl FromStr for Refresh {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let every = duration(value)?;
        if every < MIN_REFRESH {
            return Err(InvalidValue::TooShort);
        }
        Ok(Self(every))
    }
}

impl FromStr for HoldTimeout {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        duration(value).map(Self)
    }
}

impl FromStr for ImageList {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let mut images = Vec::new();
        for image in items(value) {
            if images.len() == MAX_IMAGES {
                return Err(InvalidValue::TooManyImages);
            }
            if let Err(error) = image.parse::<ImageRef>() {
                let image = shown(image, SHOWN_VALUE).into_owned();
                return Err(InvalidValue::Image(image, error));
            }
            images.push(image.to_owned());
        }
        Ok(Self(images))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Percent(share) => share.fmt(f),
        }
    }
}

impl fmt::Display for HoldUntil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl fmt::Display for HoldTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl fmt::Display for ImageList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}
