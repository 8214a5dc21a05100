//! Runs `headstart plan` on files, as people and pipelines do.

mod manifests;
mod options;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    path.join(name).display().to_string()
}

fn headstart(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_headstart"))
        .arg("plan")
        .args(arguments)
        // The settings of this machine must not matter.
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // It may end without reading.
    let _ = child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it prints text")
}

/// Returns the text that it prints. Panics unless it succeeds.
fn plan(arguments: &[&str], input: &str) -> String {
    let nodes = fixture("nodes.yaml");
    let output = headstart(&[arguments, &["--nodes", &nodes]].concat(), input);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

fn json_lines(printed: &str) -> Vec<Value> {
    let lines = printed.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn json_is_the_object_of_the_contract() {
    let shop = fixture("shop.yaml");
    let plans = json_lines(&plan(&["-f", &shop, "-o", "json"], ""));
    let [web, quiet] = plans.as_slice() else {
        panic!("one line for each Deployment: {plans:?}");
    };
    let mut keys: Vec<&str> = web
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["deployment", "images", "nodes", "pods"]);
    assert_eq!(web["deployment"], "shop/web");
    assert_eq!(
        web["images"],
        json!(["ghcr.io/acme/migrate:v3", "docker.io/library/nginx:1.27"])
    );
    assert_eq!(
        web["nodes"],
        json!([
            {
                "name": "db-1", "action": "skip", "reason": "NodeSelectorMismatch",
                "message": "nodeSelector wants pool=web, the node has pool=db",
            },
            {"name": "web-1", "action": "prefetch"},
            {"name": "web-2", "action": "prefetch"},
            {"name": "web-3", "action": "skip", "reason": "Cordoned", "message": "the node is cordoned"},
            {
                "name": "win-1", "action": "skip", "reason": "OperatingSystem",
                "message": "the node runs windows; headstart prefetches on linux",
            },
        ])
    );
    assert_eq!(quiet["deployment"], "default/quiet");
    let digest = "0123456789abcdef".repeat(4);
    assert_eq!(
        quiet["images"],
        json!([format!("docker.io/library/nginx@sha256:{digest}")])
    );
}

#[test]
fn the_pods_are_those_that_the_worker_would_create() {
    let plans = json_lines(&plan(&["-f", &fixture("shop.yaml"), "-o", "json"], ""));
    let pods = plans[0]["pods"].as_array().unwrap();
    let nodes: Vec<&Value> = pods.iter().map(|pod| &pod["spec"]["nodeName"]).collect();
    assert_eq!(nodes, ["web-1", "web-2"]);
    for pod in pods {
        assert_eq!(pod["kind"], "Pod");
        assert_eq!(pod["metadata"]["namespace"], "shop");
        assert_eq!(pod["spec"]["tolerations"][0]["key"], "dedicated");
        assert_eq!(pod["metadata"]["ownerReferences"], Value::Null);
    }
    // An old kubelet pulls by containers, a new one by volumes.
    assert_eq!(pods[0]["spec"]["containers"][1]["image"], "nginx:1.27");
    assert_eq!(
        pods[1]["spec"]["volumes"][1]["image"]["reference"],
        "nginx:1.27"
    );
}

#[test]
fn the_pods_name_the_pull_secrets_of_the_service_account_of_the_same_file() {
    let objects = |template: Value| {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "builder", "namespace": "shop"},
            "imagePullSecrets": [{"name": "of-the-account"}],
        });
        let mut spec = json!({"serviceAccountName": "builder", "containers": [{"name": "a", "image": "app:1"}]});
        json_patch::merge(&mut spec, &template);
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {}, "template": {"spec": spec}},
        });
        json!({"apiVersion": "v1", "kind": "List", "items": [account, deployment]}).to_string()
    };
    let spec = |template: Value, flags: &[&str]| {
        let arguments = [&["-f", "-", "-o", "json"], flags].concat();
        json_lines(&plan(&arguments, &objects(template)))[0]["pods"][0]["spec"].clone()
    };
    let plain = spec(json!({}), &[]);
    assert_eq!(plain["serviceAccountName"], "default");
    assert_eq!(
        plain["imagePullSecrets"],
        json!([{"name": "of-the-account"}])
    );
    // As for any pod: an account's apply where the template names none.
    let own = spec(json!({"imagePullSecrets": [{"name": "own"}]}), &[]);
    assert_eq!(own["imagePullSecrets"], json!([{"name": "own"}]));
    let as_before = spec(json!({}), &["--service-account", "workload"]);
    assert_eq!(as_before["serviceAccountName"], "builder");
    assert_eq!(as_before["imagePullSecrets"], json!([]));
}

