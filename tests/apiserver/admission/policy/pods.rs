//! Pods: those of the one shape, where they may be, and which may be deleted.

use headstart_core::api::well_known::{DEPLOYMENT_LABEL, MANAGED_BY_LABEL};
use serde_json::{Value, json};
use testbed::headstart::LOCAL_IMAGE;

use super::requests::{Refusal, Request};
use crate::admission::installation::{Installation, SHOP};

const CREATES: &str = "headstart-creates-only-prefetch-pods";
const DELETES: &str = "headstart-deletes-only-prefetch-pods";
/// A namespace without headstart's label.
const BARE: &str = "bare";
/// A namespace that wants nothing.
const DISABLED: &str = "disabled";

fn create(
    what: impl Into<String>,
    namespace: &str,
    mut pod: Value,
    message: &'static str,
) -> Refusal {
    pod["metadata"]["namespace"] = namespace.into();
    let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    Refusal::new(what, CREATES, message, Request::post(&path, pod))
}

/// The first that is tried, until the policy is in force.
pub(super) fn first_refusal() -> Refusal {
    let pod = json!({ "metadata": { "name": "a" }, "spec": { "containers": [{ "name": "a", "image": "a:1" }] } });
    create("a pod of its own", SHOP, pod, "")
}

/// Sets a value below a path, making the maps on the way; `+` is one more element of a list.
pub(super) fn set(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for part in path.split('.') {
        at = match part.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) if part == "+" => {
                let list = at.as_array_mut().unwrap();
                list.push(Value::Null);
                list.last_mut().unwrap()
            }
            Err(_) => {
                if at.is_null() {
                    *at = json!({});
                }
                &mut at[part]
            }
        };
    }
    *at = value;
}

/// Returns forbidden changes of a pod of headstart's. Without image volumes an API server makes empty directories of them.
pub(super) fn forbidden(pod: &Value, image_volumes: bool) -> Vec<Refusal> {
    let by_volume = pod["spec"]["initContainers"].is_null();
    let pin = if pod["spec"]["nodeName"].is_null() {
        "affinity"
    } else {
        "node name"
    };
    let method = if by_volume {
        "image volumes"
    } else {
        "containers"
    };
    let mut all = shape();
    if by_volume {
        all.push((
            "another image's no-op",
            "spec.containers.0.image",
            json!("evil:1"),
            NOOP_IMAGE,
        ));
        all.push((
            "an image whose name begins alike",
            "spec.containers.0.image",
            json!(format!("{LOCAL_IMAGE}x/evil:1").replace(":dev", "")),
            NOOP_IMAGE,
        ));
    } else {
        all.push((
            "another image that is copied",
            "spec.initContainers.0.image",
            json!("evil:1"),
            NOOP_IMAGE,
        ));
        all.push((
            "a no-op that can be written",
            "spec.containers.0.volumeMounts.0.readOnly",
            json!(false),
            ONLY_NOOP,
        ));
        all.push((
            "a no-op of a part of the volume",
            "spec.containers.0.volumeMounts.0.subPath",
            json!("a"),
            ONLY_NOOP,
        ));
        all.push(("no no-op", "spec.initContainers", json!([]), ONLY_NOOP));
        all.push((
            "a sidecar",
            "spec.initContainers.0.restartPolicy",
            json!("Always"),
            ONLY_NOOP,
        ));
    }
    let of_all = all.into_iter().map(|(what, path, value, message)| {
        let mut pod = pod.clone();
        set(&mut pod, path, value);
        create(
            format!("pod by {method}, {pin}: {what}"),
            SHOP,
            pod,
            message,
        )
    });
    of_all
        .chain(mounts(pod, image_volumes).into_iter().map(|(what, pod)| {
            create(
                format!("pod by {method}, {pin}: {what}"),
                SHOP,
                pod,
                "nothing is mounted where",
            )
        }))
        .collect()
}

/// Returns pods with a mount over the no-op, or with one beside the image of a user where it could be run.
fn mounts(pod: &Value, image_volumes: bool) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    let places = [
        ("over the no-op", "/headstart"),
        ("over the no-op, by another way", "/tmp/../headstart"),
        ("over the no-op, twice rooted", "//headstart"),
        ("over the no-op, unrooted", "headstart"),
        ("over the copied no-op", "/.headstart/headstart"),
        ("over everything", "/"),
    ];
    for (what, place) in places {
        let mut pod = pod.clone();
        let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
        volumes.push(json!({ "name": "more", "configMap": { "name": "evil" } }));
        let mounts = pod["spec"]["containers"][0]["volumeMounts"]
            .as_array_mut()
            .unwrap();
        mounts.push(json!({ "name": "more", "mountPath": place, "subPath": "headstart" }));
        all.push((what, pod));
    }
    if image_volumes && !pod["spec"]["initContainers"].is_null() {
        let mut pod = pod.clone();
        let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
        volumes.push(json!({ "name": "more", "image": { "reference": "evil:1" } }));
        let mounts = pod["spec"]["containers"][0]["volumeMounts"]
            .as_array_mut()
            .unwrap();
        mounts.push(json!({ "name": "more", "mountPath": "/bin" }));
        all.push(("programs beside a user's image", pod));
    }
    all
}

