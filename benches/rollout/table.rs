//! The table, as docs/benchmarks.md has it.

use std::fmt::Write as _;

use super::sample::{Samples, Strategy, Variant, megabytes, percentile};

/// A line per kind of update; every figure is a median over its rounds.
pub(crate) fn markdown(samples: &Samples) -> String {
    let mut table = String::from(
        "| nodes | strategy | images | rounds | apply → complete | of it held | pod start p50 | p99 | pod-seconds lost | pulled | CPU busy |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for nodes in samples.nodes() {
        for strategy in Strategy::ALL {
            for variant in Variant::ALL {
                table += &row(samples, nodes, strategy, variant);
            }
        }
    }
    for nodes in samples.nodes() {
        let _ = write!(
            table,
            "\n{nodes} nodes: one pull takes {:.1} s",
            samples.pull(nodes)
        );
        let preload = samples.preload(nodes);
        if !preload.is_nan() {
            let _ = write!(table, ", {preload:.1} s when all nodes pull at once");
        }
        table.push('.');
    }
    table.push('\n');
    table
}

fn row(samples: &Samples, nodes: u16, strategy: Strategy, variant: Variant) -> String {
    let completes = samples.figures(nodes, strategy, variant, |sample| {
        Some(sample.update.complete)
    });
    let least = completes.iter().copied().fold(f64::INFINITY, f64::min);
    let most = completes.iter().copied().fold(0.0, f64::max);
    let start = |percent| {
        samples.median(nodes, strategy, variant, |sample| {
            Some(percentile(&sample.update.starts, percent))
        })
    };
    let held = samples.median(nodes, strategy, variant, |sample| sample.update.held);
    let held = if held.is_nan() {
        "-".into()
    } else {
        format!("{held:.1} s")
    };
    let lost = samples.median(nodes, strategy, variant, |sample| Some(sample.update.lost));
    let pulled = samples.median(nodes, strategy, variant, |sample| {
        Some(megabytes(sample.update.bytes))
    });
    let busy = samples.median(nodes, strategy, variant, |sample| sample.update.busy);
    format!(
        "| {nodes} | {} | {} | {} | {:.1} s ({least:.1}–{most:.1}) | {held} | {:.2} s | {:.2} s | {lost:.1} | {pulled:.0} MB | {:.0} % |\n",
        strategy.title(),
        variant.title(),
        completes.len(),
        samples.complete(nodes, strategy, variant),
        start(50),
        start(99),
        busy * 100.0,
    )
}
