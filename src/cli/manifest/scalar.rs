//! The values of YAML scalars: the rules of YAML 1.1 as go.yaml.in/yaml/v2 has them. sigs.k8s.io/yaml, with which kubectl
//! reads files, uses that parser.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The prefix of the tags of YAML's own types.
const TYPES: &str = "tag:yaml.org,2002:";

/// The value of a scalar.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number above those.
    Unsigned(u64),
    /// Any other number.
    Float(f64),
    /// Everything else.
    Text(String),
}

/// Returns the value of a scalar that is plain or has a tag.
pub(super) fn resolve(tag: Option<&str>, text: &str) -> Result<Scalar, String> {
    let Some(tag) = tag else {
        return Ok(implicit(text));
    };
    let wanted = tag.strip_prefix(TYPES);
    let found = match wanted {
        Some("str") => return Ok(Scalar::Text(text.to_owned())),
        Some("binary") => return binary(text),
        Some("bool" | "int" | "float" | "null" | "timestamp") => implicit(text),
        // Unknown tags are ignored.
        _ => return Ok(Scalar::Text(text.to_owned())),
    };
    match (wanted, found) {
        (Some("null"), Scalar::Null) => Ok(Scalar::Null),
        (Some("bool"), Scalar::Bool(value)) => Ok(Scalar::Bool(value)),
        (Some("int"), found @ (Scalar::Int(_) | Scalar::Unsigned(_))) => Ok(found),
        (Some("float"), found @ Scalar::Float(_)) => Ok(found),
        #[allow(clippy::cast_precision_loss)] // As Go does.
        (Some("float"), Scalar::Int(value)) => Ok(Scalar::Float(value as f64)),
        // Only its form is checked; the value stays text.
        (Some("timestamp"), found @ Scalar::Text(_)) if is_date(text) => Ok(found),
        _ => Err(format!(
            "cannot read {text:?} as !!{}",
            wanted.unwrap_or(tag)
        )),
    }
}

/// Returns whether YAML reads a text back unchanged when it is written without quotes.
pub(super) fn is_plain(text: &str) -> bool {
    matches!(implicit(text), Scalar::Text(_)) && text != "<<"
}

fn implicit(text: &str) -> Scalar {
    let number = match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Scalar::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => Some(Scalar::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            Some(Scalar::Float(f64::INFINITY))
        }
        "-.inf" | "-.Inf" | "-.INF" => Some(Scalar::Float(f64::NEG_INFINITY)),
        _ if text.starts_with('.') => float(text),
        _ if text.starts_with(|first: char| first.is_ascii_digit() || "+-".contains(first)) => {
            // Underscores may stand anywhere, as in 1_000.
            let text = text.replace('_', "");
            int(&text).or_else(|| float(&text))
        }
        _ => None,
    };
    number.unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

/// Go's `strconv.ParseInt(text, 0, 64)`, and `ParseUint` for larger numbers: a leading 0 is octal.
fn int(text: &str) -> Option<Scalar> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("+", &text[1..]),
        _ => ("", text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // Rust would accept a second sign.
    if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
        return None;
    }
    match i64::from_str_radix(&format!("{sign}{digits}"), radix) {
        Ok(value) => Some(Scalar::Int(value)),
        Err(_) if sign.is_empty() => {
            let value = u64::from_str_radix(digits, radix).ok()?;
            Some(Scalar::Unsigned(value))
        }
        Err(_) => None,
    }
}

/// A decimal number, with a point or an exponent or neither.
fn float(text: &str) -> Option<Scalar> {
    let is_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    // Rust would accept words, such as `infinity`.
    let value: f64 = text.chars().all(is_number).then(|| text.parse().ok())??;
    // A number out of range stays text.
    value.is_finite().then_some(Scalar::Float(value))
}

fn binary(text: &str) -> Result<Scalar, String> {
    let text: String = text.chars().filter(|c| !"\r\n".contains(*c)).collect();
    let bytes = STANDARD.decode(text);
    let bytes = bytes.map_err(|error| format!("a !!binary value is not base64: {error}"))?;
    Ok(Scalar::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Returns whether a text begins like a date.
fn is_date(text: &str) -> bool {
    let year = text.split('-').next().unwrap_or_default();
    year.len() == 4 && year != text && year.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_they_mean_to_kubectl() {
        let text = |text: &str| Scalar::Text(text.to_owned());
        for (word, meaning) in [
            ("0644", Scalar::Int(0o644)),
            ("0o644", Scalar::Int(0o644)),
            ("-0644", Scalar::Int(-0o644)),
            ("0x1F", Scalar::Int(31)),
            ("0b101", Scalar::Int(5)),
            ("1_000", Scalar::Int(1000)),
            ("+12", Scalar::Int(12)),
            ("08", Scalar::Float(8.0)),
            ("1e3", Scalar::Float(1000.0)),
            ("1.", Scalar::Float(1.0)),
            (".5", Scalar::Float(0.5)),
            ("9223372036854775808", Scalar::Unsigned(1 << 63)),
            (
                "18446744073709551616",
                Scalar::Float(18446744073709551616.0),
            ),
            ("on", Scalar::Bool(true)),
            ("N", Scalar::Bool(false)),
            ("~", Scalar::Null),
            ("", Scalar::Null),
            ("1:30", text("1:30")),
            ("2001-01-01", text("2001-01-01")),
            ("0x", text("0x")),
            ("--1", text("--1")),
            ("1e999", text("1e999")),
            ("oN", text("oN")),
            ("_1", text("_1")),
            ("+", text("+")),
            (".", text(".")),
            ("1.2.3", text("1.2.3")),
        ] {
            assert_eq!(implicit(word), meaning, "{word:?}");
        }
    }

    #[test]
    fn a_tag_decides_or_refuses() {
        let tag = |short: &str| format!("{TYPES}{short}");
        let read = |short: &str, word: &str| resolve(Some(&tag(short)), word);
        assert_eq!(read("str", "12"), Ok(Scalar::Text("12".into())));
        assert_eq!(read("float", "1"), Ok(Scalar::Float(1.0)));
        assert_eq!(read("binary", "aGk="), Ok(Scalar::Text("hi".into())));
        assert_eq!(resolve(Some("!Ref"), "12"), Ok(Scalar::Text("12".into())));
        for (short, word) in [
            ("int", "a"),
            ("bool", "1"),
            ("null", "a"),
            ("binary", "?"),
            ("timestamp", "now"),
        ] {
            assert!(read(short, word).is_err(), "!!{short} {word}");
        }
    }
}
