//! What the README says about removing headstart.

use testbed::headstart::{Installed, Profile};

use crate::cluster::{Cluster, FLAGS, alone, deployment, waiting};

/// All kinds that the manifests install outside of headstart's own namespace, and that namespace.
const KINDS: &str = "namespace,priorityclass,clusterrole,clusterrolebinding,mutatingwebhookconfiguration,\
                     validatingwebhookconfiguration,validatingadmissionpolicy,validatingadmissionpolicybinding";

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
    kubectl(&["delete", "mutatingwebhookconfiguration", "headstart"]).await;
    let release = "exec -n headstart deployment/headstart -- /headstart release --all";
    let said = kubectl(&release.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(said.trim(), "uninstall-held/web resumed");
    assert_eq!(kubectl(&held).await, "");
    headstart.uninstall(nodes.control_plane()).await.unwrap();
    let ours = ["pods", "-A", "-l", "app.kubernetes.io/managed-by=headstart"];
    kubectl(&[&["delete"], &ours[..]].concat()).await;
    assert_eq!(kubectl(&installed).await, "");
    assert_eq!(
        kubectl(&[&["get"], &ours[..], &["-o", "name"]].concat()).await,
        ""
    );
    // Nobody is asked any more, and everything goes on.
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