#[test]
fn the_consent_of_the_namespace_is_said() {
    let labels = |value: Option<&str>| match value {
        Some(value) => json!({"headstart.dev/prefetch": value}),
        None => json!({}),
    };
    // A namespace of no label, or none in the file.
    let said = |namespace: Option<Option<&str>>, own: Option<&str>| {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "labels": labels(own)},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a", "image": "app:1"}]}}},
        });
        let labelled = |label| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels(label)}});
        let items: Vec<Value> = namespace
            .map(labelled)
            .into_iter()
            .chain([deployment])
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        let nodes = fixture("nodes.yaml");
        let output = headstart(&["-f", "-", "-o", "json", "--nodes", &nodes], &list);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stderr).to_owned()
    };
    for (namespace, own, phrase) in [
        (
            None,
            Some("enabled"),
            "only where the namespace shop has the label headstart.dev/prefetch=allowed",
        ),
        (
            None,
            None,
            "only where the namespace shop has the label headstart.dev/prefetch=enabled",
        ),
        (
            Some(None),
            Some("enabled"),
            "run: kubectl label namespace shop headstart.dev/prefetch=allowed",
        ),
        (
            Some(None),
            None,
            "neither it nor its namespace has the label",
        ),
        (
            Some(Some("disabled")),
            Some("hold"),
            "namespace has the label headstart.dev/prefetch=disabled",
        ),
        (
            Some(Some("yes")),
            Some("hold"),
            "\"yes\"; use allowed, enabled, hold or disabled",
        ),
        (
            Some(Some("enabled")),
            Some("allowed"),
            "use enabled, hold or disabled",
        ),
        (Some(Some("allowed")), None, "leaves it alone"),
    ] {
        let said = said(namespace, own);
        assert!(said.contains(phrase), "{namespace:?} {own:?}: {said}");
    }
    for (namespace, own) in [
        ("allowed", Some("hold")),
        ("enabled", Some("hold")),
        ("hold", None),
    ] {
        assert_eq!(said(Some(Some(namespace)), own), "", "{namespace}, {own:?}");
    }
}

#[test]
fn flags_change_the_pods() {
    let flags = [
        "--pin",
        "affinity",
        "--pull-method",
        "container",
        "--noop-image",
        "mirror.local/headstart:v1",
        "--priority-class",
        "",
        "--namespace",
        "elsewhere",
    ];
    let shop = fixture("shop.yaml");
    let plans = json_lines(&plan(
        &[&["-f", &shop, "-o", "json"], &flags[..]].concat(),
        "",
    ));
    let spec = &plans[0]["pods"][1]["spec"];
    assert_eq!(spec["nodeName"], Value::Null);
    assert_eq!(
        spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"],
        json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["web-2"]}]}])
    );
    assert_eq!(
        spec["initContainers"][0]["image"],
        "mirror.local/headstart:v1"
    );
    assert_eq!(spec["priorityClassName"], Value::Null);
    assert_eq!(plans[1]["deployment"], "elsewhere/quiet");
}

#[test]
fn several_files_and_standard_input_can_be_mixed() {
    let deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: piped}, spec: {selector: {}, \
         template: {spec: {containers: [{name: a, image: a}]}}}}";
    let list = fixture("deployments.json");
    let plans = json_lines(&plan(&["-f", "-", "-f", &list, "-o", "json"], deployment));
    assert_eq!(plans[0]["deployment"], "default/piped");
    assert_eq!(plans[1]["deployment"], "shop/api");
}

