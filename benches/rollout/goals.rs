//! The goals of headstart for rollouts, and the check whether they are met.

use super::sample::{Samples, Strategy, Variant, percentile};

/// `enabled` takes no longer than one pull and a preloaded rollout, and a tenth.
const OF_PULL_AND_PRELOADED: f64 = 1.10;
/// The slowest pod under `hold` starts as fast as the slowest with its image there.
const OF_PRELOADED_START: f64 = 1.10;
/// Pod-seconds that `hold` may lose beyond a preloaded rollout. A kubelet checks its containers once a second, and reports that
/// one runs only then. So a batch of three pods may be reported up to a second late.
const LOST_BY_CHANCE: f64 = 3.0;
/// The limit for growth: a duration that should not depend on the number of nodes may be this many times as long on the
/// largest cluster as on the smallest. All nodes share the cores of this machine, and that cost is included.
const DOES_NOT_GROW: f64 = 1.10;

/// A figure and its limit.
#[derive(Debug)]
pub(crate) struct Goal {
    name: String,
    figure: f64,
    limit: f64,
    is_minimum: bool,
}

impl Goal {
    /// Returns whether the goal was met. A goal that was not measured was not met.
    pub(crate) fn is_met(&self) -> bool {
        if self.is_minimum {
            self.figure > self.limit
        } else {
            self.figure <= self.limit
        }
    }
}

/// Every goal, of both strategies, at the largest cluster.
pub(crate) fn all(samples: &Samples) -> Vec<Goal> {
    let sizes = samples.nodes();
    let (Some(&smallest), Some(&largest)) = (sizes.first(), sizes.last()) else {
        return Vec::new();
    };
    let mut goals = Vec::new();
    for strategy in Strategy::ALL {
        let mut add = |name: &str, figure: f64, limit: f64, is_minimum: bool| {
            goals.push(Goal {
                name: format!("{name}, {}", strategy.title()),
                figure,
                limit,
                is_minimum,
            });
        };
        let complete = |variant| samples.complete(largest, strategy, variant);
        add(
            "enabled / (one pull + preloaded)",
            complete(Variant::Enabled) / (samples.pull(largest) + complete(Variant::Preloaded)),
            OF_PULL_AND_PRELOADED,
            false,
        );
        let start = |variant| {
            samples.median(largest, strategy, variant, |sample| {
                Some(percentile(&sample.update.starts, 99))
            })
        };
        add(
            "hold / preloaded pod start p99",
            start(Variant::Hold) / start(Variant::Preloaded),
            OF_PRELOADED_START,
            false,
        );
        let lost = |variant| {
            samples.median(largest, strategy, variant, |sample| {
                Some(sample.update.lost)
            })
        };
        add(
            "hold - preloaded pod-seconds lost",
            lost(Variant::Hold) - lost(Variant::Preloaded),
            LOST_BY_CHANCE,
            false,
        );
        if smallest == largest {
            continue;
        }
        let growth = |variant| {
            samples.complete(largest, strategy, variant)
                / samples.complete(smallest, strategy, variant)
        };
        let sizes = format!("growth from {smallest} to {largest} nodes");
        // A quarter more and a quarter fewer are six new pods at once, on up to six nodes. Their pulls run side by side
        // anyway.
        if strategy == Strategy::OneByOne {
            add(
                &format!("without: {sizes}"),
                growth(Variant::Without),
                DOES_NOT_GROW,
                true,
            );
        }
        for variant in [Variant::Enabled, Variant::Hold] {
            add(
                &format!("{}: {sizes}", variant.namespace()),
                growth(variant),
                DOES_NOT_GROW,
                false,
            );
        }
    }
    goals
}

/// All of them in one line.
pub(crate) fn line(goals: &[Goal]) -> String {
    if goals.is_empty() {
        return "nothing was measured".into();
    }
    let each = goals.iter().map(|goal| {
        let Goal {
            name,
            figure,
            limit,
            is_minimum,
        } = goal;
        let sign = if *is_minimum { ">" } else { "≤" };
        let verdict = if goal.is_met() { "met" } else { "MISSED" };
        format!("{name}: {figure:.2} (goal {sign} {limit:.2}, {verdict})")
    });
    each.collect::<Vec<_>>().join("; ")
}
