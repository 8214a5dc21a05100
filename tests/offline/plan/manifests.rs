//! Tests of the manifests that `headstart plan` reads, and of its messages about the rest.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{fixture, headstart, json_lines, plan, text};

/// A Deployment, and the nodes to prefetch on.
type Planned = (String, Vec<String>);

/// Runs `headstart plan` on a file of tests/fixtures/manifests, by name. Returns its exit code, the nodes to prefetch on for
/// each Deployment, and its messages.
fn manifest(name: &str, nodes: &str) -> (Option<i32>, Vec<Planned>, String) {
    let file = fixture(&format!("manifests/{name}.yaml"));
    let output = headstart(&["-f", &file, "-o", "json", "--nodes", nodes], "");
    let plans = json_lines(text(&output.stdout)).into_iter().map(|plan| {
        let nodes = plan["nodes"].as_array().expect("nodes").iter();
        let nodes = nodes.filter(|node| node["action"] == "prefetch");
        let name = |node: &Value| node["name"].as_str().expect("a name").to_owned();
        (
            plan["deployment"].as_str().expect("a name").to_owned(),
            nodes.map(name).collect(),
        )
    });
    let said = text(&output.stderr).to_owned();
    (output.status.code(), plans.collect(), said)
}

fn names(plans: &[Planned]) -> Vec<&str> {
    plans.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn octal_modes_are_read_and_a_wrong_value_is_named_by_its_path() {
    let (code, plans, said) = manifest("octal", &fixture("nodes.yaml"));
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(names(&plans), ["default/a", "default/c", "default/d"]);
    assert!(!plans[0].1.is_empty() && !plans[1].1.is_empty() && plans[2].1.is_empty());
    for phrase in [
        "octal.yaml: Deployment b (document 2, line 12): ",
        "spec.template.spec.containers[0].env[0].value: invalid type: boolean `true`, expected a string",
        "default/d: image \"nginx:3\" is never pulled (imagePullPolicy: Never)",
    ] {
        assert!(said.contains(phrase), "{phrase:?} in {said}");
    }
}

#[test]
fn null_values_of_labels_and_selectors_are_empty() {
    let nodes = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("workers.yaml");
    std::fs::write(
        &nodes,
        "{apiVersion: v1, kind: Node, metadata: {name: w1, labels: {node-role.kubernetes.io/worker: }}, \
         status: {conditions: [{type: Ready, status: \"True\"}]}}\n---\n\
         {apiVersion: v1, kind: Node, metadata: {name: w2, labels: {node-role.kubernetes.io/worker: \"yes\"}}, \
         status: {conditions: [{type: Ready, status: \"True\"}]}}\n",
    )
    .unwrap();
    let (code, plans, said) = manifest("nulls", nodes.to_str().unwrap());
    assert_eq!(code, Some(0), "{said}");
    let planned = |name: &str, nodes: &[&str]| {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        (name.to_owned(), nodes)
    };
    assert_eq!(
        plans,
        [
            planned("default/a", &["w1", "w2"]),
            planned("default/b", &["w1"])
        ]
    );
}

#[test]
fn numbers_without_a_fraction_are_integers() {
    let (code, plans, said) = manifest("whole-floats", &fixture("nodes.yaml"));
    assert_eq!(
        (code, names(&plans)),
        (Some(0), vec!["default/a"]),
        "{said}"
    );
    let wrong =
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {replicas: 1.5}}";
    let output = headstart(&["-f", "-", "--nodes", &fixture("nodes.yaml")], wrong);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("spec.replicas: "));
}

#[test]
fn what_cannot_be_read_does_not_stop_the_others() {
    let (code, plans, said) = manifest("others-broken", &fixture("nodes.yaml"));
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(names(&plans), ["default/first", "default/third"]);
    let mut lines = said
        .lines()
        .filter(|line| line.contains("others-broken.yaml"));
    let broken = lines.next().unwrap();
    assert!(
        broken.contains("document 4 of ") && broken.contains(": line 28: "),
        "{broken}"
    );
    assert_eq!(lines.next(), None, "{said}");
}

#[test]
fn a_generated_name_is_a_name() {
    let (code, plans, said) = manifest("generate-name", &fixture("nodes.yaml"));
    assert_eq!(
        (code, names(&plans)),
        (Some(0), vec!["default/web-"]),
        "{said}"
    );
    assert!(said.contains("which is generated"), "{said}");
}

