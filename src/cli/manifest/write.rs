//! Writes values as YAML that kubectl reads back unchanged.

use libyaml_safer::{Emitter, Encoding, Event, MappingStyle, ScalarStyle, SequenceStyle};
use serde_json::Value;

use super::scalar::is_plain;

/// Returns a value as one YAML document, without a line of `---`.
///
/// # Errors
/// None is known: every JSON value has a YAML form.
pub(crate) fn to_yaml(value: &Value) -> Result<String, libyaml_safer::Error> {
    let mut text = Vec::new();
    let mut emitter = Emitter::new();
    emitter.set_output_string(&mut text);
    emitter.set_unicode(true);
    // Long texts stay on one line.
    emitter.set_width(-1);
    emitter.emit(Event::stream_start(Encoding::Utf8))?;
    emitter.emit(Event::document_start(None, &[], true))?;
    emit(&mut emitter, value)?;
    emitter.emit(Event::document_end(true))?;
    emitter.emit(Event::stream_end())?;
    drop(emitter);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn emit(emitter: &mut Emitter<'_>, value: &Value) -> Result<(), libyaml_safer::Error> {
    match value {
        Value::String(text) => emitter.emit(text_event(text)),
        Value::Array(items) => {
            emitter.emit(Event::sequence_start(None, None, true, SequenceStyle::Any))?;
            for item in items {
                emit(emitter, item)?;
            }
            emitter.emit(Event::sequence_end())
        }
        Value::Object(entries) => {
            emitter.emit(Event::mapping_start(None, None, true, MappingStyle::Any))?;
            for (key, value) in entries {
                emitter.emit(text_event(key))?;
                emit(emitter, value)?;
            }
            emitter.emit(Event::mapping_end())
        }
        plain => {
            let word = plain.to_string();
            emitter.emit(Event::scalar(
                None,
                None,
                &word,
                true,
                false,
                ScalarStyle::Plain,
            ))
        }
    }
}

/// Quotes a text that would have another type without quotes.
fn text_event(text: &str) -> Event {
    Event::scalar(None, None, text, is_plain(text), true, ScalarStyle::Any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::manifest::yaml::read;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back() {
        let words = [
            "",
            "a",
            "yes",
            "0644",
            "1e3",
            "~",
            "null",
            "<<",
            "a: b",
            "# a",
            "- a",
            "a\nb\n",
            " a ",
            "\t",
            "é",
            "\u{85}",
            "{{a}}",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a`",
            "'",
            "\"",
            "\\",
            "2001-01-01",
        ];
        for word in words {
            let value =
                json!({"a": [word, {word: word}], "n": [1, 1.5, null, true], "e": [[], {}]});
            let text = to_yaml(&value).unwrap();
            assert_eq!(read(text.as_bytes()), Ok(value), "{text}");
        }
    }

    #[test]
    fn it_is_for_people_as_well() {
        let value = json!({"name": "web", "version": "1.27", "ports": [{"port": 80}]});
        let expected = "name: web\nports:\n- port: 80\nversion: '1.27'\n";
        assert_eq!(to_yaml(&value).unwrap(), expected);
    }
}
