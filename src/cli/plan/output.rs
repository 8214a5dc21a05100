//! A plan, for people and for machines.

use std::io::{self, Write};

use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use crate::domain::contract::{Mode, PREFETCH_LABEL};
use crate::domain::node::{Candidate, PullMethod};
use crate::domain::plan::{Plan, Situation, plan};
use crate::domain::pod::{PodSettings, prefetch_pod};
use crate::domain::workload::Workload;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// One Deployment's plan. Its fields are the contract with machines.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    deployment: String,
    images: Vec<String>,
    nodes: Vec<Row>,
    pods: Vec<Pod>,
    #[serde(skip)]
    workload: &'a Workload,
    /// What there is to say of its namespace.
    #[serde(skip)]
    consent: Option<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    action: Action,
}

#[derive(Debug, Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Action {
    Prefetch {
        #[serde(skip)]
        method: PullMethod,
    },
    Skip {
        reason: &'static str,
        message: String,
    },
}

impl<'a> Document<'a> {
    /// Plans.
    pub(super) fn new(
        workload: &'a Workload,
        nodes: &[Candidate],
        situation: &Situation,
        settings: &PodSettings,
    ) -> Self {
        let Plan { targets, skipped } = plan(workload, nodes, situation, settings);
        let pods = targets
            .iter()
            .map(|(node, method)| prefetch_pod(workload, node, *method, settings))
            .collect();
        let prefetch = targets.into_iter().map(|(name, method)| Row {
            name,
            action: Action::Prefetch { method },
        });
        let skip = skipped.into_iter().map(|(name, why)| Row {
            name: name.to_owned(),
            action: Action::Skip {
                reason: why.reason(),
                message: why.to_string(),
            },
        });
        let mut nodes: Vec<Row> = prefetch.chain(skip).collect();
        nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let images = workload.images.iter();
        Self {
            deployment: workload.key.to_string(),
            images: images.map(|image| image.reference.to_string()).collect(),
            nodes,
            pods,
            workload,
            consent: None,
        }
    }

    /// The same with something to say of its namespace.
    pub(super) fn with_remark(self, consent: Option<String>) -> Self {
        Self { consent, ..self }
    }

    /// What a person should know that has no place in the document.
    fn remarks(&self) -> Vec<String> {
        let label = match &self.workload.mode {
            Ok(Some(Mode::Disabled)) => Some(format!(
                "it has the label {PREFETCH_LABEL}=disabled: headstart leaves it alone"
            )),
            Ok(_) => None,
            Err(unknown) => Some(format!("{unknown}: headstart leaves it alone")),
        };
        let too_large = self.workload.too_large.as_ref();
        let too_large = too_large.map(|why| format!("{why}: nothing is prefetched for it"));
        let malformed = self.workload.annotations.malformed.iter();
        let more = Some(self.workload.refused_more).filter(|more| *more > 0);
        let more = more.map(|more| format!("and {more} more images are not prefetched"));
        let refused = self.workload.refused.iter().map(|refused| {
            format!(
                "image {:?} is not prefetched: {}",
                refused.given, refused.reason
            )
        });
        label
            .into_iter()
            .chain(self.consent.clone())
            .chain(too_large)
            .chain(malformed.map(ToString::to_string))
            .chain(refused)
            .chain(more)
            .collect()
    }

    /// Says on standard error what has no place in the document.
    pub(super) fn report_refused(&self) {
        for remark in self.remarks() {
            eprintln!("headstart: {}: {remark}", self.deployment);
        }
    }

    /// Writes it for people.
    pub(super) fn write_table(&self, out: &mut impl Write, colour: bool) -> io::Result<()> {
        let paint = |code: &'static str| if colour { (code, RESET) } else { ("", "") };
        let (bold, reset) = paint(BOLD);
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            number => format!("{number} {what}s"),
        };
        writeln!(
            out,
            "{bold}{}{reset}: {} to {} of {}",
            self.deployment,
            count(self.images.len(), "image"),
            self.pods.len(),
            count(self.nodes.len(), "node"),
        )?;
        for image in &self.images {
            writeln!(out, "  {image}")?;
        }
        let (yellow, reset) = paint(YELLOW);
        for remark in self.remarks() {
            writeln!(out, "  {yellow}{remark}{reset}")?;
        }
        if self.nodes.is_empty() {
            return Ok(());
        }
        let names = self.nodes.iter().map(|row| row.name.chars().count());
        let width = names.max().unwrap_or(0).max("NODE".len());
        writeln!(out, "\n{:width$}  {:8}  HOW, OR WHY NOT", "NODE", "ACTION")?;
        for Row { name, action } in &self.nodes {
            let (code, action, detail) = match action {
                Action::Prefetch { method } => (GREEN, "prefetch", how(*method).to_owned()),
                Action::Skip { reason, message } => {
                    (YELLOW, "skip", format!("{reason}: {message}"))
                }
            };
            let (code, reset) = paint(code);
            writeln!(out, "{name:width$}  {code}{action:8}{reset}  {detail}")?;
        }
        Ok(())
    }
}

fn how(method: PullMethod) -> &'static str {
    match method {
        PullMethod::ImageVolume => "image volumes",
        PullMethod::Container => "containers",
    }
}
