//! `headstart plan`: prints on which nodes which images would be prefetched, and why not on others. It calls the functions
//! that the controller calls.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};

use super::{UsageError, manifest};
use crate::config::{DEFAULT_NOOP_IMAGE, PodFormConfig};
use headstart_core::workload::Workload;

mod cluster_view;
mod deployments;
mod input;
mod namespaces;
mod output;
mod warnings;

use cluster_view::ClusterView;
use deployments::Planned;
use namespaces::Namespaces;
use output::Document;

/// The options of `headstart plan`.
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
    output: OutputFormat,

    /// Namespace of Deployments that name none
    #[arg(short, long, default_value = "default")]
    namespace: String,

    /// Image of headstart, whose no-op the prefetch pods run
    #[arg(long, env = "HEADSTART_NOOP_IMAGE", default_value = DEFAULT_NOOP_IMAGE, value_name = "IMAGE")]
    noop_image: String,

    #[command(flatten)]
    form: PodFormConfig,

    /// Kubeconfig of the cluster [default: what KUBECONFIG names, or else ~/.kube/config]
    #[arg(long, value_name = "FILE", conflicts_with = "nodes")]
    kubeconfig: Option<PathBuf>,
}

/// `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people.
    Table,
    /// One object a line.
    Json,
    /// One document each.
    Yaml,
}

/// Plans and prints. An unreadable part of a file does not affect the rest of it.
///
/// # Errors
/// [`UsageError`] when a file or a part of it cannot be read; another error when the cluster cannot be read.
pub fn run(options: Options) -> Result<()> {
    let Options {
        files,
        nodes,
        output,
        namespace,
        noop_image,
        form,
        kubeconfig,
    } = options;
    let settings = form.settings(&noop_image);
    manifest::silence_parser();
    let mut planned = Vec::new();
    let mut in_files = Namespaces::default();
    let mut left_out = 0;
    for file in &files {
        let found = input::read(file)?;
        let (namespaces, broken) = found.sort::<Namespace>();
        let (accounts, more_broken) = found.sort::<ServiceAccount>();
        in_files.add(namespaces, accounts, &namespace);
        let mut complaints = [found.broken.clone(), broken, more_broken].concat();
        let mut is_none = true;
        for deployment in deployments::read(&found, &namespace) {
            is_none = false;
            match deployment {
                Ok(deployment) => planned.push(deployment),
                Err(complaint) => complaints.push(complaint),
            }
        }
        for complaint in &complaints {
            eprintln!("headstart: {complaint}");
        }
        if is_none {
            eprintln!("headstart: no Deployment of apps/v1 in {}", found.name);
        }
        left_out += complaints.len();
    }
    let mut workloads = Vec::with_capacity(planned.len());
    let mut warnings = Vec::with_capacity(planned.len());
    for Planned {
        workload,
        warnings: of_it,
    } in planned
    {
        workloads.push(workload);
        warnings.push(of_it);
    }
    let mut view = match nodes {
        Some(file) => ClusterView::from_file(&input::read(&file)?, &namespace)?,
        None if workloads.is_empty() => ClusterView::default(),
        None => ClusterView::from_cluster(kubeconfig, &workloads, &settings)?,
    };
    let namespaces = std::mem::take(&mut view.namespaces).updated_by(in_files);
    let workloads: Vec<Workload> = workloads
        .into_iter()
        .map(|workload| namespaces.with_pull_secrets(workload, &settings))
        .collect();
    let documents = workloads
        .iter()
        .zip(warnings)
        .map(|(workload, mut warnings)| {
            if !workload.images.is_empty() {
                warnings.extend(namespaces.after_ready(workload));
            }
            let context = view.placement_context(workload, &settings);
            let consent = namespaces.warning(workload);
            Document::new(workload, &view.nodes, &context, &settings)
                .with_remark(consent)
                .with_warnings(warnings)
        });
    match print(output, documents) {
        // The reader, such as `head`, has closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed.context("cannot write the plan")?,
    }
    match left_out {
        0 => Ok(()),
        1 => Err(UsageError("1 document or object is left out of the plan".to_owned()).into()),
        _ => Err(UsageError(format!(
            "{left_out} documents or objects are left out of the plan"
        ))
        .into()),
    }
}

fn print<'a>(form: OutputFormat, documents: impl Iterator<Item = Document<'a>>) -> io::Result<()> {
    let stdout = io::stdout();
    let colour = stdout.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|value| value != "dumb");
    let mut out = io::BufWriter::new(stdout.lock());
    for (index, document) in documents.enumerate() {
        match form {
            OutputFormat::Table => {
                if index > 0 {
                    writeln!(out)?;
                }
                document.write_table(&mut out, colour)?;
            }
            OutputFormat::Json => {
                document.report_refused();
                serde_json::to_writer(&mut out, &document)?;
                writeln!(out)?;
            }
            OutputFormat::Yaml => {
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
