//! `headstart plan`: what would be prefetched where, and why not elsewhere. It decides by the worker's own functions.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use k8s_openapi::api::apps::v1::Deployment;

use super::{Usage, manifest};
use crate::config::{
    DEFAULT_NOOP_IMAGE, DEFAULT_POD_DEADLINE, DEFAULT_PRIORITY_CLASS, PinFlag, PullMethodFlag,
    duration,
};
use crate::domain::pod::PodSettings;
use crate::domain::workload::Workload;

mod input;
mod output;
mod surroundings;

use output::Document;
use surroundings::Surroundings;

/// What `headstart plan` is told.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// YAML or JSON with Deployments; other kinds are passed over; `-` reads standard input
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "FILE",
        required = true,
        num_args = 1
    )]
    files: Vec<PathBuf>,

    /// Nodes as `kubectl get nodes -o yaml` writes them, instead of the cluster's; pods in it count as well
    #[arg(long, value_name = "FILE")]
    nodes: Option<PathBuf>,

    /// Form of the output
    #[arg(short, long, default_value = "table", value_name = "FORM")]
    output: Form,

    /// Namespace of Deployments that name none
    #[arg(short, long, default_value = "default")]
    namespace: String,

    /// Image of headstart, whose no-op the prefetch pods run
    #[arg(long, env = "HEADSTART_NOOP_IMAGE", default_value = DEFAULT_NOOP_IMAGE, value_name = "IMAGE")]
    noop_image: String,

    /// How images are pulled: `auto` takes image volumes on nodes that have them, else containers
    #[arg(
        long,
        env = "HEADSTART_PULL_METHOD",
        default_value = "auto",
        value_name = "METHOD"
    )]
    pull_method: PullMethodFlag,

    /// How prefetch pods get to their node
    #[arg(
        long,
        env = "HEADSTART_PIN",
        default_value = "node-name",
        value_name = "WAY"
    )]
    pin: PinFlag,

    /// PriorityClass of prefetch pods; empty for none
    #[arg(long, env = "HEADSTART_PRIORITY_CLASS", default_value = DEFAULT_PRIORITY_CLASS, value_name = "NAME")]
    priority_class: String,

    /// When the kubelet ends a prefetch pod that is not done
    #[arg(long, env = "HEADSTART_POD_DEADLINE", default_value = DEFAULT_POD_DEADLINE, value_parser = duration, value_name = "DURATION")]
    pod_deadline: Duration,

    /// Kubeconfig of the cluster [default: what KUBECONFIG names, or else ~/.kube/config]
    #[arg(long, value_name = "FILE", conflicts_with = "nodes")]
    kubeconfig: Option<PathBuf>,
}

/// `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Table,
    /// One object a line.
    Json,
    /// One document each.
    Yaml,
}

/// Plans and prints.
///
/// # Errors
/// [`Usage`] when a file cannot be read as what it should be; others when the cluster cannot.
pub fn run(options: Options) -> Result<()> {
    let Options {
        files,
        nodes,
        output,
        namespace,
        noop_image,
        pull_method,
        pin,
        priority_class,
        pod_deadline,
        kubeconfig,
    } = options;
    let settings = PodSettings {
        noop_image,
        method: pull_method.forced(),
        pin: pin.into(),
        priority_class: Some(priority_class).filter(|name| !name.is_empty()),
        deadline_seconds: i64::try_from(pod_deadline.as_secs()).unwrap_or(i64::MAX),
    };
    let mut workloads = Vec::new();
    for file in &files {
        let found = input::read(file)?;
        let deployments: Vec<Deployment> = found
            .of_kind()
            .map(|(_, deployment)| deployment.map_err(Usage))
            .collect::<Result<_, _>>()?;
        if deployments.is_empty() {
            eprintln!("headstart: no Deployment of apps/v1 in {}", found.name);
        }
        for mut deployment in deployments {
            let metadata = &mut deployment.metadata;
            let stored = metadata.namespace.take().filter(|name| !name.is_empty());
            metadata.namespace = Some(stored.unwrap_or_else(|| namespace.clone()));
            let workload = Workload::from_deployment(&deployment).ok_or_else(|| {
                Usage(format!(
                    "{}: a Deployment has no metadata.name or no spec.template.spec; give it both",
                    found.name
                ))
            })?;
            workloads.push(workload);
        }
    }
    let surroundings = match nodes {
        Some(file) => Surroundings::from_file(&input::read(&file)?)?,
        None => Surroundings::from_cluster(kubeconfig, &workloads)?,
    };
    let documents = workloads.iter().map(|workload| {
        let situation = surroundings.situation(workload);
        Document::new(workload, &surroundings.nodes, &situation, &settings)
    });
    match print(output, documents) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot write the plan"),
    }
}

fn print<'a>(form: Form, documents: impl Iterator<Item = Document<'a>>) -> io::Result<()> {
    let stdout = io::stdout();
    let colour = stdout.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|value| value != "dumb");
    let mut out = io::BufWriter::new(stdout.lock());
    for (index, document) in documents.enumerate() {
        match form {
            Form::Table => {
                if index > 0 {
                    writeln!(out)?;
                }
                document.write_table(&mut out, colour)?;
            }
            Form::Json => {
                document.report_refused();
                serde_json::to_writer(&mut out, &document)?;
                writeln!(out)?;
            }
            Form::Yaml => {
                document.report_refused();
                if index > 0 {
                    writeln!(out, "---")?;
                }
                let document = serde_json::to_value(&document)?;
                let text = manifest::to_yaml(&document).map_err(io::Error::other)?;
                out.write_all(text.as_bytes())?;
            }
        }
    }
    out.flush()
}
