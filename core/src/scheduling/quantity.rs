//! Kubernetes' quantities (`110`, `1k`, `4Gi`, `1e3`, `500m`), as far as counting needs them.

/// The parts of one that the smallest suffix, `n`, counts.
pub(crate) const ONE: i128 = 1_000_000_000;
/// The parts of a thousandth.
pub(crate) const MILLI: i128 = ONE / 1000;
/// Kubernetes takes no larger number than this.
const MAX: i128 = i64::MAX as i128 * ONE;
/// The most digits that are read. An API server stores quantities in a canonical form with fewer.
const MAX_DIGITS: usize = 36;

/// Returns the whole number that a quantity holds, rounded down and never negative; `None` if it is no quantity.
pub(crate) fn parse_integer(quantity: &str) -> Option<u64> {
    let parts = parse(quantity)?.max(0) / ONE;
    Some(u64::try_from(parts).unwrap_or(u64::MAX))
}

/// Returns the thousandths that a quantity holds, rounded up as the API server does and never negative; `None` if it is no
/// quantity.
pub(crate) fn parse_milli(quantity: &str) -> Option<u64> {
    let parts = parse(quantity)?.max(0);
    let milli = parts / MILLI + i128::from(parts % MILLI > 0);
    Some(u64::try_from(milli).unwrap_or(u64::MAX))
}

/// Returns a quantity in parts of [`ONE`]; `None` if it is no quantity. What is smaller than a part counts as one, and what is
/// too large as the largest number, as in Kubernetes.
pub(crate) fn parse(quantity: &str) -> Option<i128> {
    let digits_end = quantity
        .find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(digits_end);
    let (is_negative, number) = match number.strip_prefix(['-', '+']) {
        Some(rest) => (number.starts_with('-'), rest),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let digits: i128 = digits.parse().ok()?;
    let (factor, exponent) = scale(suffix)?;
    let exponent = exponent + 9 - i32::try_from(fraction.len()).ok()?;
    let parts = scaled(digits.checked_mul(factor).unwrap_or(MAX), exponent).min(MAX);
    Some(if is_negative { -parts } else { parts })
}

/// Returns the factor of a suffix, and the power of ten beside it.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 0));
    match suffix {
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "" => Some((1, 0)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => {
            let exponent: i16 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            Some((1, exponent.into()))
        }
    }
}

/// Returns a number times a power of ten, rounded up.
fn scaled(number: i128, exponent: i32) -> i128 {
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    match (number, power) {
        (0, _) => 0,
        (_, Some(power)) if exponent >= 0 => number.checked_mul(power).unwrap_or(MAX),
        (_, None) if exponent >= 0 => MAX,
        (_, Some(power)) => number / power + i128::from(number % power != 0),
        (_, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_quantity_counts() {
        let table = [
            ("110", Some(110)),
            ("0", Some(0)),
            ("-3", Some(0)),
            ("+3", Some(3)),
            ("1k", Some(1000)),
            ("1Ki", Some(1024)),
            ("2.5", Some(2)),
            (".5k", Some(500)),
            ("500m", Some(0)),
            ("11e1", Some(110)),
            ("1E2", Some(100)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("", None),
            (".", None),
            ("many", None),
            ("1x", None),
            ("1.2.3", None),
            ("1-2", None),
            ("é", None),
        ];
        for (quantity, expected) in table {
            assert_eq!(parse_integer(quantity), expected, "{quantity:?}");
        }
    }

    #[test]
    fn parts_are_exact_and_rounded_up() {
        let table = [
            ("1", ONE),
            ("100m", 100 * MILLI),
            ("1.5Gi", (3 * ONE) << 29),
            ("0.1Ki", 1024 * ONE / 10),
            ("1n", 1),
            ("0.1n", 1),
            ("1e-12", 1),
            ("1e-999", 1),
            ("0e999", 0),
            ("-1", -ONE),
            ("1e30", MAX),
            ("100E", MAX),
            ("1e999", MAX),
        ];
        for (quantity, expected) in table {
            assert_eq!(parse(quantity), Some(expected), "{quantity:?}");
        }
        assert_eq!(parse(&"9".repeat(40)), None);
    }

    #[test]
    fn thousandths_are_rounded_up() {
        let table = [
            ("0.1", Some(100)),
            ("1m", Some(1)),
            ("1.5m", Some(2)),
            ("1n", Some(1)),
            ("2.3", Some(2300)),
            ("16Mi", Some(16_777_216_000)),
            ("-1", Some(0)),
            ("16Ei", Some(u64::MAX)),
            ("x", None),
        ];
        for (quantity, expected) in table {
            assert_eq!(parse_milli(quantity), expected, "{quantity:?}");
        }
    }
}
