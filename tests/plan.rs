//! Runs `headstart plan` on files, as people and pipelines do.

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
        // Whatever this machine is set up for must not matter.
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

/// What it prints, if it succeeds.
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

/// What `headstart plan` makes of a file of tests/fixtures/manifests, by name: the nodes to prefetch on, and what is said.
fn manifest(name: &str, nodes: &str) -> (Option<i32>, Vec<(String, Vec<String>)>, String) {
    let file = fixture(&format!("manifests/{name}.yaml"));
    let output = headstart(&["-f", &file, "-o", "json", "--nodes", nodes], "");
    let plans = json_lines(text(&output.stdout)).into_iter().map(|plan| {
        let nodes = plan["nodes"].as_array().unwrap().iter();
        let nodes = nodes.filter(|node| node["action"] == "prefetch");
        let name = |node: &Value| node["name"].as_str().unwrap().to_owned();
        (
            plan["deployment"].as_str().unwrap().to_owned(),
            nodes.map(name).collect(),
        )
    });
    let said = text(&output.stderr).to_owned();
    (output.status.code(), plans.collect(), said)
}

fn names(plans: &[(String, Vec<String>)]) -> Vec<&str> {
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
