//! Kubernetes' quantities (`110`, `1k`, `4Gi`, `1e3`), as far as counting needs them.

/// The whole number that a quantity holds, rounded down and never negative; `None` if it is no quantity.
pub(crate) fn parse_integer(quantity: &str) -> Option<u64> {
    // A cast of floats saturates: at zero below, and at the largest number above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some(parse(quantity)?.floor() as u64)
}

/// The thousandths that a quantity holds, rounded up as the API server does and never negative; `None` if it is no quantity.
pub(crate) fn parse_milli(quantity: &str) -> Option<u64> {
    let milli = parse(quantity)? * 1e3;
    let nearest = milli.round();
    // Decimal fractions have no exact float: 0.1 is a little more than a tenth.
    let is_whole = (milli - nearest).abs() <= milli.abs() * 1e-12;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some(if is_whole { nearest } else { milli.ceil() } as u64)
}

fn parse(quantity: &str) -> Option<f64> {
    let digits_end = quantity
        .find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(digits_end);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::{parse_integer, parse_milli};

    #[test]
    fn every_form_of_a_quantity_counts() {
        let table = [
            ("110", Some(110)),
            ("0", Some(0)),
            ("-3", Some(0)),
            ("1k", Some(1000)),
            ("1Ki", Some(1024)),
            ("2.5", Some(2)),
            ("500m", Some(0)),
            ("11e1", Some(110)),
            ("1E2", Some(100)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("", None),
            ("many", None),
            ("1x", None),
            ("1.2.3", None),
            ("é", None),
        ];
        for (quantity, expected) in table {
            assert_eq!(parse_integer(quantity), expected, "{quantity:?}");
        }
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
