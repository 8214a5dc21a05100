use super::*;
use headstart_core::pod::status::{ImageStatus, PodStatusSummary};
use std::time::Duration;

#[test]
fn names_follow_the_convention() {
    let metrics = Metrics::default();
    metrics.admission(Decision::Noted);
    metrics.node_pulled(Duration::from_secs(3));
    metrics.api_call("create", "201".into());
    metrics.not_held(GateClosed::NoLeader);
    let text = metrics.encode();
    for line in [
        "headstart_admission_not_held_total{reason=\"NoLeader\"} 1",
        "headstart_admission_not_held_total{reason=\"Stopping\"} 0",
        "headstart_admission_reviews_total{decision=\"Noted\"} 1",
        "headstart_admission_to_pulled_seconds_count 1",
        "headstart_leader 0",
        "headstart_api_calls_total{verb=\"create\",code=\"201\"} 1",
        "headstart_queue_depth 0",
        "headstart_watch_lag_seconds_count 0",
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let table = include_str!("../../docs/metrics.md");
    let documented = table.lines().filter_map(|line| {
        let row = line.strip_prefix("| `headstart_")?;
        let (name, rest) = row.split_once("` | ")?;
        let (kind, _) = rest.split_once(" |")?;
        Some((name.trim_end_matches("_total").to_owned(), kind.to_owned()))
    });
    let metrics = Metrics::default();
    // A family shows once it has a member.
    metrics.admission(Decision::Noted);
    metrics.shed(Lack::Time);
    metrics.watch_event(WatchedResource::Pods);
    metrics.watch_failed(WatchedResource::Pods);
    metrics.api_call("create", "201".into());
    metrics.hold_ended("Warm", Duration::from_secs(3));
    metrics.policy_enforced("headstart-only-resumes", true);
    metrics.pod_decided(&PodStatusSummary {
        images: vec![ImageStatus::Pulled],
        ..PodStatusSummary::default()
    });
    let text = metrics.encode();
    let registered = text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE headstart_")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    });
    let sorted = |rows: Vec<(String, String)>| {
        let mut rows = rows;
        rows.sort();
        rows
    };
    assert_eq!(sorted(documented.collect()), sorted(registered.collect()));
}

#[test]
fn each_decision_has_its_own_counter() {
    let metrics = Metrics::default();
    for (times, decision) in Decision::ALL.into_iter().enumerate() {
        (0..times).for_each(|_| metrics.admission(decision));
    }
    let text = metrics.encode();
    for (times, decision) in Decision::ALL.into_iter().enumerate() {
        let line =
            format!("headstart_admission_reviews_total{{decision=\"{decision:?}\"}} {times}\n");
        assert!(text.contains(&line), "{line} is missing in:\n{text}");
    }
}

/// OpenMetrics 1.0 as Prometheus reads it: it drops a scrape of which one line is wrong.
#[test]
fn every_line_is_open_metrics() {
    let metrics = Metrics::default();
    metrics.admission(Decision::Noted);
    metrics.watch_event(WatchedResource::Pods);
    metrics.api_call("create", "no answer \"at\\all\"\n".into());
    metrics.hold_ended("Warm", Duration::from_secs(3));
    let text = metrics.encode();
    let body = text.strip_suffix("# EOF\n").unwrap();
    assert!(!body.contains("# EOF"));
    let mut family = ("", "");
    let mut seen = std::collections::HashSet::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let [keyword, name, value] = comment.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            assert!(["TYPE", "HELP", "UNIT"].contains(&keyword), "{line}");
            assert!(!value.is_empty(), "{line}");
            if name != family.0 {
                assert!(seen.insert(name), "{line}: begun before");
                family = (name, "");
            }
            if keyword == "TYPE" {
                family.1 = value;
            }
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        let (name, mut rest) = line.split_at(end);
        if rest.starts_with('{') {
            let labels = rest.rfind("} ").unwrap();
            let pair = |pair: &str| {
                let (key, value) = pair.split_once("=\"").unwrap();
                key.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                    && !value.is_empty()
            };
            assert!(
                rest[1..labels].trim_end_matches('"').split("\",").all(pair),
                "{line}"
            );
            rest = &rest[labels + 1..];
        }
        assert!(rest[1..].parse::<f64>().is_ok(), "{line}");
        let suffixes: &[&str] = match family.1 {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            other => panic!("{other}: {line}"),
        };
        let suffix = name.strip_prefix(family.0);
        assert!(
            suffix.is_some_and(|suffix| suffixes.contains(&suffix)),
            "{line}"
        );
    }
}
