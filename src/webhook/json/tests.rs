use super::*;
use proptest::prelude::*;
use serde::de::IgnoredAny;

fn is_json(text: &[u8]) -> bool {
    let mut json = Json::new(text);
    json.skip().and_then(|_| json.end()).is_ok()
}

fn text(json: &str, bytes: usize) -> String {
    let text = Json::new(json.as_bytes()).text();
    text.unwrap().up_to(bytes).into_owned()
}

proptest! {
    #[test]
    fn what_is_json_is_told_as_serde_json_does(text in r#"[\[\]{}:,"\\ 0-9a-f.eE+\-trulsn\n\t/]{0,24}"#) {
        let theirs = serde_json::from_slice::<IgnoredAny>(text.as_bytes());
        prop_assert_eq!(is_json(text.as_bytes()), theirs.is_ok(), "{:?}", theirs);
    }

    #[test]
    fn a_string_says_what_serde_json_reads(text: String) {
        let json = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(super::tests::text(&json, usize::MAX / 2), text.as_str());
        // The text with each character escaped.
        let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let json = format!("\"{escaped}\"");
        prop_assert_eq!(super::tests::text(&json, usize::MAX / 2), text.as_str());
        // A text that is cut keeps its beginning, and is longer than requested.
        let cut = super::tests::text(&json, 10);
        prop_assert!(text.starts_with(&cut));
        prop_assert!(cut == text || (11..=14).contains(&cut.len()), "{}", cut);
    }
}

#[test]
fn damaged_and_odd_texts_are_told_as_serde_json_does() {
    let sound = br#"{"a":[1,-0.5e+3,"x\u00e9\n",{"b":{}},[],true,false,null],"c":"\ud834\udd1e"}"#;
    assert!(is_json(sound));
    for at in 0..sound.len() {
        for byte in [b'"', b'}', b']', b',', b' ', b'0', b'\\', 0x1f] {
            let mut damaged = sound.to_vec();
            damaged[at] = byte;
            let theirs = serde_json::from_slice::<IgnoredAny>(&damaged).is_ok();
            let shown = String::from_utf8_lossy(&damaged);
            assert_eq!(is_json(&damaged), theirs, "{shown}");
        }
        assert!(!is_json(&sound[..at]));
    }
}

#[test]
fn nesting_has_a_limit() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(is_json(nested(128).as_bytes()));
    assert!(!is_json(nested(130).as_bytes()));
    assert!(!is_json("[".repeat(1_000_000).as_bytes()));
}

#[test]
fn half_of_a_pair_stands_for_nothing() {
    assert_eq!(text(r#""a\ud834b""#, 100), "a\u{fffd}b");
    assert_eq!(text(r#""\ud834\n""#, 100), "\u{fffd}\n");
    assert_eq!(text(r#""\udd1e\ud834""#, 100), "\u{fffd}\u{fffd}");
    assert_eq!(text(r#""\ud834A""#, 100), "\u{fffd}A");
}

#[test]
fn a_list_has_its_elements_and_what_is_none_has_none() {
    let all = |text: &'static str| {
        let read = each(text.as_bytes(), Json::whole::<u8>);
        read.map(Result::ok).collect::<Vec<_>>()
    };
    assert_eq!(
        all(r#"[ 1 , {"a":[2]},"x",300,7]"#),
        [Some(1), None, None, None, Some(7)]
    );
    for none in ["[]", "[ ]", "{}", "5", ""] {
        assert!(all(none).is_empty(), "{none}");
    }
}
