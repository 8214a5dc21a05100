//! Takes a file apart into its documents, as kubectl does: JSON objects one after another, or YAML separated by lines of
//! `---`, wherever in the text such a line is.

use serde_json::Value;
use serde_json::value::RawValue;

use super::yaml;

/// The number of bytes by which a file is recognised as JSON.
const LOOKED_AT: usize = 4096;
/// The beginning of a line that ends a document.
const SEPARATOR: &[u8] = b"---";

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    /// The first line of the document, counted from 1.
    pub(super) line: usize,
    /// The value, or the line and the reason for which it cannot be read.
    pub(super) content: Result<Value, (usize, String)>,
}

/// Returns the documents of a file, without empty ones.
pub(super) fn documents(bytes: &[u8]) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut at = 0;
    if is_json(bytes) {
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>();
        let failed = loop {
            match values.next() {
                None => break None,
                Some(Err(error)) => break Some(error),
                Some(Ok(raw)) => {
                    let start = values.byte_offset() - raw.get().len();
                    documents.push(json_document(raw.get(), line_of(bytes, start)));
                    at = values.byte_offset();
                }
            }
        };
        match (failed, documents.len()) {
            (None, 1..) => return documents,
            // After a second object the file is certainly JSON.
            (Some(error), 2..) => {
                documents.push(Document {
                    line: line_of(bytes, at + leading_space(&bytes[at..])),
                    content: Err((error.line(), message(&error))),
                });
                return documents;
            }
            // Otherwise it may be YAML whose first document is in JSON.
            _ => {}
        }
        at += space_to_line_end(&bytes[at..]);
    }
    yaml_documents(&bytes[at..], line_of(bytes, at), &mut documents);
    documents
}

fn is_json(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(LOOKED_AT)];
    start.get(leading_space(start)) == Some(&b'{')
}

fn json_document(text: &str, line: usize) -> Document {
    let content = serde_json::from_str(text);
    Document {
        line,
        content: content
            .map_err(|error: serde_json::Error| (line + error.line() - 1, message(&error))),
    }
}

/// Returns the message without its position, which is not the position in the file.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = text.rfind(" at line ").unwrap_or(text.len());
    text[..place].to_owned()
}

fn leading_space(bytes: &[u8]) -> usize {
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    bytes.iter().take_while(|byte| is_space(byte)).count()
}

fn space_to_line_end(bytes: &[u8]) -> usize {
    let space = leading_space(bytes);
    let line_end = bytes[..space].iter().position(|byte| *byte == b'\n');
    line_end.map_or(space, |line_end| line_end + 1)
}

fn line_of(bytes: &[u8], at: usize) -> usize {
    1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count()
}

fn yaml_documents(bytes: &[u8], first_line: usize, documents: &mut Vec<Document>) {
    let mut document = Vec::new();
    let mut start = first_line;
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    for (number, line) in (first_line..).zip(lines) {
        let line = match line {
            [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] | line => line,
        };
        if let Some(rest) = line.strip_prefix(SEPARATOR) {
            let rest = rest.trim_ascii();
            if !rest.is_empty() && !rest.starts_with(b"#") {
                let rest = String::from_utf8_lossy(rest);
                let message = format!("only a comment may follow ---, but there is {rest:?}");
                documents.push(Document {
                    line: start,
                    content: Err((number, message)),
                });
                document.clear();
                start = number + 1;
                continue;
            }
            if !document.is_empty() {
                documents.extend(yaml_document(&document, start));
                document.clear();
                start = number + 1;
                continue;
            }
        }
        document.extend_from_slice(line);
        document.push(b'\n');
    }
    documents.extend(yaml_document(&document, start));
}

/// Returns `None` for an empty document, or one with only comments.
fn yaml_document(text: &[u8], first_line: usize) -> Option<Document> {
    let is_content = |line: &[u8]| {
        let first = line.iter().find(|byte| **byte != b' ');
        !line.starts_with(SEPARATOR) && !matches!(first, None | Some(b'#'))
    };
    let before = text.split(|byte| *byte == b'\n').position(is_content)?;
    let content = match yaml::read(text) {
        // kubectl takes it for an empty document too.
        Ok(Value::Null) => return None,
        Ok(value) => Ok(value),
        Err(error) => Err((first_line + error.line.unwrap_or(before), error.message)),
    };
    Some(Document {
        line: first_line + before,
        content,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn contents(text: &str) -> Vec<(usize, Result<Value, usize>)> {
        let documents = documents(text.as_bytes()).into_iter();
        let content = |document: Document| {
            let content = document.content.map_err(|(line, _)| line);
            (document.line, content)
        };
        documents.map(content).collect()
    }

    #[test]
    fn yaml_is_divided_by_lines_of_three_dashes() {
        let text = "# first\n---\na: 1\n--- # next\n---\n\nb: 2\r\n---\r\n\n";
        let expected = [(3, Ok(json!({"a": 1}))), (7, Ok(json!({"b": 2})))];
        assert_eq!(contents(text), expected);
        assert_eq!(contents(""), []);
        assert_eq!(contents("---\n# nothing\n---\n"), []);
    }

    #[test]
    fn json_objects_follow_one_another_or_are_divided_as_yaml() {
        let expected = [(1, Ok(json!({"a": 1}))), (2, Ok(json!({"b": 2})))];
        assert_eq!(contents("{\"a\":\t1}\n{\"b\": 2}"), expected);
        let expected = [(1, Ok(json!({"a": 1}))), (3, Ok(json!({"b": 2})))];
        assert_eq!(contents("{\"a\": 1}\n---\n{\"b\": 2}"), expected);
        assert_eq!(contents("{a: 1}"), [(1, Ok(json!({"a": 1})))]);
    }

    #[test]
    fn what_cannot_be_read_leaves_the_other_documents_as_they_are() {
        let text = "a: 1\n---\nb:\n  {{c}}\n---\nd: 1\n--- e\nf: 1";
        let expected = [
            (1, Ok(json!({"a": 1}))),
            (3, Err(4)),
            (6, Err(7)),
            (8, Ok(json!({"f": 1}))),
        ];
        assert_eq!(contents(text), expected);
        let json = contents("{\"a\": 1}\n{\"b\": 2}\n{\"c\": ");
        assert_eq!(json.len(), 3);
        assert_eq!(json[2], (3, Err(3)));
    }
}
