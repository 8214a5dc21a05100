//! The nodes of a document, built from libyaml's events.

use std::collections::HashMap;

use libyaml_safer::{Encoding, Event, EventData, Parser};

use super::error::{Error, MAX_DEPTH};

/// Returns the nodes of the first document of a text, and the index of its root. `None` if there is no document.
pub(super) fn read(text: &[u8]) -> Result<Option<(Vec<Node>, usize)>, Error> {
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
        return Ok(None);
    }
    let first = reader.next()?;
    let root = reader.node(first, 0)?;
    // Reads the end of the document too: `a: b` with a `]` behind is no document.
    reader.next()?;
    Ok(Some((reader.nodes, root)))
}

/// A node, which refers to others by their index.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar {
        tag: Option<String>,
        text: String,
        /// True if the scalar has neither quotes nor a tag.
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

    /// Adds a node and registers its anchor before its content is read, because the content may refer to it.
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
