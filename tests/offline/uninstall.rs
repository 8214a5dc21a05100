//! `headstart uninstall` knows all objects that the manifests install, and the README describes it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use headstart::testing::uninstalled_kinds;
use serde_json::Value;

/// Directories of files that the manifests do not install: examples, and a transformer.
const OTHERS: [&str; 2] = ["samples", "names"];

fn manifests(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.expect("a name in UTF-8");
        if path.is_dir() && !OTHERS.contains(&name) {
            found.extend(manifests(&path));
        } else if path.is_file() && name != "kustomization.yaml" {
            found.push(path);
        }
    }
    found
}

#[test]
fn uninstall_deletes_every_object_of_the_manifests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let kinds: BTreeSet<_> = uninstalled_kinds()
        .into_iter()
        .map(|kind| (kind.group.to_owned(), kind.kind.to_owned()))
        .collect();
    let mut installed = BTreeSet::new();
    for path in manifests(&root) {
        let text = std::fs::read_to_string(&path).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        for object in objects {
            let what = format!("{}: {}", path.display(), object["kind"]);
            let label = &object["metadata"]["labels"]["app.kubernetes.io/name"];
            assert_eq!(label, "headstart", "{what}");
            let version = object["apiVersion"].as_str().unwrap();
            let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
            assert_eq!(version, "v1", "{what}");
            let kind = object["kind"].as_str().unwrap();
            installed.insert((group.to_owned(), kind.to_owned()));
        }
    }
    assert_eq!(installed, kinds);
}

#[test]
fn the_readme_and_the_help_name_what_is_deleted() {
    let readme = include_str!("../../README.md");
    let section = readme.split("## Uninstall\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    assert!(section.contains("\n    headstart uninstall\n"));
    for kind in uninstalled_kinds() {
        let in_cluster = !["", "apps", "batch", "policy"].contains(&kind.group)
            && !["roles", "rolebindings", "networkpolicies", "podmonitors"]
                .contains(&kind.resource);
        assert!(
            !in_cluster || section.contains(kind.resource),
            "{}",
            kind.resource
        );
    }
    let help = Command::new(env!("CARGO_BIN_EXE_headstart"))
        .args(["uninstall", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for step in [
        "Deletes the webhook configurations",
        "resumes every rollout that is held",
        "then deletes the",
        "Exit codes: 0",
    ] {
        assert!(help.contains(step), "{step:?} is missing in:\n{help}");
    }
}

#[test]
fn a_wrong_option_ends_with_2_and_a_cluster_that_does_not_answer_with_1() {
    let kubeconfig = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nobody.kubeconfig");
    let nobody = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {}}]}"#;
    std::fs::write(&kubeconfig, nobody).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_headstart"))
            .args(arguments)
            .env_clear()
            .env("KUBECONFIG", &kubeconfig)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for arguments in [
        &["uninstall", "--force"][..],
        &["release", "--overdue", "--all"],
        &["release", "web", "--overdue"],
        &["release"],
        &["release", "--all", "--grace=1m"],
    ] {
        let (code, said) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
    }
    let (code, said) = run(&["uninstall"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("nothing else is deleted: cannot list"),
        "{said}"
    );
    let (code, said) = run(&["release", "--overdue"]);
    assert_eq!(code, Some(1), "{said}");
}
