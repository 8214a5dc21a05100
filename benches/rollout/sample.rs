//! The measurements of this run and of earlier runs.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use testbed::rollout;
use testbed::statistics::median;

/// The way in which the images get to the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Variant {
    Without,
    Enabled,
    Hold,
    Preloaded,
}

impl Variant {
    pub(crate) const ALL: [Self; 4] = [Self::Without, Self::Enabled, Self::Hold, Self::Preloaded];

    /// The namespace of its Deployment.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::Without => "without",
            Self::Enabled => "enabled",
            Self::Hold => "hold",
            Self::Preloaded => "preloaded",
        }
    }

    /// The value of headstart's label on the namespace.
    pub(crate) fn label(self) -> Option<&'static str> {
        match self {
            Self::Without | Self::Preloaded => None,
            Self::Enabled => Some("enabled"),
            Self::Hold => Some("hold"),
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Without => "without headstart",
            Self::Enabled => "`enabled`",
            Self::Hold => "`hold`",
            Self::Preloaded => "preloaded",
        }
    }
}

/// The strategy by which the Deployment replaces its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Strategy {
    OneByOne,
    Quarters,
}

impl Strategy {
    pub(crate) const ALL: [Self; 2] = [Self::OneByOne, Self::Quarters];

    pub(crate) fn of_testbed(self) -> rollout::Strategy {
        match self {
            Self::OneByOne => rollout::Strategy::OneByOne,
            Self::Quarters => rollout::Strategy::Quarters,
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::OneByOne => "maxSurge 1, maxUnavailable 0",
            Self::Quarters => "maxSurge 25 %, maxUnavailable 25 %",
        }
    }
}

/// One update, in seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Update {
    /// From the write until every replica runs the new image.
    pub(crate) complete: f64,
    /// From the write until headstart resumed the Deployment, if it was paused by it.
    pub(crate) held: Option<f64>,
    /// Of each new pod, from scheduled to running.
    pub(crate) starts: Vec<f64>,
    /// The missing ready pods times the seconds for which they were missing.
    pub(crate) lost: f64,
    /// The bytes that the registry sent to the nodes, preloading included.
    pub(crate) bytes: u64,
    /// The time to preload all nodes at once, before the update.
    #[serde(default)]
    pub(crate) preload: Option<f64>,
    /// The share of the machine's CPU time that was used from the write, or the end of the hold, until complete.
    #[serde(default)]
    pub(crate) busy: Option<f64>,
}

/// One update, and the conditions under which it was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) nodes: u16,
    pub(crate) strategy: Strategy,
    pub(crate) variant: Variant,
    /// The duration of one node's pull in the same round, in seconds.
    pub(crate) pull: f64,
    #[serde(flatten)]
    pub(crate) update: Update,
}

impl fmt::Display for Sample {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Update {
            complete,
            held,
            starts,
            lost,
            bytes,
            preload,
            busy,
        } = &self.update;
        write!(
            out,
            "{} nodes, {}, {}: complete after {complete:.2} s",
            self.nodes,
            self.strategy.title(),
            self.variant.title()
        )?;
        if let Some(held) = held {
            write!(out, ", held {held:.2} s")?;
        }
        if let Some(preload) = preload {
            write!(out, ", preloaded in {preload:.2} s")?;
        }
        let (half, most) = (percentile(starts, 50), percentile(starts, 99));
        write!(
            out,
            ", pods start in {half:.2} s (p99 {most:.2} s), {lost:.1} pod-seconds lost, {:.1} MB pulled",
            megabytes(*bytes)
        )?;
        match busy {
            Some(busy) => write!(out, ", CPU {:.0} % busy", busy * 100.0),
            None => Ok(()),
        }
    }
}

/// Everything measured so far.
#[derive(Debug)]
pub(crate) struct Samples {
    all: Vec<Sample>,
    file: Option<PathBuf>,
}

impl Samples {
    /// Reads the samples of the file, if it exists. New samples are appended to it.
    pub(crate) fn open(file: Option<PathBuf>) -> Result<Self> {
        let mut all = Vec::new();
        if let Some(file) = file.as_ref().filter(|file| file.exists()) {
            let text = fs::read_to_string(file)?;
            for line in text.lines() {
                let sample = serde_json::from_str(line)
                    .with_context(|| format!("{}: {line}", file.display()))?;
                all.push(sample);
            }
        }
        Ok(Self { all, file })
    }

    pub(crate) fn add(&mut self, sample: Sample) -> Result<()> {
        if let Some(file) = &self.file {
            let mut file = OpenOptions::new().create(true).append(true).open(file)?;
            writeln!(file, "{}", serde_json::to_string(&sample)?)?;
        }
        self.all.push(sample);
        Ok(())
    }

    /// The sizes of clusters, in order.
    pub(crate) fn nodes(&self) -> Vec<u16> {
        let mut nodes: Vec<u16> = self.all.iter().map(|sample| sample.nodes).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Returns this figure of all updates of one kind.
    pub(crate) fn figures(
        &self,
        nodes: u16,
        strategy: Strategy,
        variant: Variant,
        figure: impl Fn(&Sample) -> Option<f64>,
    ) -> Vec<f64> {
        let alike = self.all.iter().filter(|sample| {
            (sample.nodes, sample.strategy, sample.variant) == (nodes, strategy, variant)
        });
        alike.filter_map(figure).collect()
    }

    /// Returns the median of a figure, or NaN, which meets no goal, if there is none.
    pub(crate) fn median(
        &self,
        nodes: u16,
        strategy: Strategy,
        variant: Variant,
        figure: impl Fn(&Sample) -> Option<f64>,
    ) -> f64 {
        median(self.figures(nodes, strategy, variant, figure))
    }

    /// From the write until complete.
    pub(crate) fn complete(&self, nodes: u16, strategy: Strategy, variant: Variant) -> f64 {
        self.median(nodes, strategy, variant, |sample| {
            Some(sample.update.complete)
        })
    }

    /// Returns the median duration of one pull on a cluster of this size.
    pub(crate) fn pull(&self, nodes: u16) -> f64 {
        let of_size = self.all.iter().filter(|sample| sample.nodes == nodes);
        median(of_size.map(|sample| sample.pull).collect())
    }

    /// Returns the median time in which all nodes of such a cluster pull at once, without headstart and without rollouts.
    pub(crate) fn preload(&self, nodes: u16) -> f64 {
        let of_size = self.all.iter().filter(|sample| sample.nodes == nodes);
        median(of_size.filter_map(|sample| sample.update.preload).collect())
    }
}

/// Returns the smallest value that this percentage of the values does not exceed. For 12 pods, p99 is the slowest.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Millions of bytes.
#[expect(
    clippy::cast_precision_loss,
    reason = "no registry here gives petabytes"
)]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
