use super::error::{MAX_DEPTH, UNKNOWN_ESCAPE};
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