#[test]
fn namespaces_that_are_never_touched_are_not_planned() {
    let (code, plans, said) = manifest("exempt-namespace", &fixture("nodes.yaml"));
    assert_eq!(code, Some(0));
    assert_eq!(plans, [("kube-system/metrics".to_owned(), Vec::new())]);
    assert!(
        said.contains("never touches the namespace kube-system"),
        "{said}"
    );
    let deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, \
         spec: {selector: {}, template: {spec: {containers: [{name: a, image: a}]}}}}";
    let plans = json_lines(&plan(
        &["-f", "-", "-o", "json", "-n", "headstart"],
        deployment,
    ));
    assert_eq!(plans[0]["pods"], json!([]));
    assert_eq!(plans[0]["nodes"][0]["reason"], "ExemptNamespace");
}

#[test]
fn messages_say_what_to_do() {
    let nodes = fixture("nodes.yaml");
    let of = |spec: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: a}}, spec: {{selector: {{}}, template: {{spec: {spec}}}}}}}"
        )
    };
    let image = |image: &str| of(&format!("{{containers: [{{name: a, image: {image:?}}}]}}"));
    let table = [
        (
            "apiVersion: apps/v1\nkind: Deployment\n{{- if .Values.a }}\na: b\n",
            "line 3: ",
            2,
        ),
        ("a: {{ .Values.image }}\n", "helm template", 2),
        (&image("${IMAGE}:${TAG}"), "was not replaced", 0),
        (
            &image("https://ghcr.io/acme/a:1"),
            "no scheme (https://): ghcr.io/acme/a:1",
            0,
        ),
        (&image(" nginx:1"), "begins with a space", 0),
        (
            &of("{containers: [{name: a}]}"),
            "container \"a\" names no image",
            0,
        ),
        (&of("{containers: []}"), "it has no containers", 0),
        (
            "kind: A\n---\n{apiVersion: extensions/v1beta1, kind: Deployment, metadata: {name: web}}",
            "Deployment web (document 2, line 3) is of extensions/v1beta1, which no API server since 1.16 takes; write apps/v1",
            2,
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2}}",
            "Deployment web (document 1, line 1): it has no spec.template.spec; if it is a patch",
            2,
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 2}}",
            "it has no metadata.name; if it is a patch",
            2,
        ),
    ];
    for (input, phrase, code) in table {
        let output = headstart(&["-f", "-", "-o", "json", "--nodes", &nodes], input);
        let said = text(&output.stderr);
        assert!(said.contains(phrase), "{input}: {said}");
        assert_eq!(output.status.code(), Some(code), "{input}: {said}");
    }
    let shop = fixture("shop.yaml");
    for (arguments, phrase) in [
        (
            ["-f", "tests", "--nodes", &nodes],
            "kubectl create -f tests --dry-run=client -o yaml |",
        ),
        (
            ["-f", "https://a.example/b.yaml", "--nodes", &nodes],
            "curl -fsSL https://a.example/b.yaml |",
        ),
        (["-f", &shop, "--nodes", "-"], "kubectl get nodes -o yaml"),
    ] {
        let output = headstart(&arguments, "NAME   STATUS\nn1     Ready\n");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(phrase), "{arguments:?}: {said}");
    }
}

#[test]
fn a_plan_of_nothing_says_why_in_its_table_too() {
    let nodes = fixture("nodes.yaml");
    let octal = fixture("manifests/octal.yaml");
    let output = headstart(&["-f", &octal, "--nodes", &nodes], "");
    let table = text(&output.stdout);
    assert!(
        table.contains("default/d: nothing to prefetch\n"),
        "{table}"
    );
    assert!(
        table.contains("  image \"nginx:3\" is never pulled"),
        "{table}"
    );
}

#[test]
fn a_hold_that_was_written_out_is_told() {
    let held = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  labels: {headstart.dev/held: \"true\"}\n\
         spec: {paused: true, selector: {}, template: {spec: {containers: [{name: a, image: a}]}}}\n";
    let table = plan(&["-f", "-"], held);
    assert!(
        table.contains("where no headstart runs, it stays paused; remove spec.paused"),
        "{table}"
    );
}
