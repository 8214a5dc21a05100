//! Users: they create, update and delete Deployments, as the webhook admits them, and add and remove nodes.

use std::collections::BTreeMap;

use headstart_core::api::well_known::PREFETCH_LABEL;
use headstart_sim::api_server::{Kind, ObjectKey, Preconditions};
use headstart_sim::{hold, node_object};
use k8s_openapi::jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Value, json};

use crate::options::{Action, Options};
use crate::server::{Server, State};

/// The users of the cluster.
pub(crate) struct Users {
    server: Server,
    options: Options,
    /// The newest version of each Deployment's images.
    versions: BTreeMap<usize, u64>,
    nodes: usize,
}

impl Users {
    /// Creates the namespaces and nodes.
    pub(crate) fn begin(server: &Server, options: &Options) -> Self {
        let users = Self {
            server: server.clone(),
            options: options.clone(),
            versions: BTreeMap::new(),
            nodes: options.nodes,
        };
        let namespaces = options.namespaces.iter().enumerate();
        let namespaces =
            namespaces.map(|(n, mode)| (format!("ns{n}"), json!({PREFETCH_LABEL: mode})));
        server.with(|state| {
            for (name, labels) in namespaces.chain([("headstart".to_owned(), json!({}))]) {
                let namespace = json!({"metadata": {"name": name, "labels": labels}});
                state.api.create(Kind::Namespace, namespace, "").unwrap();
            }
            (0..options.nodes).for_each(|n| join(state, n));
        });
        users
    }

    /// Performs an action of a user. Ignores other actions.
    pub(crate) fn act(&mut self, action: &Action) {
        let options = &self.options;
        match *action {
            Action::Create(n) | Action::Update(n) => {
                let version = self.versions.entry(n).or_default();
                *version += 1;
                let version = *version;
                self.server.with(|state| {
                    apply(
                        state,
                        options,
                        n,
                        version,
                        matches!(action, Action::Create(_)),
                    )
                });
            }
            Action::Delete(n) => self.server.with(|state| {
                let key = deployment_key(options, n);
                if state.api.delete(&key, &Preconditions::default()).is_ok() {
                    state.count("Deployment deleted");
                    state.note(&format!("{} is deleted", key.name));
                }
            }),
            Action::AddNode => {
                self.nodes += 1;
                self.server.with(|state| join(state, self.nodes));
            }
            Action::DeleteNode(n) => self.server.with(|state| {
                let key = ObjectKey::new(Kind::Node, "", &format!("n{n}"));
                if state.api.delete(&key, &Preconditions::default()).is_ok() {
                    state.count("node deleted");
                    state.note(&format!("n{n} goes"));
                }
            }),
            _ => {}
        }
    }
}

fn deployment_key(options: &Options, n: usize) -> ObjectKey {
    let namespace = format!("ns{}", n % options.namespaces.len());
    ObjectKey::new(Kind::Deployment, &namespace, &format!("web{n}"))
}

/// Stores a Deployment as the webhook admits it: in mode `hold` most are held.
fn apply(state: &mut State, options: &Options, n: usize, version: u64, anew: bool) {
    let key = deployment_key(options, n);
    let mode = options.namespaces[n % options.namespaces.len()];
    if anew {
        let _ = state.api.delete(&key, &Preconditions::default());
    }
    let mut random = state.draws.of(&["apply", &key.name]);
    let mut labels = json!({"app": key.name});
    let own = random.pick(&["hold", "enabled"]);
    if mode == "allowed" {
        labels[PREFETCH_LABEL] = json!(own);
    }
    let mut containers = vec![json!({"name": "a", "image": format!("app{n}:{version}")})];
    if random.per_mille(300) {
        containers.push(json!({"name": "b", "image": format!("shared:{}", version % 2)}));
    }
    let mut pod = json!({"containers": containers});
    if random.per_mille(200) {
        pod["nodeSelector"] = json!({"pool": "p0"});
    }
    let manifest = json!({
        "metadata": {"namespace": key.namespace, "name": key.name, "labels": labels},
        "spec": {
            "replicas": random.within(1..=5),
            "selector": {"matchLabels": {"app": key.name}},
            "template": {"metadata": {"labels": {"app": key.name}}, "spec": pod},
        },
    });
    let holds = mode == "hold" || (mode == "allowed" && own == "hold");
    let held = random.per_mille(if holds { 800 } else { 50 });
    let admitted = if held {
        state.count("held");
        with_marks(&manifest, state.api.now.1)
    } else {
        manifest.clone()
    };
    state.note(&format!("{} has version {version}, held: {held}", key.name));
    if state.api.get(&key).is_ok() {
        let both = (manifest, admitted);
        state.api.update_admitted(&key, both, "kubectl").unwrap();
    } else {
        let both = (manifest, admitted);
        state
            .api
            .create_admitted(Kind::Deployment, both, "kubectl")
            .unwrap();
    }
}

fn with_marks(manifest: &Value, now: Timestamp) -> Value {
    let since = now.round(Unit::Second).unwrap();
    let until = since + SignedDuration::from_mins(5);
    let mut held = manifest.clone();
    hold(&mut held, &since.to_string(), &until.to_string());
    held
}

fn join(state: &mut State, n: usize) {
    let old = n % 3 == 2;
    let kubelet = if old { "v1.31.0" } else { "v1.37.2" };
    let node = node_object(&format!("n{n}"), &format!("p{}", n % 2), "amd64", kubelet);
    state.note(&format!("n{n} joins"));
    state.api.create(Kind::Node, node, "").unwrap();
}
