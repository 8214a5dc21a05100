//! The Deployments of a file that can be planned, and an error for each other one.

use k8s_openapi::api::apps::v1::Deployment;

use super::input::ManifestFile;
use super::warnings;
use crate::cli::manifest::Object;
use headstart_core::workload::Workload;

/// The API versions of Deployments that Kubernetes 1.16 removed.
const REMOVED: &[&str] = &["extensions/v1beta1", "apps/v1beta1", "apps/v1beta2"];

/// A Deployment that can be planned.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) workload: Workload,
    /// The warnings about it for the user.
    pub(super) warnings: Vec<String>,
}

/// Reads the Deployments of a file. An unusable one becomes an error message. `namespace` applies to objects that name none.
pub(super) fn read<'a>(
    found: &'a ManifestFile,
    namespace: &'a str,
) -> impl Iterator<Item = Result<Planned, String>> + 'a {
    let planned = found.of_kind::<Deployment>().map(move |(object, decoded)| {
        let why = |why| format!("{}: {why}", found.describe(object));
        plannable(decoded?, namespace).map_err(why)
    });
    planned.chain(found.objects.iter().filter_map(|object| {
        let version = removed_version(object)?;
        Some(Err(format!(
            "{} is of {version}, which no API server since 1.16 takes; write apps/v1",
            found.describe(object)
        )))
    }))
}

fn removed_version(object: &Object) -> Option<&str> {
    let version = object.value["apiVersion"].as_str()?;
    let is_removed = object.value["kind"] == "Deployment" && REMOVED.contains(&version);
    is_removed.then_some(version)
}

fn plannable(mut deployment: Deployment, namespace: &str) -> Result<Planned, &'static str> {
    let mut warnings = warnings::of(&deployment);
    let metadata = &mut deployment.metadata;
    let filled = |text: &mut Option<String>| text.take().filter(|text| !text.is_empty());
    metadata.name = match (
        filled(&mut metadata.name),
        filled(&mut metadata.generate_name),
    ) {
        (None, Some(generated)) => {
            warnings.push("the API server adds to its name, which is generated".to_owned());
            Some(generated)
        }
        (name, _) => name,
    };
    metadata.namespace = filled(&mut metadata.namespace).or_else(|| Some(namespace.to_owned()));
    if metadata.name.is_none() {
        return Err(
            "it has no metadata.name; if it is a patch, plan what comes of it: \
             kubectl kustomize DIRECTORY | headstart plan -f -",
        );
    }
    match Workload::from_deployment(&deployment) {
        Some(workload) => Ok(Planned { workload, warnings }),
        None => Err(
            "it has no spec.template.spec; if it is a patch, plan what comes of it: \
             kubectl kustomize DIRECTORY | headstart plan -f -",
        ),
    }
}
