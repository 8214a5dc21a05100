use super::*;
use crate::scheduling::affinity::RequiredAffinity;
use crate::scheduling::labels::Labels;
use crate::testing::{settings, workload};
use serde_json::{Value, json};

#[test]
fn image_volumes_run_nothing_of_the_users_image() {
    let web = workload(
        json!({"containers": [{"name": "a", "image": "app:1"}, {"name": "b", "image": "b:1"}]}),
    );
    let spec = prefetch_pod(&web, "n1", PullMethod::ImageVolume, &settings())
        .spec
        .unwrap();
    assert!(
        spec.containers
            .iter()
            .all(|c| c.image.as_deref() == Some("headstart:v1"))
    );
    let references: Vec<_> = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|v| v.image.as_ref()?.reference.as_deref())
        .collect();
    assert_eq!(references, ["app:1", "b:1"]);
}

#[test]
fn containers_run_only_the_no_op() {
    let web = workload(json!({"containers": [{"name": "a", "image": "app:1", "command": ["sh"]}]}));
    let spec = prefetch_pod(&web, "n1", PullMethod::Container, &settings())
        .spec
        .unwrap();
    let [container] = spec.containers.as_slice() else {
        panic!("one container per image")
    };
    assert_eq!(container.image.as_deref(), Some("app:1"));
    assert_eq!(
        container.command.as_deref().unwrap(),
        ["/.headstart/headstart", "noop"]
    );
}

#[test]
fn the_pod_takes_the_credentials_and_leaves_the_service_account() {
    let web = workload(json!({
        "containers": [{"name": "a", "image": "app:1"}],
        "imagePullSecrets": [{"name": "registry"}],
        "serviceAccountName": "builder",
    }));
    let spec = |run_as| {
        let settings = PodSettings {
            run_as,
            ..settings()
        };
        prefetch_pod(&web, "n1", PullMethod::ImageVolume, &settings)
            .spec
            .unwrap()
    };
    let of_default = spec(RunAs::Default);
    assert_eq!(of_default.image_pull_secrets.unwrap()[0].name, "registry");
    assert_eq!(of_default.service_account_name.as_deref(), Some("default"));
    assert_eq!(of_default.automount_service_account_token, Some(false));
    let own = spec(RunAs::Workload);
    assert_eq!(own.service_account_name.as_deref(), Some("builder"));
    assert_eq!(own.automount_service_account_token, Some(false));
}

#[test]
fn the_cluster_may_choose_the_user() {
    let web = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
    for (user, expected) in [("65532", Some(65532)), ("7", Some(7)), ("none", None)] {
        let settings = PodSettings {
            run_as_user: user.parse().unwrap(),
            ..settings()
        };
        let pod = prefetch_pod(&web, "n1", PullMethod::Container, &settings);
        let context = pod.spec.unwrap().security_context.unwrap();
        assert_eq!(
            (context.run_as_user, context.run_as_group),
            (expected, expected)
        );
        assert_eq!(context.run_as_non_root, Some(true));
    }
}

#[test]
fn pull_secrets_are_named_once_and_not_more_than_a_pod_may_name() {
    let mut web = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
    let first = ["b", "a", "b"].map(str::to_owned);
    let more = (0..20).map(|number| format!("s{number}"));
    web.terms.image_pull_secrets = first.into_iter().chain(more).collect();
    let pod = prefetch_pod(&web, "n1", PullMethod::Container, &settings());
    let named = pod.spec.unwrap().image_pull_secrets.unwrap();
    let named: Vec<&str> = named.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(named.len(), MAX_PULL_SECRETS);
    assert_eq!(named[..3], ["b", "a", "s0"]);
}

#[test]
fn the_service_account_is_read_where_its_pull_secrets_apply() {
    let account = |more: Value, run_as| {
        let mut spec = json!({"containers": [{"name": "a", "image": "app:1"}]});
        json_patch::merge(&mut spec, &more);
        let settings = PodSettings {
            run_as,
            ..settings()
        };
        account_of(&workload(spec), &settings).map(str::to_owned)
    };
    let builder = json!({"serviceAccountName": "builder"});
    let own = json!({"serviceAccountName": "builder", "imagePullSecrets": [{"name": "a"}]});
    for (spec, run_as, wanted) in [
        (&builder, RunAs::Default, Some("builder")),
        (&builder, RunAs::Workload, None),
        (&own, RunAs::Default, None),
        (&json!({}), RunAs::Default, None),
        (
            &json!({"serviceAccountName": "default"}),
            RunAs::Default,
            None,
        ),
    ] {
        assert_eq!(account(spec.clone(), run_as).as_deref(), wanted, "{spec}");
    }
}

