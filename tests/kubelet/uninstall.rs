//! Tests of the README's instructions for the removal of headstart.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::PostParams;
use testbed::headstart::{Installed, NAME, Profile};
use tokio::process::Command;
use tokio::time::interval;

use crate::cluster::{Cluster, FLAGS, alone, deployment, until, waiting};
use crate::hold::last_replica::{RESUME_LIMIT, held, hold_some};

/// All kinds that the manifests install outside of headstart's own namespace, and that namespace.
const KINDS: &str = "namespace,priorityclass,clusterrole,clusterrolebinding,mutatingwebhookconfiguration,\
                     validatingwebhookconfiguration,validatingadmissionpolicy,validatingadmissionpolicybinding,\
                     flowschema,prioritylevelconfiguration";

#[tokio::test]
async fn uninstalling_leaves_nothing_and_installing_again_goes_on() {
    let Some(mut turn) = alone().await else {
        return;
    };
    let cluster = &*turn;
    cluster.namespace("uninstall", Some("enabled")).await;
    let (first, second) = (
        cluster.push("uninstall/app:1").await,
        cluster.push("uninstall/app:2").await,
    );
    cluster
        .apply(&deployment("uninstall", "web", waiting(&first)))
        .await;
    cluster.until_prefetched("uninstall", "web", 1).await;
    // A client waits while headstart goes.
    cluster.namespace("uninstall-held", Some("hold")).await;
    cluster
        .apply(&deployment(
            "uninstall-held",
            "web",
            waiting("127.0.0.1:1/app:1"),
        ))
        .await;
    let installed = [
        "get",
        KINDS,
        "-l",
        "app.kubernetes.io/name=headstart",
        "-o",
        "name",
    ];
    for kind in KINDS.split(',') {
        let found = cluster.kubectl(&installed).await;
        assert!(found.lines().any(|line| line.starts_with(kind)), "{kind}");
    }

    let Cluster {
        nodes, headstart, ..
    } = turn.take().unwrap();
    let kubectl =
        async |arguments: &[&str]| nodes.control_plane().kubectl(arguments).await.unwrap();
    let held = [
        "get",
        "deployments",
        "-A",
        "-l",
        "headstart.dev/held=true",
        "-o",
        "name",
    ];
    assert_eq!(kubectl(&held).await.trim(), "deployment.apps/web");
    let uninstall = async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headstart"));
        command.env("KUBECONFIG", nodes.control_plane().kubeconfig());
        let output = command.arg("uninstall").output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = uninstall().await;
    println!("{said}");
    // The leader resumes too, once the configuration is deleted.
    let resumed = "uninstall-held/web resumed";
    assert!(said.contains(resumed) || said.contains("no Deployment is held"));
    assert_eq!(kubectl(&held).await, "");
    let again = uninstall().await;
    assert!(!again.contains("deleted namespace"), "{again}");
    drop(headstart);
    let ours = ["pods", "-A", "-l", "app.kubernetes.io/managed-by=headstart"];
    assert_eq!(kubectl(&installed).await, "");
    assert_eq!(
        kubectl(&[&["get"], &ours[..], &["-o", "name"]].concat()).await,
        ""
    );
    // No webhook is called any more, and rollouts go on.
    let set = format!("app={second}");
    kubectl(&["set", "image", "-n", "uninstall", "deployment/web", &set]).await;
    kubectl(&[
        "rollout",
        "status",
        "-n",
        "uninstall",
        "deployment/web",
        "--timeout=120s",
    ])
    .await;

    let headstart = Installed::on(&nodes, Profile::Ci, &FLAGS).await.unwrap();
    let cluster = turn.put(Cluster::of(nodes, headstart));
    cluster
        .apply(&deployment("uninstall", "after", waiting(&second)))
        .await;
    cluster.until_prefetched("uninstall", "after", 1).await;
}

/// The time between two creates of a Deployment while headstart goes.
const PERIOD: Duration = Duration::from_millis(100);

#[tokio::test]
async fn deleting_the_namespace_leaves_no_rollout_paused() {
    let Some(mut turn) = alone().await else {
        return;
    };
    let cluster = &*turn;
    let namespace = "hold-deleted";
    hold_some(cluster, namespace).await;
    cluster
        .kubectl(&["delete", "namespace", NAME, "--wait=false"])
        .await;
    let begun = Instant::now();
    // Each is held if a replica answers that may hold. Its pods could run nowhere, so that they cost nothing.
    let deployments: Api<Deployment> = cluster.api(namespace);
    let create = async |index: usize| {
        let mut spec = waiting("registry.example/app:1");
        spec["nodeSelector"] = serde_json::json!({ "nowhere": "true" });
        let object = deployment(namespace, &format!("late-{index}"), spec);
        let object = serde_json::from_value(object).unwrap();
        let created = deployments.create(&PostParams::default(), &object).await;
        created.unwrap();
    };
    let client = cluster.control_plane().client().unwrap();
    let namespaces: Api<Namespace> = Api::all(client);
    let mut period = interval(PERIOD);
    let mut created = 0;
    // The namespace stays for longer: its controller looks again after half of the pods' grace period.
    while !cluster.replicas().await.is_empty() {
        period.tick().await;
        create(created).await;
        created += 1;
    }
    let gone = begun.elapsed();
    until("everything to go on", async || {
        held(cluster, namespace).await.is_empty()
    })
    .await;
    let took = begun.elapsed();
    println!(
        "headstart's pods are gone after {gone:?}, with {created} Deployments created; all go on after {took:?}"
    );
    assert!(took < RESUME_LIMIT, "{took:?}");
    until("the namespace to be gone", async || {
        namespaces.get_opt(NAME).await.unwrap().is_none()
    })
    .await;

    let nodes = turn.take().unwrap().nodes;
    let headstart = Installed::on(&nodes, Profile::Ci, &FLAGS).await.unwrap();
    let cluster = turn.put(Cluster::of(nodes, headstart));
    let delete = ["delete", "namespace", namespace, "--wait=false"];
    cluster.kubectl(&delete).await;
}
