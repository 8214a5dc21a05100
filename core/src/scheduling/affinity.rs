//! Required node affinity, as `k8s.io/component-helpers/scheduling/corev1/nodeaffinity` judges it.

use std::fmt;

use k8s_openapi::api::core::v1::{Affinity, NodeSelectorRequirement, NodeSelectorTerm};

use super::labels::Labels;
use super::selector::{InvalidSelector, Operator, Requirement};
use crate::limits::{AFFINITY_TERMS, AFFINITY_VALUES, SHOWN_BYTES, printed, shown};

/// The one field of a node that terms can name.
const NAME_FIELD: &str = "metadata.name";

/// Terms of which one must match. Without any, no node does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredAffinity {
    /// Those that can match: neither empty nor invalid. The scheduler passes over the others.
    terms: Vec<Term>,
    /// The reason why one of the others was passed over.
    invalid: Option<InvalidSelector>,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Term {
    labels: Box<[Requirement]>,
    fields: Box<[FieldRequirement]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldRequirement {
    key: String,
    value: String,
    equal: bool,
}

/// Returns whether an affinity is larger than headstart reads.
pub(crate) fn is_too_large(affinity: Option<&Affinity>) -> bool {
    let terms = required_terms(affinity).unwrap_or_default();
    let lists = terms
        .iter()
        .flat_map(|term| [&term.match_expressions, &term.match_fields]);
    let counts = lists.flatten().map(|conditions| {
        let values = conditions.iter().flat_map(|c| &c.values).map(Vec::len);
        (conditions.len(), values.max().unwrap_or_default())
    });
    is_beyond(terms.len(), counts)
}

/// The same by the number of its terms and, of each list of conditions, their number and the most values that one has.
pub fn is_beyond(terms: usize, counts: impl IntoIterator<Item = (usize, usize)>) -> bool {
    let is_beyond = |(conditions, values)| conditions > AFFINITY_TERMS || values > AFFINITY_VALUES;
    terms > AFFINITY_TERMS || counts.into_iter().any(is_beyond)
}

fn required_terms(affinity: Option<&Affinity>) -> Option<&[NodeSelectorTerm]> {
    let node_affinity = affinity?.node_affinity.as_ref()?;
    let required = &node_affinity.required_during_scheduling_ignored_during_execution;
    Some(&required.as_ref()?.node_selector_terms)
}

impl RequiredAffinity {
    /// Reads the required affinity of a pod; `None` if there is none.
    pub fn read(affinity: Option<&Affinity>) -> Option<Self> {
        let mut read = Self::default();
        for term in required_terms(affinity)? {
            match Term::read(term) {
                Ok(term) if term.labels.is_empty() && term.fields.is_empty() => {}
                Ok(term) => read.terms.push(term),
                Err(error) => read.invalid = read.invalid.or(Some(error)),
            }
        }
        read.terms.shrink_to_fit();
        Some(read)
    }

    /// Returns its size in memory.
    pub(crate) fn bytes(&self) -> usize {
        let of_field = |field: &FieldRequirement| {
            size_of::<FieldRequirement>() + field.key.len() + field.value.len()
        };
        let of_term = |term: &Term| {
            let labels: usize = term.labels.iter().map(Requirement::bytes).sum();
            size_of::<Term>() + labels + term.fields.iter().map(of_field).sum::<usize>()
        };
        // What an error repeats is bounded.
        let invalid = self.invalid.as_ref().map_or(0, |_| SHOWN_BYTES);
        self.terms.iter().map(of_term).sum::<usize>() + invalid
    }

    /// Returns whether a node satisfies it.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.terms.iter().any(|term| term.matches(name, labels))
    }

    /// Says, for people, why a node that does not match does not.
    pub(crate) fn explain(&self, labels: &Labels, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let term = match (self.terms.as_slice(), &self.invalid) {
            ([], Some(error)) => {
                return write!(f, "the required node affinity can match no node: {error}");
            }
            ([], None) => {
                return f.write_str("the required node affinity has no terms and matches no node");
            }
            ([term], _) => term,
            (terms, _) => {
                let terms = terms.len();
                return write!(
                    f,
                    "the node matches none of the {terms} terms of the required node affinity"
                );
            }
        };
        let Some(unmet) = term.labels.iter().find(|r| !r.matches(labels)) else {
            return f.write_str("required node affinity names other nodes");
        };
        let wanted = printed(unmet, SHOWN_BYTES);
        write!(f, "required node affinity wants {wanted}, the node has ")?;
        match labels.get(unmet.key()) {
            Some(value) => write!(f, "{}={}", unmet.key(), shown(value, SHOWN_BYTES)),
            None => f.write_str("no such label"),
        }
    }
}

