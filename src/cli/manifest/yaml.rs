//! One YAML document as JSON, by the rules of sigs.k8s.io/yaml: the last of repeated keys wins, `<<` merges where it
//! stands, and keys become texts.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{self, Location, catch_unwind};

use libyaml_safer::{Encoding, Event, EventData, Parser};
use serde_json::{Map, Number, Value};

use super::scalar::{Scalar, resolve};

/// How deep a document may be nested, aliases followed: as deep as serde_json reads JSON.
const MAX_DEPTH: usize = 128;
/// go.yaml.in/yaml takes `\'` in double quotes for `'`; libyaml stops there, with this.
const UNKNOWN_ESCAPE: &str = "found unknown escape character";
/// How many of those are taken in one document: each costs another reading.
const MAX_UNESCAPED: usize = 1_000;
/// What the tag of a merge key is.
const MERGE_TAG: &str = "tag:yaml.org,2002:merge";

/// A document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error {
    pub(super) message: String,
    /// Counted from 0, in the text that was read.
    pub(super) line: Option<usize>,
    /// The byte with a backslash that libyaml does not take.
    escape: Option<usize>,
}

impl Error {
    fn new(message: impl Into<String>, line: Option<usize>) -> Self {
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

/// Reads the first document of a text. What follows it is not looked at, as kubectl does not.
pub(super) fn read(text: &[u8]) -> Result<Value, Error> {
    let mut text = utf8(text)?;
    // libyaml-safer panics at tags in forms that go.yaml.in/yaml refuses: `[!a,b]`, `!%ff`.
    let read = |text: &[u8]| {
        let read = catch_unwind(|| read_utf8(text));
        read.unwrap_or_else(|_| Err(Error::new("there is a tag (!…) that cannot be read", None)))
    };
    for _ in 0..MAX_UNESCAPED {
        match read(&text) {
            Err(error) => match error.escape.and_then(|at| unescape(&text, at)) {
                Some(unescaped) => text = unescaped.into(),
                None => return Err(error),
            },
            read => return read,
        }
    }
    read(&text)
}

/// Says nothing of panics that [`read`] makes an error of.
pub(super) fn silence_panics() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let parsers = |place: &Location<'_>| place.file().contains("libyaml-safer");
        if !info.location().is_some_and(parsers) {
            hook(info);
        }
    }));
}

/// The text without the backslash at a byte, if it is one before `'`.
fn unescape(text: &[u8], at: usize) -> Option<Vec<u8>> {
    let rest = text.get(at..)?.strip_prefix(b"\\")?;
    rest.starts_with(b"'").then(|| [&text[..at], rest].concat())
}

fn read_utf8(text: &[u8]) -> Result<Value, Error> {
    let mut input = text;
    let mut reader = Reader {
        parser: Parser::new(),
        nodes: Vec::new(),
        anchors: HashMap::new(),
        line: 0,
    };
    reader.parser.set_input_string(&mut input);
    reader.parser.set_encoding(Encoding::Utf8);
    reader.next()?;
    if let EventData::StreamEnd = reader.next()?.data {
        return Ok(Value::Null);
    }
    let first = reader.next()?;
    let root = reader.node(first, 0)?;
    // Its end is part of it: `a: b` with a `]` behind is no document.
    reader.next()?;
    let mut converter = Converter {
        nodes: &reader.nodes,
        followed: Vec::new(),
        converted: 1,
        of_aliases: 0,
    };
    converter.value(root, 0)
}

/// The text without its byte order mark, and from the encoding that it tells.
fn utf8(text: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let (from, text): (fn([u8; 2]) -> u16, &[u8]) = match text {
        [0xef, 0xbb, 0xbf, text @ ..] => return Ok(text.into()),
        [0xff, 0xfe, text @ ..] => (u16::from_le_bytes, text),
        [0xfe, 0xff, text @ ..] => (u16::from_be_bytes, text),
        _ => return Ok(text.into()),
    };
    let (pairs, odd) = text.as_chunks();
    let units = pairs.iter().map(|pair| from(*pair));
    let decoded: Result<String, _> = char::decode_utf16(units).collect();
    match decoded {
        Ok(decoded) if odd.is_empty() => Ok(decoded.into_bytes().into()),
        _ => Err(Error::new(
            "it begins as UTF-16, but is not; write it in UTF-8",
            None,
        )),
    }
}

/// A node, with others named by their place among all.
#[derive(Debug)]
struct Node {
    line: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar {
        tag: Option<String>,
        text: String,
        /// Whether it stands there without quotes and without a tag.
        plain: bool,
    },
    Sequence(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
    Alias(usize),
}

struct Reader<'r, 'b> {
    parser: Parser<&'r mut &'b [u8]>,
    nodes: Vec<Node>,
    anchors: HashMap<String, usize>,
    line: usize,
}

impl Reader<'_, '_> {
    fn next(&mut self) -> Result<Event, Error> {
        let event = self.parser.parse()?;
        self.line = usize::try_from(event.start_mark.line).unwrap_or(usize::MAX);
        Ok(event)
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Error> {
        Err(Error::new(message, Some(self.line)))
    }

    /// Puts a node where its anchor finds it, before what is in it: that may name it.
    fn place(&mut self, content: Content, anchor: Option<String>) -> usize {
        let place = self.nodes.len();
        let line = self.line;
        self.nodes.push(Node { line, content });
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, place);
        }
        place
    }