#[test]
fn a_limit_keeps_the_node_that_runs_the_deployment_now() {
    let list = fixture("deployments.json");
    let plans = json_lines(&plan(&["-f", &list, "-o", "json"], ""));
    let nodes = plans[0]["nodes"].as_array().unwrap();
    let node = |name: &str| nodes.iter().find(|node| node["name"] == name).unwrap();
    assert_eq!(node("db-1")["action"], "prefetch");
    assert_eq!(node("web-1")["reason"], "MaxNodes");
    // The file says which object it is, so its pods would be that object's.
    let owner = &plans[0]["pods"][0]["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], "6a0f7f0e-5f0e-4a3b-9d0a-1d6d3d7b0001");
}

#[test]
fn yaml_says_the_same_as_json() {
    let shop = fixture("shop.yaml");
    let yaml = plan(&["-f", &shop, "-o", "yaml"], "");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
    assert_eq!(
        documents,
        json_lines(&plan(&["-f", &shop, "-o", "json"], ""))
    );
}

#[test]
fn the_table_is_for_people() {
    let table = plan(&["-f", &fixture("shop.yaml")], "");
    for line in [
        "shop/web: 2 images to 2 of 5 nodes",
        "  docker.io/library/nginx:1.27",
        "web-1  prefetch  containers",
        "web-2  prefetch  image volumes",
        "web-3  skip      Cordoned: the node is cordoned",
        "default/quiet: 1 image to 2 of 5 nodes",
    ] {
        assert!(
            table.lines().any(|found| found == line),
            "{line:?} in\n{table}"
        );
    }
    assert!(
        table.contains("image \"Not Valid\" is not prefetched: "),
        "{table}"
    );
    assert!(table.contains("headstart.dev/prefetch=disabled"), "{table}");
    assert!(!table.contains('\x1b'), "no colour in a pipe");
}

#[test]
fn machines_are_told_what_is_left_out_beside_the_plan() {
    let shop = fixture("shop.yaml");
    let output = headstart(
        &["-f", &shop, "-o", "json", "--nodes", &fixture("nodes.yaml")],
        "",
    );
    assert!(
        text(&output.stderr).contains("\"Not Valid\""),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn what_is_wrong_with_a_file_is_said_and_exits_with_2() {
    let nodes = fixture("nodes.yaml");
    let shop = fixture("shop.yaml");
    let nameless = "{apiVersion: apps/v1, kind: Deployment, spec: {selector: {}, template: {spec: {containers: []}}}}";
    let mistyped =
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: many}}";
    let table: [(&[&str], &str, &str); 8] = [
        (
            &["-f", "/nonexistent.yaml", "--nodes", &nodes],
            "",
            "/nonexistent.yaml",
        ),
        (
            &["-f", "-", "--nodes", &nodes],
            "a: [b",
            "document 1 of standard input",
        ),
        (
            &["-f", "-", "--nodes", &nodes],
            "kind: A\n---\nwords",
            "document 2 of standard input",
        ),
        (&["-f", "-", "--nodes", &nodes], nameless, "metadata.name"),
        (&["-f", "-", "--nodes", &nodes], mistyped, "Deployment web"),
        (
            &["-f", &shop, "--nodes", &shop],
            "",
            "kubectl get nodes -o yaml",
        ),
        (&["-f", &shop, "-o", "xml"], "", "table"),
        (&[], "", "--filename"),
    ];
    for (arguments, input, phrase) in table {
        let output = headstart(arguments, input);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(phrase), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_cluster_that_is_not_there_exits_with_1() {
    let config = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("nowhere.yaml");
    std::fs::write(
        &config,
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
         clusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\"}}]\n\
         users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n",
    )
    .unwrap();
    let shop = fixture("shop.yaml");
    let output = headstart(&["-f", &shop, "--kubeconfig", config.to_str().unwrap()], "");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot list the nodes"), "{said}");
}

#[test]
fn a_file_without_deployments_is_planned_to_nothing() {
    let output = headstart(
        &["-f", "-", "-o", "json", "--nodes", &fixture("nodes.yaml")],
        "kind: ConfigMap\napiVersion: v1\n",
    );
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
    assert!(text(&output.stderr).contains("no Deployment"));
}
