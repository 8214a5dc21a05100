//! The annotations by which a Deployment says how it wants to be prefetched for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::jiff::SignedDuration;

use super::image::{ImageRef, InvalidImage};
use super::limits::{
    IMAGES_BYTES, MAX_IMAGES, SELECTOR_BYTES, SHOWN_BYTES, VALUE_BYTES, printed, shown,
};
use super::selector::Selector;

#[cfg(test)]
mod tests;

/// Narrows the nodes, by a label selector.
pub const NODE_SELECTOR: &str = "headstart.dev/node-selector";
/// Limits the number of nodes.
pub const MAX_NODES: &str = "headstart.dev/max-nodes";
/// Prefetches again this often.
pub const REFRESH: &str = "headstart.dev/refresh";
/// More images, which the workload starts by itself.
pub const IMAGES: &str = "headstart.dev/images";
/// The longest hold.
pub const HOLD_TIMEOUT: &str = "headstart.dev/hold-timeout";
/// The share of planned nodes that ends a hold.
pub const HOLD_UNTIL: &str = "headstart.dev/hold-until";

/// Shortest time between two prefetches of the same images: each asks the API server for a pod per node.
const MIN_REFRESH: SignedDuration = SignedDuration::from_mins(1);
/// How much of a value an error repeats, in characters.
const SHOWN_VALUE: usize = 60;

/// The longest value of a label or annotation of headstart's that is read, in bytes.
pub fn longest_value(key: &str) -> usize {
    match key {
        IMAGES => IMAGES_BYTES,
        NODE_SELECTOR => SELECTOR_BYTES,
        _ => VALUE_BYTES,
    }
}

/// What the annotations say, those that can be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    /// Only nodes with these labels.
    pub node_selector: Option<Selector>,
    /// Only so many nodes.
    pub max_nodes: Option<MaxNodes>,
    /// How often to prefetch again.
    pub refresh: Option<Refresh>,
    /// More images. A [`Workload`](super::workload::Workload) has them among its own, and not here.
    pub images: Option<ImageList>,
    /// How long a hold may last.
    pub hold_timeout: Option<HoldTimeout>,
    /// What ends a hold.
    pub hold_until: Option<HoldUntil>,
    /// Those that cannot be read. They have no effect but that of [`Malformed::forbids_prefetch`].
    pub malformed: Vec<Malformed>,
}

/// An annotation's value has not the form that it must have.
///
/// The form comes before the reason: of a long sentence an admission warning shows the first 120 characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation}={value:?}: use {form} ({why})")]
pub struct Malformed {
    /// Which one.
    pub annotation: &'static str,
    /// What it says, or the beginning of that.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
    /// What would be right.
    pub form: &'static str,
}

impl Malformed {
    /// Whether nothing is prefetched for its sake: it was meant to keep images off some nodes, and which, nobody knows.
    pub fn forbids_prefetch(&self) -> bool {
        matches!(self.annotation, NODE_SELECTOR | MAX_NODES)
    }
}

impl Annotations {
    /// Reads an object's annotations.
    pub fn read(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let mut malformed = Vec::new();
        let mut reader = Reader {
            annotations,
            malformed: &mut malformed,
        };
        let read = Self {
            node_selector: reader.read(
                NODE_SELECTOR,
                "a label selector such as pool=web,zone in (a,b)",
            ),
            max_nodes: reader.read(MAX_NODES, "a number such as 50 or a share such as 30%"),
            refresh: reader.read(REFRESH, "a duration of at least 1m, such as 5m or 1h30m"),
            images: reader.read(IMAGES, "image references, separated by commas"),
            hold_timeout: reader.read(HOLD_TIMEOUT, "a duration such as 90s, 5m or 1h30m"),
            hold_until: reader.read(HOLD_UNTIL, "a share from 1% to 100%, such as 90%"),
            malformed: Vec::new(),
        };
        Self { malformed, ..read }
    }

    /// What they take in memory, beyond themselves.
    pub(super) fn bytes(&self) -> usize {
        let malformed = |malformed: &Malformed| {
            // The list grows in steps.
            2 * size_of::<Malformed>() + malformed.value.len() + malformed.why.len()
        };
        let selector = self.node_selector.as_ref().map_or(0, Selector::bytes);
        selector + self.malformed.iter().map(malformed).sum::<usize>()
    }

    /// The malformed annotation for whose sake nothing is prefetched.
    pub fn forbidding(&self) -> Option<&Malformed> {
        self.malformed
            .iter()
            .find(|malformed| malformed.forbids_prefetch())
    }
}

struct Reader<'a> {
    annotations: Option<&'a BTreeMap<String, String>>,
    malformed: &'a mut Vec<Malformed>,
}

impl Reader<'_> {
    fn read<T: FromStr<Err: fmt::Display>>(
        &mut self,
        annotation: &'static str,
        form: &'static str,
    ) -> Option<T> {
        let value = self.annotations?.get(annotation)?;
        let longest = longest_value(annotation);
        let why = if value.len() > longest {
            format!("it has more than {longest} bytes")
        } else {
            match value.parse() {
                Ok(parsed) => return Some(parsed),
                Err(error) => printed(error, SHOWN_BYTES),
            }
        };
        self.malformed.push(Malformed {
            annotation,
            value: value.chars().take(SHOWN_VALUE).collect(),
            why,
            form,
        });
        None
    }
}

/// `headstart.dev/max-nodes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxNodes {
    /// So many.
    Number(u32),
    /// So many of a hundred that are eligible, rounded up.
    Share(Share),
}

impl MaxNodes {
    /// How many of the eligible nodes that are.
    pub fn of(self, eligible: usize) -> usize {
        match self {
            Self::Number(number) => usize::try_from(number).unwrap_or(usize::MAX),
            Self::Share(share) => share.of(eligible),
        }
    }
}

/// From 1 to 100 of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u8);

impl Share {
    /// So many of these, rounded up.
    pub fn of(self, all: usize) -> usize {
        all.saturating_mul(usize::from(self.0)).div_ceil(100)
    }
}

/// `headstart.dev/hold-until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldUntil(pub Share);

/// `headstart.dev/refresh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh(pub SignedDuration);

/// `headstart.dev/hold-timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldTimeout(pub SignedDuration);

/// `headstart.dev/images`: references that a runtime would take, as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageList(pub Vec<String>);

/// Why a value cannot be read.
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

impl FromStr for Share {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let percent = number(value.strip_suffix('%').ok_or(InvalidValue::NoPercent)?)?;
        match u8::try_from(percent) {
            Ok(percent) if percent <= 100 => Ok(Self(percent)),
            _ => Err(InvalidValue::MoreThanAll),
        }
    }
}

impl FromStr for MaxNodes {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        if value.ends_with('%') {
            value.parse().map(Self::Share)
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
        // A comma at the end is no image.
        for image in value.split(',').map(str::trim).filter(|i| !i.is_empty()) {
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

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Display for MaxNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Share(share) => share.fmt(f),
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
