use super::*;
use std::collections::BTreeMap;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let map: BTreeMap<String, String> = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Labels::from(&map)
}

#[test]
fn selectors_match_as_in_kubernetes() {
    let node = labels(&[("pool", "web"), ("zone", "a"), ("cpus", "16"), ("bare", "")]);
    let table = [
        ("", true),
        ("pool=web,zone in (a,b)", true),
        ("pool==web", true),
        ("pool = web , zone", true),
        ("pool!=web", false),
        ("other!=web", true),
        ("zone notin (a)", false),
        ("other notin (a)", true),
        ("!gpu", true),
        ("!pool", false),
        ("cpus>8", true),
        ("cpus<16", false),
        ("pool>8", false),
        ("bare=", true),
        ("bare in ()", true),
        ("in=x", false),
        ("!in", true),
    ];
    for (selector, expected) in table {
        let parsed: Selector = selector
            .parse()
            .unwrap_or_else(|error| panic!("{selector}: {error}"));
        assert_eq!(parsed.matches(&node), expected, "{selector}");
        assert_eq!(parsed.to_string().parse(), Ok(parsed), "{selector}");
    }
}

#[test]
fn what_is_no_selector_says_why() {
    let table = [
        ("pool=web,", "after the comma"),
        (",pool", "a label key"),
        ("pool=web zone=a", "a comma or the end"),
        ("pool in web", "an opening parenthesis"),
        ("pool in (a", "a closing parenthesis"),
        ("pool in (a b)", "a closing parenthesis"),
        ("pool near web", "= == != in notin < >"),
        ("!pool=web", "a comma or the end"),
        ("po ol!", "= == != in notin < >"),
        ("-pool", "no label key"),
        ("A.b/pool=x", "no label key"),
        ("a/b/c", "no label key"),
        ("pool=-web", "no label value"),
        ("cpus>many", "no whole number"),
    ];
    for (selector, phrase) in table {
        let error = selector.parse::<Selector>().unwrap_err().to_string();
        assert!(error.contains(phrase), "{selector}: {error}");
    }
}

#[test]
fn the_selector_of_a_deployment_is_one_too() {
    let selector = serde_json::from_value(serde_json::json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "track", "operator": "NotIn", "values": ["canary", "test"]}],
    }))
    .unwrap();
    let selector = Selector::try_from(&selector).unwrap();
    assert_eq!(selector.to_string(), "app=web,track notin (canary,test)");
}

#[test]
fn a_selector_has_a_limited_number_of_conditions_and_of_values() {
    let conditions = |count: usize| vec!["a=b"; count].join(",");
    let values = |count: usize| format!("a in ({})", vec!["b"; count].join(","));
    let parsed = |text: String| text.parse::<Selector>().map(drop);
    assert_eq!(parsed(conditions(32)), Ok(()));
    assert_eq!(
        parsed(conditions(33)),
        Err(InvalidSelector::TooManyConditions)
    );
    assert_eq!(parsed(values(64)), Ok(()));
    assert_eq!(parsed(values(65)), Err(InvalidSelector::TooManyValues));
    assert_eq!(
        parsed(format!("a in ({}", ",".repeat(100))),
        Err(InvalidSelector::TooManyValues)
    );
    for long in ["a".repeat(100_000), format!("a={}", "b".repeat(100_000))] {
        let error = long.parse::<Selector>().unwrap_err().to_string();
        assert!(error.len() < 400, "{error}");
    }
}
