//! The chart: from the write to complete, by number of nodes.

use std::fmt::Write as _;

use super::sample::{Samples, Strategy, Variant};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 400.0;
/// Of a panel: where its axes are.
const TOP: f64 = 96.0;
const BOTTOM: f64 = 340.0;
const LEFT: f64 = 48.0;
const PANEL: f64 = 380.0;
const GAP: f64 = 34.0;
/// Of a group of bars: how much of its share of the axis is left free.
const FREE: f64 = 0.2;

/// Colours for a light and for a dark background, by variant.
const STYLE: &str = "
  text { font: 12px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328 }
  .title { font-size: 16px; font-weight: 600 }
  .value { font-size: 11px; text-anchor: middle }
  .middle { text-anchor: middle }
  .end { text-anchor: end }
  .soft { fill: #59636e }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  .range { stroke: #1f2328; stroke-width: 1.2; opacity: .55 }
  .without { fill: #d1603d }
  .enabled { fill: #3b82c4 }
  .hold { fill: #2f9e6e }
  .preloaded { fill: #a8b1ba }
  .held { fill: #ffffff; opacity: .45 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .soft { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .range { stroke: #f0f6fc }
    .without { fill: #e07b5a }
    .enabled { fill: #5b9fdd }
    .hold { fill: #43b883 }
    .preloaded { fill: #6e7781 }
    .held { fill: #0d1117 }
  }
";

/// The whole file.
pub(crate) fn svg(samples: &Samples) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
         aria-labelledby=\"title\">\n<title id=\"title\">Seconds from an image update of 12 replicas to its completion, by number of nodes, \
         without headstart, with it, and with the images on the nodes beforehand</title>\n<style>{STYLE}</style>\n"
    );
    text(
        &mut out,
        16.0,
        26.0,
        "title",
        "An image update of 12 replicas: seconds until it is complete",
    );
    legend(&mut out);
    let highest = highest(samples);
    for (index, strategy) in Strategy::ALL.into_iter().enumerate() {
        panel(
            &mut out,
            samples,
            strategy,
            LEFT + place(index) * (PANEL + GAP),
            highest,
        );
    }
    let sizes = samples.nodes();
    let pulls = sizes.iter().map(|&nodes| samples.pull(nodes));
    let (least, most) = pulls.fold((f64::INFINITY, 0.0_f64), |(least, most), pull| {
        (least.min(pull), most.max(pull))
    });
    let rounds = rounds(samples);
    let note = format!(
        "Medians of {rounds} rounds; lines: fastest to slowest. One pull by one node: {least:.1} to {most:.1} s. Real kubelets on one machine with {} cores.",
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    text(&mut out, 16.0, HEIGHT - 10.0, "soft", &note);
    out + "</svg>\n"
}

fn legend(out: &mut String) {
    let mut x = 16.0;
    for variant in Variant::ALL {
        let _ = writeln!(
            out,
            "<rect class=\"{}\" x=\"{x}\" y=\"42\" width=\"12\" height=\"12\" rx=\"2\"/>",
            variant.namespace()
        );
        let title = match variant {
            Variant::Without => "without headstart",
            Variant::Enabled => "headstart, enabled",
            Variant::Hold => "headstart, hold (pale: held)",
            Variant::Preloaded => "images on every node beforehand (the limit)",
        };
        text(out, x + 18.0, 52.0, "", title);
        // As wide as its words, about.
        x += 50.0 + 6.2 * place(title.len());
    }
}

fn panel(out: &mut String, samples: &Samples, strategy: Strategy, left: f64, highest: f64) {
    let y = |seconds: f64| BOTTOM - (BOTTOM - TOP) * seconds / highest;
    text(
        out,
        left + PANEL / 2.0,
        TOP - 16.0,
        "middle",
        strategy.title(),
    );
    let mut tick = 0.0;
    while tick <= highest {
        let at = y(tick);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
            left + PANEL
        );
        text(
            out,
            left - 6.0,
            at + 4.0,
            "end soft",
            &format!("{tick:.0} s"),
        );
        tick += step(highest);
    }
    let sizes = samples.nodes();
    let share = PANEL / place(sizes.len().max(1));
    let width = share * (1.0 - FREE) / place(Variant::ALL.len());
    for (group, &nodes) in sizes.iter().enumerate() {
        let begin = left + share * (place(group) + FREE / 2.0);
        let middle = left + share * (place(group) + 0.5);
        text(
            out,
            middle,
            BOTTOM + 18.0,
            "middle",
            &format!("{nodes} nodes"),
        );
        for (index, variant) in Variant::ALL.into_iter().enumerate() {
            let seconds = samples.figures(nodes, strategy, variant, |sample| {
                Some(sample.update.complete)
            });
            if seconds.is_empty() {
                continue;
            }
            let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
            let most = seconds.iter().copied().fold(0.0, f64::max);
            let typical = samples.complete(nodes, strategy, variant);
            let (x, at) = (begin + width * place(index), y(typical));
            let centre = x + width / 2.0;
            bar(out, variant.namespace(), x, width, at);
            let held = samples.median(nodes, strategy, variant, |sample| sample.update.held);
            if !held.is_nan() {
                bar(out, "held", x, width, y(held));
            }
            let _ = writeln!(
                out,
                "<line class=\"range\" x1=\"{centre:.1}\" x2=\"{centre:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                y(least),
                y(most)
            );
            text(
                out,
                centre,
                y(most) - 4.0,
                "value",
                &format!("{typical:.0}"),
            );
        }
    }
}

/// From the axis up to there.
fn bar(out: &mut String, class: &str, x: f64, width: f64, top: f64) {
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        x + 1.0,
        width - 2.0,
        BOTTOM - top
    );
}

/// Above every bar, with room for its value.
fn highest(samples: &Samples) -> f64 {
    let mut highest: f64 = 1.0;
    for nodes in samples.nodes() {
        for strategy in Strategy::ALL {
            for variant in Variant::ALL {
                let seconds = samples.figures(nodes, strategy, variant, |sample| {
                    Some(sample.update.complete)
                });
                highest = seconds.into_iter().fold(highest, f64::max);
            }
        }
    }
    let step = step(highest);
    (highest * 1.06 / step).ceil() * step
}

/// Between two lines of the grid.
fn step(highest: f64) -> f64 {
    [5.0, 10.0, 20.0, 50.0]
        .into_iter()
        .find(|step| highest / step <= 8.0)
        .unwrap_or(100.0)
}

/// `3`, or `3 to 5` where kinds of updates had different numbers.
fn rounds(samples: &Samples) -> String {
    let mut counts = Vec::new();
    for nodes in samples.nodes() {
        for strategy in Strategy::ALL {
            for variant in Variant::ALL {
                counts.push(
                    samples
                        .figures(nodes, strategy, variant, |_| Some(0.0))
                        .len(),
                );
            }
        }
    }
    match (counts.iter().min(), counts.iter().max()) {
        (Some(least), Some(most)) if least == most => least.to_string(),
        (Some(least), Some(most)) => format!("{least} to {most}"),
        _ => "no".into(),
    }
}

/// A number of something, as a coordinate.
#[expect(
    clippy::cast_precision_loss,
    reason = "a handful of bars, groups and panels"
)]
fn place(count: usize) -> f64 {
    count as f64
}

fn text(out: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>"
    );
}
