//! Label selectors, as `k8s.io/apimachinery/pkg/labels` parses, validates and matches them.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::labels::Labels;
use crate::limits::{SELECTOR_CONDITIONS, SELECTOR_VALUES, SHOWN_BYTES, shown};

mod lexer;
mod parser;
#[cfg(test)]
mod tests;

/// Longest value of a label, and longest name in a key.
const MAX_LENGTH: usize = 63;
/// Longest prefix of a key: a DNS name.
const MAX_PREFIX_LENGTH: usize = 253;

/// A condition on a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// There with one of the values; `=` and `==` are this with one value.
    In,
    /// Absent, or with none of the values; `!=` is this with one value.
    NotIn,
    /// There.
    Exists,
    /// Absent.
    DoesNotExist,
    /// A whole number above the value.
    Gt,
    /// A whole number below the value.
    Lt,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    key: Box<str>,
    operator: Operator,
    /// Separated by commas, which no value has: a string for each would take several times the memory.
    values: Option<Box<str>>,
}

/// Conditions that must all hold; without any, everything is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Box<[Requirement]>);

/// The reason why a string is not a selector, or a condition is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelector {
    /// The grammar expects something else here.
    #[error("found {found:?} where {wanted} should be")]
    Syntax {
        /// The value that is there.
        found: String,
        /// The value that is expected.
        wanted: &'static str,
    },
    /// A key breaks the rules.
    #[error(
        "{0:?} is no label key: letters, digits, '-', '_' and '.', up to {MAX_LENGTH}, after an optional DNS name and '/'"
    )]
    Key(String),
    /// A value breaks the rules.
    #[error(
        "{0:?} is no label value: letters, digits, '-', '_' and '.', up to {MAX_LENGTH}, beginning and ending with a letter or digit"
    )]
    Value(String),
    /// The operator wants another number of values.
    #[error("{0} values do not go with this operator")]
    Count(usize),
    /// `Gt` and `Lt` compare whole numbers.
    #[error("{0:?} is no whole number")]
    Number(String),
    /// An operator that Kubernetes does not have.
    #[error("there is no operator {0:?}")]
    Operator(String),
    /// More conditions than are read.
    #[error("more than {SELECTOR_CONDITIONS} conditions")]
    TooManyConditions,
    /// More values than are read.
    #[error("more than {SELECTOR_VALUES} values in one condition")]
    TooManyValues,
}

/// The part of the input that an error repeats.
fn named(text: &str) -> String {
    shown(text, SHOWN_BYTES).into_owned()
}

impl Requirement {
    /// A condition, if Kubernetes would take it.
    ///
    /// # Errors
    /// Fails if the key, a value or the number of values breaks the rules.
    pub fn new<V: AsRef<str>>(
        key: &str,
        operator: Operator,
        values: &[V],
    ) -> Result<Self, InvalidSelector> {
        if !is_label_key(key) {
            return Err(InvalidSelector::Key(named(key)));
        }
        let fits = match operator {
            Operator::In | Operator::NotIn => !values.is_empty(),
            Operator::Exists | Operator::DoesNotExist => values.is_empty(),
            Operator::Gt | Operator::Lt => values.len() == 1,
        };
        if !fits {
            return Err(InvalidSelector::Count(values.len()));
        }
        let given = || values.iter().map(AsRef::as_ref);
        if let Some(value) = given().find(|value| !is_label_value(value)) {
            return Err(InvalidSelector::Value(named(value)));
        }
        if matches!(operator, Operator::Gt | Operator::Lt)
            && let Some(value) = given().find(|value| value.parse::<i64>().is_err())
        {
            return Err(InvalidSelector::Number(named(value)));
        }
        let values: Vec<&str> = given().collect();
        Ok(Self {
            key: key.into(),
            operator,
            values: (!values.is_empty()).then(|| values.join(",").into()),
        })
    }

    /// The label it is about.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The condition.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// With which values.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().flat_map(|values| values.split(','))
    }

    /// Returns its size in memory.
    pub(crate) fn bytes(&self) -> usize {
        let values = self.values.as_ref().map_or(0, |values| values.len());
        size_of::<Self>() + self.key.len() + values
    }

    /// Returns whether it holds.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let is_among = |value: &str| self.values().any(|wanted| wanted == value);
        let compares = |holds: fn(&i64, &i64) -> bool| {
            let found = value.and_then(|value| value.parse().ok());
            let bound = self.values().next().and_then(|bound| bound.parse().ok());
            found
                .zip(bound)
                .is_some_and(|(found, bound)| holds(&found, &bound))
        };
        match self.operator {
            Operator::In => value.is_some_and(is_among),
            Operator::NotIn => !value.is_some_and(is_among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => compares(i64::gt),
            Operator::Lt => compares(i64::lt),
        }
    }
}

impl Selector {
    /// The conditions.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    /// Returns whether all conditions hold.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.first_unmatched(labels).is_none()
    }

    /// The first condition that does not hold.
    pub fn first_unmatched(&self, labels: &Labels) -> Option<&Requirement> {
        self.0
            .iter()
            .find(|requirement| !requirement.matches(labels))
    }

    /// Returns its size in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(Requirement::bytes).sum()
    }
}

impl TryFrom<&LabelSelector> for Selector {
    type Error = InvalidSelector;

    fn try_from(selector: &LabelSelector) -> Result<Self, InvalidSelector> {
        let labels = selector.match_labels.iter().flatten();
        let equal = labels.map(|(key, value)| Requirement::new(key, Operator::In, &[value]));
        let expressions = selector.match_expressions.iter().flatten();
        let set_based = expressions.map(|expression| {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(InvalidSelector::Operator(named(other))),
            };
            let values = expression.values.as_deref().unwrap_or_default();
            Requirement::new(&expression.key, operator, values)
        });
        let all = equal.chain(set_based).collect::<Result<Vec<_>, _>>();
        all.map(|all| Self(all.into()))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator, .. } = self;
        let values = self.values.as_deref().unwrap_or_default();
        let one = self.values().count() == 1;
        match operator {
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::In if one => write!(f, "{key}={values}"),
            Operator::NotIn if one => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Gt => write!(f, "{key}>{values}"),
            Operator::Lt => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

/// `content.IsLabelKey`.
pub(crate) fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_dns_name) && !name.is_empty() && is_label_value(name)
}

/// `content.IsLabelValue`.
pub(crate) fn is_label_value(value: &str) -> bool {
    let is_edge = |b: u8| b.is_ascii_alphanumeric();
    let edges =
        value.bytes().next().is_none_or(is_edge) && value.bytes().last().is_none_or(is_edge);
    value.len() <= MAX_LENGTH
        && edges
        && value
            .bytes()
            .all(|b| is_edge(b) || matches!(b, b'-' | b'_' | b'.'))
}

/// `content.IsDNS1123Subdomain`.
fn is_dns_name(name: &str) -> bool {
    let is_edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= MAX_PREFIX_LENGTH
        && name.split('.').all(|label| {
            label.bytes().next().is_some_and(is_edge)
                && label.bytes().last().is_some_and(is_edge)
                && label.bytes().all(|b| is_edge(b) || b == b'-')
        })
}