const LABELS: &str =
    "headstart's name and labels, one Deployment as its controller, and no finalizer";
const SHARES: &str = "shares no namespace with its node";
const TOKEN: &str = "mounts no ServiceAccount token";
const ACCOUNT: &str = "runs as the ServiceAccount default, and names at most 16";
const ENDS: &str = "a prefetch pod ends";
const ROOM: &str = "takes no room from others";
const VOLUMES: &str = "no volumes but images";
const ONLY_NOOP: &str = "runs nothing but the no-op";
const NOOP_IMAGE: &str = "the no-op is that of headstart's own image";
const ENVIRONMENT: &str = "no Secret's environment, ports or devices";
const PRIVILEGE: &str = "has no privilege";

type Change = (&'static str, &'static str, Value, &'static str);

fn shape() -> Vec<Change> {
    let mut all = metadata();
    all.extend(placement());
    all.extend(volumes());
    all.extend(containers());
    all.extend(privilege());
    all
}

fn metadata() -> Vec<Change> {
    let owner = |kind: &str, api: &str, controller: bool| json!({ "apiVersion": api, "kind": kind, "name": "web", "uid": "u", "controller": controller });
    let two = json!([
        owner("Deployment", "apps/v1", true),
        owner("Deployment", "apps/v1", false)
    ]);
    vec![
        ("another name", "metadata.name", json!("web-1"), LABELS),
        ("no labels", "metadata.labels", json!({}), LABELS),
        ("no owner", "metadata.ownerReferences", json!([]), LABELS),
        ("two owners", "metadata.ownerReferences", two, LABELS),
        (
            "an owner of another kind",
            "metadata.ownerReferences",
            json!([owner("Node", "v1", true)]),
            LABELS,
        ),
        (
            "an owner that controls nothing",
            "metadata.ownerReferences",
            json!([owner("Deployment", "apps/v1", false)]),
            LABELS,
        ),
        (
            "a finalizer",
            "metadata.finalizers",
            json!(["example.com/never"]),
            LABELS,
        ),
        (
            "an AppArmor profile by annotation",
            "metadata.annotations",
            json!({ "container.apparmor.security.beta.kubernetes.io/image-0": "unconfined" }),
            PRIVILEGE,
        ),
    ]
}

fn placement() -> Vec<Change> {
    let resources = "spec.containers.0.resources";
    let of = |cpu: &str, memory: &str| {
        let quantities = json!({ "cpu": cpu, "memory": memory });
        json!({ "requests": quantities, "limits": quantities })
    };
    let tolerations: Vec<_> = (0..81)
        .map(|index| json!({ "key": format!("k{index}"), "operator": "Exists" }))
        .collect();
    let secrets: Vec<_> = (0..17)
        .map(|index| json!({ "name": format!("s{index}") }))
        .collect();
    vec![
        (
            "another ServiceAccount",
            "spec.serviceAccountName",
            json!("builder"),
            ACCOUNT,
        ),
        (
            "17 pull secrets",
            "spec.imagePullSecrets",
            json!(secrets),
            ACCOUNT,
        ),
        (
            "a token",
            "spec.automountServiceAccountToken",
            json!(true),
            TOKEN,
        ),
        (
            "a token by default",
            "spec.automountServiceAccountToken",
            Value::Null,
            TOKEN,
        ),
        ("restarts", "spec.restartPolicy", json!("Always"), ENDS),
        (
            "restarts on failure",
            "spec.restartPolicy",
            json!("OnFailure"),
            ENDS,
        ),
        (
            "no deadline",
            "spec.activeDeadlineSeconds",
            Value::Null,
            ENDS,
        ),
        (
            "a late deadline",
            "spec.activeDeadlineSeconds",
            json!(7201),
            ENDS,
        ),
        (
            "the priority of the node",
            "spec.priorityClassName",
            json!("system-node-critical"),
            ROOM,
        ),
        (
            "the priority of the cluster",
            "spec.priorityClassName",
            json!("system-cluster-critical"),
            ROOM,
        ),
        (
            "headstart's priority",
            "spec.priorityClassName",
            json!("headstart"),
            ROOM,
        ),
        ("much CPU", resources, of("501m", "1Mi"), ROOM),
        ("much memory", resources, of("1m", "513Mi"), ROOM),
        (
            "much of the node's disk",
            resources,
            json!({ "requests": { "ephemeral-storage": "1025Mi" } }),
            ROOM,
        ),
        (
            "a device",
            "spec.containers.0.resources",
            json!({ "requests": { "example.com/gpu": "1" },
            "limits": { "example.com/gpu": "1" } }),
            ROOM,
        ),
        (
            "81 tolerations",
            "spec.tolerations",
            json!(tolerations),
            ROOM,
        ),
        ("host network", "spec.hostNetwork", json!(true), SHARES),
        ("host PIDs", "spec.hostPID", json!(true), SHARES),
        ("host IPC", "spec.hostIPC", json!(true), SHARES),
        (
            "one process namespace",
            "spec.shareProcessNamespace",
            json!(true),
            SHARES,
        ),
        (
            "a host's alias",
            "spec.hostAliases",
            json!([{ "ip": "10.0.0.1", "hostnames": ["a"] }]),
            SHARES,
        ),
    ]
}

fn volumes() -> Vec<Change> {
    let one = |what, source: Value| {
        let mut volume = json!({ "name": "more" });
        let source = source.as_object().unwrap();
        volume.as_object_mut().unwrap().extend(source.clone());
        (what, "spec.volumes.+", volume, VOLUMES)
    };
    let projected = |source: Value| json!({ "projected": { "sources": [source] } });
    vec![
        one("a host path", json!({ "hostPath": { "path": "/" } })),
        one("a Secret", json!({ "secret": { "secretName": "s" } })),
        one(
            "a projected Secret",
            projected(json!({ "secret": { "name": "s" } })),
        ),
        one(
            "a claim",
            json!({ "persistentVolumeClaim": { "claimName": "c" } }),
        ),
        one(
            "a claim of its own",
            json!({ "ephemeral": { "volumeClaimTemplate": { "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } } } }),
        ),
        one("a CSI volume", json!({ "csi": { "driver": "d" } })),
        one(
            "a network disk",
            json!({ "nfs": { "server": "s", "path": "/" } }),
        ),
        one(
            "a disk in memory",
            json!({ "emptyDir": { "medium": "Memory" } }),
        ),
        one(
            "an executable ConfigMap",
            json!({ "configMap": { "name": "c", "defaultMode": 0o755 } }),
        ),
        one(
            "an executable file of a ConfigMap",
            json!({ "configMap": { "name": "c",
            "items": [{ "key": "k", "path": "p", "mode": 0o755 }] } }),
        ),
        one(
            "an executable projection",
            json!({ "projected": { "defaultMode": 0o755,
            "sources": [{ "configMap": { "name": "c" } }] } }),
        ),
        one(
            "an executable file of a projection",
            projected(json!({ "configMap": { "name": "c",
            "items": [{ "key": "k", "path": "p", "mode": 0o755 }] } })),
        ),
        one(
            "an executable annotation",
            json!({ "downwardAPI": { "items": [{ "path": "p", "mode": 0o755,
            "fieldRef": { "fieldPath": "metadata.annotations" } }] } }),
        ),
    ]
}

fn containers() -> Vec<Change> {
    let container = |name: &str, command: Value| {
        json!([{ "name": name, "image": "evil:1", "command": command, "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } } }])
    };
    let first = |field: &str| match field {
        "args" => "spec.containers.0.args",
        "lifecycle" => "spec.containers.0.lifecycle",
        "livenessProbe" => "spec.containers.0.livenessProbe",
        "env" => "spec.containers.0.env",
        "envFrom" => "spec.containers.0.envFrom",
        "ports" => "spec.containers.0.ports",
        "tty" => "spec.containers.0.tty",
        "stdin" => "spec.containers.0.stdin",
        _ => "spec.containers.0.terminationMessagePath",
    };
    let sh = || json!({ "exec": { "command": ["sh"] } });
    let from = |source: Value| json!([{ "name": "A", "valueFrom": source }]);
    vec![
        (
            "another command",
            "spec.containers",
            container("image-0", json!(["sh"])),
            ONLY_NOOP,
        ),
        (
            "the image's own command",
            "spec.containers",
            container("image-0", Value::Null),
            ONLY_NOOP,
        ),
        (
            "another init container",
            "spec.initContainers",
            container("init", json!(["sh"])),
            ONLY_NOOP,
        ),
        (
            "one container more",
            "spec.containers.+",
            container("more", json!(["sh"]))[0].clone(),
            ONLY_NOOP,
        ),
        ("arguments", first("args"), json!(["x"]), ONLY_NOOP),
        (
            "a hook",
            first("lifecycle"),
            json!({ "preStop": sh() }),
            ONLY_NOOP,
        ),
        (
            "a message over the no-op",
            first(""),
            json!("/.headstart/headstart"),
            ONLY_NOOP,
        ),
        (
            "a Secret's environment",
            first("envFrom"),
            json!([{ "secretRef": { "name": "s" } }]),
            ENVIRONMENT,
        ),
        (
            "a ConfigMap's environment",
            first("envFrom"),
            json!([{ "configMapRef": { "name": "s" } }]),
            ENVIRONMENT,
        ),
        (
            "a Secret's variable",
            first("env"),
            from(json!({ "secretKeyRef": { "name": "s", "key": "k" } })),
            ENVIRONMENT,
        ),
        (
            "a ConfigMap's variable",
            first("env"),
            from(json!({ "configMapKeyRef": { "name": "s", "key": "k" } })),
            ENVIRONMENT,
        ),
        (
            "a host port",
            first("ports"),
            json!([{ "containerPort": 80, "hostPort": 80 }]),
            ENVIRONMENT,
        ),
        ("a terminal", first("tty"), json!(true), ENVIRONMENT),
        ("input", first("stdin"), json!(true), ENVIRONMENT),
    ]
}

fn privilege() -> Vec<Change> {
    let context = "spec.containers.0.securityContext";
    let all = |more: Value| {
        let mut context = json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] } });
        context
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        context
    };
    vec![
        (
            "privileged",
            context,
            json!({ "privileged": true, "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] } }),
            PRIVILEGE,
        ),
        (
            "escalation",
            context,
            all(json!({ "allowPrivilegeEscalation": true })),
            PRIVILEGE,
        ),
        (
            "a capability",
            context,
            all(json!({ "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN"] } })),
            PRIVILEGE,
        ),
        (
            "capabilities kept",
            context,
            all(json!({ "capabilities": {} })),
            PRIVILEGE,
        ),
        (
            "a root that can be written",
            context,
            all(json!({ "readOnlyRootFilesystem": false })),
            PRIVILEGE,
        ),
        ("root", context, all(json!({ "runAsUser": 0 })), PRIVILEGE),
        (
            "root by the pod",
            "spec.securityContext.runAsUser",
            json!(0),
            PRIVILEGE,
        ),
        (
            "root allowed",
            "spec.securityContext.runAsNonRoot",
            json!(false),
            PRIVILEGE,
        ),
        (
            "root allowed to one",
            context,
            all(json!({ "runAsNonRoot": false })),
            PRIVILEGE,
        ),
        (
            "no seccomp",
            "spec.securityContext.seccompProfile",
            json!({ "type": "Unconfined" }),
            PRIVILEGE,
        ),
        (
            "no seccomp for one",
            context,
            all(json!({ "seccompProfile": { "type": "Unconfined" } })),
            PRIVILEGE,
        ),
        (
            "an SELinux label",
            "spec.securityContext.seLinuxOptions",
            json!({ "type": "spc_t" }),
            PRIVILEGE,
        ),
        (
            "an SELinux user",
            "spec.securityContext.seLinuxOptions",
            json!({ "user": "system_u", "level": "s0:c26,c5" }),
            PRIVILEGE,
        ),
        (
            "an SELinux role for one",
            context,
            all(json!({ "seLinuxOptions": { "role": "system_r" } })),
            PRIVILEGE,
        ),
        (
            "an SELinux label for one",
            context,
            all(json!({ "seLinuxOptions": { "type": "spc_t" } })),
            PRIVILEGE,
        ),
        (
            "no AppArmor",
            "spec.securityContext.appArmorProfile",
            json!({ "type": "Unconfined" }),
            PRIVILEGE,
        ),
        (
            "no AppArmor for one",
            context,
            all(json!({ "appArmorProfile": { "type": "Unconfined" } })),
            PRIVILEGE,
        ),
        (
            "a sysctl",
            "spec.securityContext.sysctls",
            json!([{ "name": "kernel.shm_rmid_forced", "value": "1" }]),
            PRIVILEGE,
        ),
    ]
}

/// Returns creates of a good pod in places where it may not be, and of a pod that waits forever.
pub(super) fn forbidden_places(pod: &Value, own: &str) -> Vec<Refusal> {
    let mut gated = pod.clone();
    gated["spec"]["nodeName"] = Value::Null;
    gated["spec"]["schedulingGates"] = json!([{ "name": "example.com/never" }]);
    let consent = "only in a namespace that consents";
    vec![
        create("a gate", SHOP, gated, ROOM),
        create("a namespace without a label", BARE, pod.clone(), consent),
        create(
            "a namespace that is disabled",
            DISABLED,
            pod.clone(),
            consent,
        ),
        create("kube-system", "kube-system", pod.clone(), consent),
        create("headstart's own namespace", own, pod.clone(), consent),
    ]
}

/// Returns deletes of pods that headstart's token must not delete.
pub(super) fn forbidden_deletes(own: &str) -> Vec<Refusal> {
    let delete = |what: &str, namespace: &str, name: &str, message| {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        Refusal::new(what, DELETES, message, Request::try_delete(&path))
    };
    let only = "deletes no pods but those that prefetch";
    let places = "deletes no pods of the system's namespaces or its own";
    let path = format!("/api/v1/namespaces/{BARE}/pods");
    vec![
        delete("a tenant's pod", BARE, "tenant", only),
        delete("a pod that only looks alike", BARE, "prefetch-tenant", only),
        delete(
            "a pod of the system in our shape",
            "kube-system",
            "prefetch-system",
            places,
        ),
        delete("a pod of the system", "kube-system", "tenant", only),
        delete(
            "a pod of our own namespace in our shape",
            own,
            "prefetch-own",
            places,
        ),
        Refusal::new(
            "all pods of a tenant",
            DELETES,
            only,
            Request::try_delete(&path),
        ),
    ]
}

/// The ServiceAccount of a workload.
pub(super) fn builder() -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "builder", "namespace": SHOP } })
}