impl Term {
    fn read(term: &NodeSelectorTerm) -> Result<Self, InvalidSelector> {
        let labels = term.match_expressions.iter().flatten();
        let fields = term.match_fields.iter().flatten();
        Ok(Self {
            labels: labels.map(label_requirement).collect::<Result<_, _>>()?,
            fields: fields.map(field_requirement).collect::<Result<_, _>>()?,
        })
    }

    fn matches(&self, name: &str, labels: &Labels) -> bool {
        // A node without a name has no fields to ask for, and the scheduler then does not ask.
        self.labels.iter().all(|r| r.matches(labels))
            && (name.is_empty() || self.fields.iter().all(|r| r.matches(name)))
    }
}

impl FieldRequirement {
    /// A field that nodes do not have is an empty one.
    fn matches(&self, name: &str) -> bool {
        let field = if self.key == NAME_FIELD { name } else { "" };
        (field == self.value) == self.equal
    }
}

fn label_requirement(expression: &NodeSelectorRequirement) -> Result<Requirement, InvalidSelector> {
    let operator = match expression.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        other => {
            return Err(InvalidSelector::Operator(
                shown(other, SHOWN_BYTES).into_owned(),
            ));
        }
    };
    let values = expression.values.as_deref().unwrap_or_default();
    Requirement::new(&expression.key, operator, values)
}

fn field_requirement(
    expression: &NodeSelectorRequirement,
) -> Result<FieldRequirement, InvalidSelector> {
    let equal = match expression.operator.as_str() {
        "In" => true,
        "NotIn" => false,
        other => {
            return Err(InvalidSelector::Operator(
                shown(other, SHOWN_BYTES).into_owned(),
            ));
        }
    };
    match expression.values.as_deref().unwrap_or_default() {
        [value] => Ok(FieldRequirement {
            key: expression.key.clone(),
            value: value.clone(),
            equal,
        }),
        values => Err(InvalidSelector::Count(values.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::skip_reason::SkipReason;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn affinity(terms: Value) -> RequiredAffinity {
        let affinity = serde_json::from_value(json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        }}));
        RequiredAffinity::read(Some(&affinity.unwrap())).unwrap()
    }

    fn node() -> Labels {
        Labels::from(&BTreeMap::from([
            ("zone".to_owned(), "a".to_owned()),
            ("cpus".to_owned(), "16".to_owned()),
        ]))
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"key": key, "operator": operator, "values": values})
    }

    #[test]
    fn terms_are_ored_and_conditions_anded() {
        let zone = |value| json!({"matchExpressions": [expression("zone", "In", &[value])]});
        let both = |value, cpus| json!({"matchExpressions": [expression("zone", "In", &[value]), expression("cpus", "Gt", &[cpus])]});
        let field = |operator, values: &[&str]| json!({"matchFields": [expression("metadata.name", operator, values)]});
        let table = [
            (json!([zone("a")]), true),
            (json!([zone("b")]), false),
            (json!([zone("b"), zone("a")]), true),
            (json!([both("a", "8")]), true),
            (json!([both("a", "16")]), false),
            (json!([field("In", &["n1"])]), true),
            (json!([field("NotIn", &["n1"])]), false),
            (json!([field("In", &["n1", "n2"])]), false),
            (json!([field("Exists", &[])]), false),
            (json!([]), false),
            (json!([{}]), false),
            (json!([{}, zone("a")]), true),
            (
                json!([{"matchExpressions": [expression("zone", "Near", &["a"])]}]),
                false,
            ),
            (
                json!([{"matchExpressions": [expression("zone", "In", &[])]}, zone("a")]),
                true,
            ),
        ];
        for (terms, expected) in table {
            assert_eq!(
                affinity(terms.clone()).matches("n1", &node()),
                expected,
                "{terms}"
            );
        }
    }

    #[test]
    fn no_affinity_requires_nothing() {
        assert_eq!(RequiredAffinity::read(None), None);
        assert_eq!(RequiredAffinity::read(Some(&Affinity::default())), None);
    }

    #[test]
    fn a_mismatch_names_the_condition() {
        let terms = json!([{"matchExpressions": [expression("zone", "In", &["b", "c"])]}]);
        let (affinity, labels) = (affinity(terms), node());
        assert_eq!(
            SkipReason::Affinity(&affinity, &labels).to_string(),
            "required node affinity wants zone in (b,c), the node has zone=a"
        );
    }
}