#[test]
fn a_pod_that_is_pinned_by_affinity_goes_through_the_scheduler_and_still_names_its_node() {
    let web = workload(json!({
        "containers": [{"name": "a", "image": "app:1"}],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }));
    let by_affinity = PodSettings {
        binding: NodeBinding::Affinity,
        ..settings()
    };
    let mut pod = prefetch_pod(&web, "n1", PullMethod::ImageVolume, &by_affinity);
    assert_eq!(node_of(&pod), Some("n1"));
    let spec = pod.spec.as_mut().unwrap();
    assert_eq!(spec.node_name, None);
    assert_eq!(spec.tolerations.as_ref().unwrap().len(), 1);
    let affinity = RequiredAffinity::read(spec.affinity.as_ref()).unwrap();
    assert!(affinity.matches("n1", &Labels::default()));
    assert!(!affinity.matches("n2", &Labels::default()));
    // Once it is scheduled, where it is counts.
    spec.node_name = Some("n1-renamed".into());
    assert_eq!(node_of(&pod), Some("n1-renamed"));

    let by_name = prefetch_pod(&web, "n1", PullMethod::ImageVolume, &settings());
    assert_eq!(node_of(&by_name), Some("n1"));
    assert_eq!(by_name.spec.unwrap().affinity, None);
    assert_eq!(node_of(&Pod::default()), None);
}

#[test]
fn the_runtime_class_is_the_templates() {
    let class = |spec: Value| {
        let pod = prefetch_pod(&workload(spec), "n1", PullMethod::Container, &settings());
        pod.spec.unwrap().runtime_class_name
    };
    let containers = json!([{"name": "a", "image": "app:1"}]);
    let kata = class(json!({"containers": containers, "runtimeClassName": "kata"}));
    assert_eq!(kata.as_deref(), Some("kata"));
    assert_eq!(
        class(json!({"containers": containers, "runtimeClassName": ""})),
        None
    );
}

/// The rules of the level, as `k8s.io/pod-security-admission/policy` has them, for what these pods use.
#[test]
fn both_methods_pass_the_restricted_level() {
    let web = workload(json!({
        "initContainers": [{"name": "i", "image": "init:1"}],
        "containers": [{
            "name": "a", "image": "app:1",
            "securityContext": {"privileged": true, "runAsUser": 0, "capabilities": {"add": ["SYS_ADMIN"]}},
        }],
        "hostNetwork": true, "hostPID": true, "securityContext": {"runAsUser": 0},
    }));
    for method in [PullMethod::ImageVolume, PullMethod::Container] {
        let spec = prefetch_pod(&web, "n1", method, &settings()).spec.unwrap();
        assert_eq!([spec.host_network, spec.host_pid, spec.host_ipc], [None; 3]);
        let pod = spec.security_context.unwrap();
        assert_eq!(pod.run_as_non_root, Some(true));
        assert!(pod.run_as_user.is_some_and(|user| user != 0));
        assert_eq!(pod.seccomp_profile.unwrap().type_, "RuntimeDefault");
        for volume in spec.volumes.iter().flatten() {
            assert!(volume.host_path.is_none());
            assert!(volume.image.is_some() || volume.empty_dir.is_some());
        }
        let init = spec.init_containers.unwrap_or_default();
        for container in init.iter().chain(&spec.containers) {
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert_eq!([security.privileged, security.run_as_non_root], [None; 2]);
            assert_eq!(security.run_as_user, None, "the pod's counts");
            let capabilities = security.capabilities.as_ref().unwrap();
            assert_eq!(capabilities.drop.as_deref(), Some(&["ALL".to_owned()][..]));
            assert_eq!(capabilities.add, None);
            assert!(container.ports.is_none());
            let resources = container.resources.as_ref().unwrap();
            assert!(resources.requests.is_some() && resources.limits.is_some());
        }
    }
}

#[test]
fn the_deployment_owns_the_pod_once_it_is_stored() {
    let mut web = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
    let owners = |web: &Workload| {
        let pod = prefetch_pod(web, "n1", PullMethod::ImageVolume, &settings());
        pod.metadata.owner_references
    };
    assert_eq!(owners(&web), None, "a file's Deployment has no UID");
    web.uid = "u1".into();
    let owners = owners(&web).unwrap();
    assert_eq!(
        (owners[0].uid.as_str(), owners[0].controller),
        ("u1", Some(true))
    );
}