/// A tenant's pod, with a name of its choice. On a node that exists, or it would be collected.
fn tenants(name: &str) -> Value {
    json!({ "metadata": { "name": name, "annotations": { "headstart.dev/node": "n" } },
        "spec": { "restartPolicy": "Never", "activeDeadlineSeconds": 60, "nodeName": "fake-0",
            "containers": [{ "name": "image-0", "image": "a:1", "command": ["sh"] }] } })
}

/// Makes the namespaces and pods that the table is about.
pub(super) async fn make_victims(installation: &Installation, own: &str) {
    for (namespace, label) in [(BARE, ""), (DISABLED, "disabled")] {
        let labels = match label {
            "" => json!({}),
            label => json!({ "headstart.dev/prefetch": label }),
        };
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace, "labels": labels } });
        installation.apply(&namespace).await;
    }
    for namespace in [BARE, DISABLED, "kube-system"] {
        installation.cluster.takes_pods(namespace).await.unwrap();
    }
    installation.apply(&builder()).await;
    remove_victims(installation, own).await;
    for (namespace, name, ours) in [
        (BARE, "tenant", false),
        (BARE, "prefetch-tenant", false),
        ("kube-system", "tenant", false),
        ("kube-system", "prefetch-system", true),
        (own, "prefetch-own", true),
    ] {
        let mut pod = tenants(name);
        if ours {
            pod["spec"]["containers"][0]["command"] = json!(["/headstart", "noop"]);
        }
        if namespace == own {
            // Its namespace wants the strictest level.
            pod["spec"]["securityContext"] =
                json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
            pod["spec"]["containers"][0]["securityContext"] = json!({ "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] } });
        }
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        Request::post(&path, pod)
            .send(&installation.client)
            .await
            .unwrap();
    }
}

/// Deletes the pods again: no kubelet does, because their node does not exist.
pub(super) async fn remove_victims(installation: &Installation, own: &str) {
    for (namespace, name) in [
        (BARE, "tenant"),
        (BARE, "prefetch-tenant"),
        ("kube-system", "tenant"),
        ("kube-system", "prefetch-system"),
        (own, "prefetch-own"),
    ] {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let now = json!({ "gracePeriodSeconds": 0 });
        match Request::delete(&path, now).send(&installation.client).await {
            Err(kube::Error::Api(status)) if status.code != 404 => panic!("{}", status.message),
            _ => {}
        }
    }
}

/// A pod with headstart's labels that headstart did not create.
pub(super) fn forged(name: &str) -> Value {
    let mut pod = tenants(name);
    pod["metadata"]["labels"] = json!({ DEPLOYMENT_LABEL: "web", MANAGED_BY_LABEL: "headstart" });
    pod
}