    fn node(&mut self, event: Event, depth: usize) -> Result<usize, Error> {
        if depth > MAX_DEPTH {
            return self.fail(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        match event.data {
            EventData::Alias { anchor } => match self.anchors.get(&anchor) {
                Some(target) => Ok(self.place(Content::Alias(*target), None)),
                None => self.fail(format!("there is no anchor &{anchor} before *{anchor}")),
            },
            EventData::Scalar {
                anchor,
                tag,
                value: text,
                plain_implicit: plain,
                ..
            } => Ok(self.place(Content::Scalar { tag, text, plain }, anchor)),
            EventData::SequenceStart { anchor, .. } => {
                let place = self.place(Content::Sequence(Vec::new()), anchor);
                let mut items = Vec::new();
                loop {
                    let event = self.next()?;
                    if let EventData::SequenceEnd = event.data {
                        break;
                    }
                    items.push(self.node(event, depth + 1)?);
                }
                self.nodes[place].content = Content::Sequence(items);
                Ok(place)
            }
            EventData::MappingStart { anchor, .. } => {
                let place = self.place(Content::Mapping(Vec::new()), anchor);
                let mut entries = Vec::new();
                loop {
                    let event = self.next()?;
                    if let EventData::MappingEnd = event.data {
                        break;
                    }
                    let key = self.node(event, depth + 1)?;
                    let event = self.next()?;
                    entries.push((key, self.node(event, depth + 1)?));
                }
                self.nodes[place].content = Content::Mapping(entries);
                Ok(place)
            }
            _ => self.fail("a value is missing"),
        }
    }
}

struct Converter<'a> {
    nodes: &'a [Node],
    /// The aliases that lead to where it is.
    followed: Vec<usize>,
    /// How many nodes it has converted.
    converted: u32,
    /// How many of those were reached through aliases.
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

    /// What is at a place, counted: a small text with many aliases is a large document.
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

    /// Puts the entries of a mapping into `map`, over what is there.
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

    /// Merges a mapping, or several of which the first counts most.
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

/// As go.yaml.in/yaml/v2 has it: nearly all of a document of ordinary size, a tenth of a very large one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Result<Value, String> {
        read(text.as_bytes()).map_err(|error| error.message)
    }

    #[test]
    fn the_last_of_repeated_keys_wins() {
        assert_eq!(value("a: 1\na: 2"), Ok(json!({"a": 2})));
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        let text = "base: &base {x: 1, z: 1}\nderived: {<<: *base, z: 2}";
        assert_eq!(value(text).unwrap()["derived"], json!({"x": 1, "z": 2}));
        // The merge is later than the key, and so it wins.
        let text = "base: &base {x: 1}\nderived: {x: 2, <<: *base}";
        assert_eq!(value(text).unwrap()["derived"], json!({"x": 1}));
        let text = "a: &a {x: 1}\nb: &b {x: 2, z: 2}\nc: {<<: [*a, *b]}";
        assert_eq!(value(text).unwrap()["c"], json!({"x": 1, "z": 2}));
        assert!(
            value("a: {<<: b}")
                .unwrap_err()
                .contains("<< takes a mapping")
        );
    }

    #[test]
    fn keys_become_texts() {
        let text = "1: a\ntrue: b\n1.5: c\n1e6: d\n1e21: e\nyes: f";
        let expected = json!({"1": "a", "true": "f", "1.5": "c", "1e+06": "d", "1e+21": "e"});
        assert_eq!(value(text), Ok(expected));
        for text in ["~: a", "[a]: b", "{a: b}: c", "18446744073709551615: a"] {
            assert!(value(text).unwrap_err().contains("a key"), "{text}");
        }
    }

    #[test]
    fn what_is_no_document_says_where() {
        let error = read(b"a: 1\nb: [c\n").unwrap_err();
        assert_eq!(error.line, Some(2), "{error:?}");
        let error = read(b"a: 1\nb: *c\n").unwrap_err();
        assert_eq!(error.line, Some(1), "{error:?}");
        assert!(error.message.contains("no anchor &c"), "{error:?}");
    }

    #[test]
    fn aliases_and_depth_are_limited() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{items}]\n");
        }
        assert!(value(&bomb).unwrap_err().contains("repeated by aliases"));
        assert!(value("a: &a [*a]").unwrap_err().contains("contains itself"));
        let deep = "[".repeat(MAX_DEPTH + 2) + &"]".repeat(MAX_DEPTH + 2);
        assert!(value(&deep).unwrap_err().contains("nested deeper"));
    }

    #[test]
    fn an_escaped_apostrophe_is_one() {
        let text = r#"{"é": "don\'t, won\'t", "b": '\', "c": "\n"}"#;
        let expected = json!({"é": "don't, won't", "b": "\\", "c": "\n"});
        assert_eq!(value(text), Ok(expected));
        assert!(value(r#""\q""#).unwrap_err().contains(UNKNOWN_ESCAPE));
    }

    #[test]
    fn what_the_parser_panics_at_is_an_error() {
        for text in ["[!a,b]", "!%ff a"] {
            assert!(value(text).unwrap_err().contains("a tag"), "{text}");
        }
    }

    #[test]
    fn byte_order_marks_are_passed_over() {
        assert_eq!(value("\u{feff}a: 1"), Ok(json!({"a": 1})));
        let utf16: Vec<u8> = "\u{feff}a: ü\n"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        assert_eq!(read(&utf16), Ok(json!({"a": "ü"})));
    }
}
