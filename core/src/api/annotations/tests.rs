use super::*;

fn read(annotation: &str, value: &str) -> Annotations {
    Annotations::read(Some(&BTreeMap::from([(
        annotation.to_owned(),
        value.to_owned(),
    )])))
}

/// Checks that each value prints as expected, and that the printed text reads back.
fn round_trip<T>(table: &[(&str, &str)])
where
    T: FromStr<Err: fmt::Debug> + fmt::Display + fmt::Debug + PartialEq,
{
    for (value, printed) in table {
        let parsed: T = value
            .parse()
            .unwrap_or_else(|error| panic!("{value}: {error:?}"));
        assert_eq!(parsed.to_string(), *printed, "{value}");
        assert_eq!(printed.parse::<T>().unwrap(), parsed, "{value}");
    }
}

#[test]
fn every_value_reads_back_what_it_prints() {
    round_trip::<Amount>(&[("50", "50"), ("30%", "30%"), ("007", "7"), ("100%", "100%")]);
    round_trip::<HoldUntil>(&[("90%", "90%"), ("1%", "1%")]);
    round_trip::<Refresh>(&[("5m", "5m"), ("90s", "1m 30s"), ("1h30m", "1h 30m")]);
    round_trip::<HoldTimeout>(&[("5m", "5m"), ("500ms", "500ms")]);
    round_trip::<ImageList>(&[
        (
            "a:1, ghcr.io/acme/runner:v3 ,",
            "a:1,ghcr.io/acme/runner:v3",
        ),
        ("", ""),
    ]);
}

#[test]
fn a_share_is_rounded_up_and_never_more_than_all() {
    let share = |value: &str, all| value.parse::<Amount>().map(|max| max.of(all));
    assert_eq!(share("30%", 10), Ok(3));
    assert_eq!(share("30%", 11), Ok(4));
    assert_eq!(share("1%", 1), Ok(1));
    assert_eq!(share("100%", 7), Ok(7));
    assert_eq!(share("50%", 0), Ok(0));
    assert_eq!(share("3", 100), Ok(3));
}

#[test]
fn no_annotations_say_nothing() {
    assert_eq!(Annotations::read(None), Annotations::default());
    assert_eq!(read("headstart.dev/other", "x"), Annotations::default());
}

#[test]
fn a_malformed_value_names_the_annotation_the_value_and_the_form() {
    let table = [
        (
            NODE_SELECTOR,
            "pool in web",
            "such as pool=web,zone in (a,b)",
            true,
        ),
        (MAX_NODES, "0", "such as 50", true),
        (MAX_NODES, "-3", "such as 50", true),
        (MAX_NODES, "+3", "such as 50", true),
        (MAX_NODES, "", "such as 50", true),
        (MAX_NODES, "101%", "such as 50", true),
        (MAX_NODES, "99999999999", "such as 50", true),
        (
            AFTER_READY,
            "all",
            "a number such as 1 or a share such as 25%",
            false,
        ),
        (REFRESH, "10 bananas", "such as 5m", false),
        (REFRESH, "5s", "at least 1m", false),
        (IMAGES, "a:1,Not Valid", "separated by commas", false),
        (HOLD_TIMEOUT, "-5m", "such as 90s", false),
        (HOLD_UNTIL, "90", "such as 90%", false),
        (HOLD_UNTIL, "0%", "such as 90%", false),
    ];
    for (annotation, value, form, forbids) in table {
        let read = read(annotation, value);
        let [invalid] = read.invalid.as_slice() else {
            panic!("{annotation}: {value} is invalid");
        };
        let message = invalid.to_string();
        assert!(
            message.contains(annotation)
                && message.contains(&format!("{value:?}"))
                && message.contains(form),
            "{message}"
        );
        assert_eq!(read.first_blocking().is_some(), forbids, "{annotation}");
    }
}

#[test]
fn an_error_repeats_only_the_beginning_of_a_long_value() {
    let read = read(MAX_NODES, &"é".repeat(10_000));
    assert!(read.invalid[0].to_string().len() < 300);
}

#[test]
fn what_is_too_long_is_malformed_and_names_the_limit() {
    let table = [
        (IMAGES, "a,".repeat(50_000), "more than 16384 bytes"),
        (IMAGES, "a,".repeat(65), "more than 64 images"),
        (NODE_SELECTOR, "a,".repeat(2049), "more than 4096 bytes"),
        (
            NODE_SELECTOR,
            vec!["a"; 33].join(","),
            "more than 32 conditions",
        ),
        (
            NODE_SELECTOR,
            format!("a in ({})", vec!["b"; 65].join(",")),
            "more than 64 values",
        ),
        (MAX_NODES, "1".repeat(65), "more than 64 bytes"),
        (REFRESH, "1h".repeat(33), "more than 64 bytes"),
        (HOLD_TIMEOUT, "1h".repeat(33), "more than 64 bytes"),
        (HOLD_UNTIL, "1".repeat(65), "more than 64 bytes"),
    ];
    for (annotation, value, limit) in table {
        let read = read(annotation, &value);
        let message = read.invalid[0].to_string();
        assert!(
            message.contains(annotation) && message.contains(limit) && message.len() < 400,
            "{message}"
        );
        // What was to narrow the nodes keeps on forbidding.
        let narrows = matches!(annotation, NODE_SELECTOR | MAX_NODES);
        assert_eq!(read.first_blocking().is_some(), narrows, "{annotation}");
    }
    let most = vec!["registry.example/team/app:v1"; 64].join(",");
    assert_eq!(read(IMAGES, &most).images.unwrap().0.len(), 64);
}
