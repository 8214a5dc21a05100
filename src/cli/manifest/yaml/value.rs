//! The value of a document's nodes, with aliases followed and mappings merged.

use serde_json::{Map, Number, Value};

use super::error::{Error, MAX_DEPTH};
use super::nodes::{Content, Node};
use crate::cli::manifest::scalar::{Scalar, resolve};

/// The tag of a merge key.
const MERGE_TAG: &str = "tag:yaml.org,2002:merge";

/// The value of a node.
pub(super) fn of(nodes: &[Node], root: usize) -> Result<Value, Error> {
    let mut converter = Converter {
        nodes,
        followed: Vec::new(),
        converted: 1,
        of_aliases: 0,
    };
    converter.value(root, 0)
}

struct Converter<'a> {
    nodes: &'a [Node],
    /// The aliases that lead to the current node.
    followed: Vec<usize>,
    /// The number of nodes converted so far.
    converted: u32,
    /// The number of those that were reached through aliases.
    of_aliases: u32,
}

impl<'a> Converter<'a> {
    fn value(&mut self, place: usize, depth: usize) -> Result<Value, Error> {
        match self.content(place, depth)? {
            Content::Scalar { tag, text, plain } => {
                json(self.scalar(place, tag.as_deref(), text, *plain)?)
                    .map_or_else(|message| self.fail(place, message), Ok)
            }
            Content::Sequence(items) => {
                let values = items.iter().map(|item| self.value(*item, depth + 1));
                values.collect::<Result<_, _>>().map(Value::Array)
            }
            Content::Mapping(entries) => {
                let mut map = Map::new();
                self.fill(&mut map, entries, depth)?;
                Ok(Value::Object(map))
            }
            Content::Alias(target) => {
                self.through(place, |converter| converter.value(*target, depth + 1))
            }
        }
    }

    /// Returns the content of a node, and counts it: a small text with many aliases is a large document.
    fn content(&mut self, place: usize, depth: usize) -> Result<&'a Content, Error> {
        self.converted += 1;
        self.of_aliases += u32::from(!self.followed.is_empty());
        let share = f64::from(self.of_aliases) / f64::from(self.converted);
        if self.of_aliases > 100
            && self.converted > 1000
            && share > allowed_share_of_aliases(self.converted)
        {
            return self.fail(place, "too much of the document is repeated by aliases");
        }
        if depth > MAX_DEPTH {
            return self.fail(place, format!("nested deeper than {MAX_DEPTH} levels"));
        }
        Ok(&self.nodes[place].content)
    }

    fn through<T>(
        &mut self,
        alias: usize,
        then: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.followed.contains(&alias) {
            return self.fail(alias, "an anchor's value contains itself");
        }
        self.followed.push(alias);
        let done = then(self);
        self.followed.pop();
        done
    }

    /// Inserts the entries of a mapping into `map`, and replaces existing ones.
    fn fill(
        &mut self,
        map: &mut Map<String, Value>,
        entries: &'a [(usize, usize)],
        depth: usize,
    ) -> Result<(), Error> {
        for (key, value) in entries {
            if self.is_merge(*key) {
                self.merge(map, *value, depth)?;
                continue;
            }
            let key = self.key(*key, depth)?;
            let value = self.value(*value, depth + 1)?;
            map.insert(key, value);
        }
        Ok(())
    }

    fn is_merge(&self, key: usize) -> bool {
        let Content::Scalar { tag, text, plain } = &self.nodes[key].content else {
            return false;
        };
        text == "<<" && (*plain || tag.as_deref() == Some(MERGE_TAG))
    }

    /// Merges a mapping, or several, of which the first takes precedence.
    fn merge(
        &mut self,
        map: &mut Map<String, Value>,
        place: usize,
        depth: usize,
    ) -> Result<(), Error> {
        match &self.nodes[place].content {
            Content::Sequence(items) => {
                let mut items = items.iter().rev();
                items.try_for_each(|item| self.merge_one(map, *item, depth))
            }
            _ => self.merge_one(map, place, depth),
        }
    }

    fn merge_one(
        &mut self,
        map: &mut Map<String, Value>,
        place: usize,
        depth: usize,
    ) -> Result<(), Error> {
        match self.content(place, depth)? {
            Content::Mapping(entries) => self.fill(map, entries, depth + 1),
            Content::Alias(target) => match self.nodes[*target].content {
                Content::Mapping(_) => self.through(place, |converter| {
                    converter.merge_one(map, *target, depth + 1)
                }),
                _ => self.fail(place, "<< takes a mapping, or a list of mappings"),
            },
            _ => self.fail(place, "<< takes a mapping, or a list of mappings"),
        }
    }

    fn key(&mut self, place: usize, depth: usize) -> Result<String, Error> {
        match self.content(place, depth)? {
            Content::Alias(target) => {
                self.through(place, |converter| converter.key(*target, depth + 1))
            }
            Content::Scalar { tag, text, plain } => {
                match self.scalar(place, tag.as_deref(), text, *plain)? {
                    Scalar::Text(text) => Ok(text),
                    Scalar::Bool(value) => Ok(value.to_string()),
                    Scalar::Int(value) => Ok(value.to_string()),
                    #[allow(clippy::cast_possible_truncation)] // As sigs.k8s.io/yaml does.
                    Scalar::Float(value) => Ok(float_key(value as f32)),
                    Scalar::Null | Scalar::Unsigned(_) => {
                        self.fail(place, format!("{text:?} cannot be a key"))
                    }
                }
            }
            Content::Sequence(_) | Content::Mapping(_) => {
                self.fail(place, "a list or a mapping cannot be a key")
            }
        }
    }

    fn scalar(
        &self,
        place: usize,
        tag: Option<&str>,
        text: &str,
        plain: bool,
    ) -> Result<Scalar, Error> {
        if tag.is_none() && !plain {
            return Ok(Scalar::Text(text.to_owned()));
        }
        resolve(tag, text).or_else(|message| self.fail(place, message))
    }

    fn fail<T>(&self, place: usize, message: impl Into<String>) -> Result<T, Error> {
        Err(Error::new(message, Some(self.nodes[place].line)))
    }
}

/// The limit of go.yaml.in/yaml/v2: nearly all of a document of ordinary size, a tenth of a very large one.
fn allowed_share_of_aliases(converted: u32) -> f64 {
    const ORDINARY: f64 = 400_000.0;
    const LARGE: f64 = 4_000_000.0;
    let beyond = (f64::from(converted) - ORDINARY) / (LARGE - ORDINARY);
    0.99 - 0.89 * beyond.clamp(0.0, 1.0)
}

fn json(scalar: Scalar) -> Result<Value, String> {
    Ok(match scalar {
        Scalar::Null => Value::Null,
        Scalar::Bool(value) => value.into(),
        Scalar::Int(value) => value.into(),
        Scalar::Unsigned(value) => value.into(),
        Scalar::Float(value) => match Number::from_f64(value) {
            Some(number) => number.into(),
            None => return Err(format!("{value} is no number that JSON has")),
        },
        Scalar::Text(text) => text.into(),
    })
}

/// Go's `strconv.FormatFloat(value, 'g', -1, 32)`.
fn float_key(value: f32) -> String {
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => value.to_string(),
    }
}
