//! A plan, as a table for people and as documents for machines.

use std::io::{self, Write};

use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::warnings::meant;
use crate::config::DEFAULT_NAMESPACE;
use headstart_core::api::mode::{Mode, is_exempt};
use headstart_core::api::well_known::PREFETCH_LABEL;
use headstart_core::plan::{PlacementContext, Plan, plan};
use headstart_core::pod::{PodSettings, prefetch_pod};
use headstart_core::scheduling::node::{NodeInfo, PullMethod};
use headstart_core::workload::Workload;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// The plan of one Deployment. The fields are the contract with machines.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    deployment: String,
    images: Vec<String>,
    nodes: Vec<Row>,
    pods: Vec<Pod>,
    #[serde(skip)]
    workload: &'a Workload,
    /// The warning about its namespace.
    #[serde(skip)]
    consent: Option<String>,
    /// The warnings about its manifest.
    #[serde(skip)]
    further: Vec<String>,
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
    /// Plans for a workload.
    pub(super) fn new(
        workload: &'a Workload,
        nodes: &[NodeInfo],
        context: &PlacementContext,
        settings: &PodSettings,
    ) -> Self {
        if is_exempt(&workload.key.namespace, DEFAULT_NAMESPACE) {
            return Self::exempt(workload, nodes);
        }
        let Plan {
            nodes: targets,
            skipped,
        } = plan(workload, nodes, context, settings);
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
        Self {
            nodes,
            pods,
            ..Self::empty(workload)
        }
    }

    fn empty(workload: &'a Workload) -> Self {
        let images = workload.images.iter();
        Self {
            deployment: workload.key.to_string(),
            images: images.map(|image| image.reference.to_string()).collect(),
            nodes: Vec::new(),
            pods: Vec::new(),
            workload,
            consent: None,
            further: Vec::new(),
        }
    }

    /// Returns the plan for a Deployment in an exempt namespace.
    fn exempt(workload: &'a Workload, nodes: &[NodeInfo]) -> Self {
        let skip = |node: &NodeInfo| Row {
            name: node.name.clone(),
            action: Action::Skip {
                reason: "ExemptNamespace",
                message: format!("headstart never touches {}", workload.key.namespace),
            },
        };
        let mut rows: Vec<Row> = nodes.iter().map(skip).collect();
        rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Self {
            nodes: rows,
            ..Self::empty(workload)
        }
    }

    /// Sets the warning about the namespace.
    pub(super) fn with_remark(self, consent: Option<String>) -> Self {
        Self { consent, ..self }
    }

    /// Sets the warnings about the manifest.
    pub(super) fn with_warnings(self, further: Vec<String>) -> Self {
        Self { further, ..self }
    }

    /// Returns the warnings for the user, which are not in the document.
    fn warnings(&self) -> Vec<String> {
        let namespace = &self.workload.key.namespace;
        let exempt = is_exempt(namespace, DEFAULT_NAMESPACE);
        let exempt = exempt.then(|| {
            format!("headstart never touches the namespace {namespace}: nothing is prefetched")
        });
        let label = match &self.workload.mode {
            Ok(Some(Mode::Disabled)) => Some(format!(
                "it has the label {PREFETCH_LABEL}=disabled: headstart leaves it alone"
            )),
            Ok(_) => None,
            Err(unknown) => Some(format!("{unknown}: headstart leaves it alone")),
        };
        let too_large = self.workload.too_large.as_ref();
        let too_large = too_large.map(|why| format!("{why}: nothing is prefetched for it"));
        let invalid = self.workload.annotations.invalid.iter();
        let more = Some(self.workload.unsupported.more).filter(|more| *more > 0);
        let more = more.map(|more| format!("and {more} more images are not prefetched"));
        let unsupported = self.workload.unsupported.images.iter().map(|image| {
            let reason = meant(&image.as_written).unwrap_or_else(|| image.reason.to_string());
            format!("image {:?} is not prefetched: {reason}", image.as_written)
        });
        // The exempt namespace takes precedence over the namespace's consent.
        let consent = self.consent.clone().filter(|_| exempt.is_none());
        let no_images = self.images.is_empty() && self.further.is_empty();
        let no_images = no_images && self.workload.unsupported.images.is_empty();
        let no_images = no_images.then(|| "it names no image to prefetch".to_owned());
        let no_nodes = self.nodes.is_empty() && !self.images.is_empty();
        let no_nodes = no_nodes.then(|| "no node is known to prefetch on".to_owned());
        exempt
            .into_iter()
            .chain(label)
            .chain(consent)
            .chain(no_images)
            .chain(no_nodes)
            .chain(self.further.iter().cloned())
            .chain(too_large)
            .chain(invalid.map(ToString::to_string))
            .chain(unsupported)
            .chain(more)
            .collect()
    }

    /// Prints the warnings on standard error.
    pub(super) fn report_refused(&self) {
        for warning in self.warnings() {
            eprintln!("headstart: {}: {warning}", self.deployment);
        }
    }

    /// Writes the plan as a table.
    pub(super) fn write_table(&self, out: &mut impl Write, colour: bool) -> io::Result<()> {
        let paint = |code: &'static str| if colour { (code, RESET) } else { ("", "") };
        let (bold, reset) = paint(BOLD);
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            number => format!("{number} {what}s"),
        };
        let key = &self.deployment;
        if self.images.is_empty() {
            writeln!(out, "{bold}{key}{reset}: nothing to prefetch")?;
        } else {
            writeln!(
                out,
                "{bold}{key}{reset}: {} to {} of {}",
                count(self.images.len(), "image"),
                self.pods.len(),
                count(self.nodes.len(), "node"),
            )?;
        }
        for image in &self.images {
            writeln!(out, "  {image}")?;
        }
        let (yellow, reset) = paint(YELLOW);
        for warning in self.warnings() {
            writeln!(out, "  {yellow}{warning}{reset}")?;
        }
        if self.nodes.is_empty() {
            return Ok(());
        }
        let names = self.nodes.iter().map(|row| row.name.chars().count());
        let width = names.max().unwrap_or(0).max("NODE".len());
        writeln!(out, "\n{:width$}  {:8}  HOW, OR WHY NOT", "NODE", "ACTION")?;
        for Row { name, action } in &self.nodes {
            let (code, action, detail) = match action {
                Action::Prefetch { method } => {
                    (GREEN, "prefetch", method_label(*method).to_owned())
                }
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

fn method_label(method: PullMethod) -> &'static str {
    match method {
        PullMethod::ImageVolume => "image volumes",
        PullMethod::Container => "containers",
    }
}
