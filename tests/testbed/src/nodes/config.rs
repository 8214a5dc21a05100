//! The configuration files of one node's containerd and kubelet.

use std::path::Path;

use serde_json::json;

/// A directory, as a string of TOML or JSON. The testbed makes these paths itself, from plain characters.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// containerd's, of a node whose files are all below `node`.
pub(super) fn containerd(node: &Path, bin: &Path, pause: &str) -> String {
    let (node, bin) = (shown(node), shown(bin));
    format!(
        r#"version = 3
root = "{node}/containerd/root"
state = "{node}/containerd/state"
[grpc]
address = "{node}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{node}/containerd/opt"
[plugins."io.containerd.nri.v1.nri"]
# One socket for the whole machine, which several containerds would fight for.
disable = true
[plugins."io.containerd.cri.v1.runtime"]
# What a container without all capabilities may not set.
restrict_oom_score_adj = true
disable_apparmor = true
# Statistics that nobody reads: by default each container is asked once a second, and the images' snapshots every ten.
stats_collect_period = "1h"
[plugins."io.containerd.cri.v1.runtime".cni]
use_internal_loopback = true
bin_dirs = ["{bin}"]
conf_dir = "{node}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{bin}/runc-wrapper"
Root = "{node}/runc"
[plugins."io.containerd.cri.v1.images"]
stats_collect_period = 3600
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "{node}/certs.d"
"#
    )
}

/// Returns the configuration by which containerd finds the registry at `127.0.0.1:port`: at the node's own address, or
/// nowhere.
pub(super) fn registry_hosts(address: &str, port: u16) -> String {
    format!(
        r#"server = "http://{address}:{port}"
[host."http://{address}:{port}"]
capabilities = ["pull", "resolve"]
"#
    )
}

/// The pod network of node N: a bridge of its own.
pub(super) fn cni(node: &Path, number: usize) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "testbed",
        "plugins": [{
            "type": "bridge",
            "bridge": bridge(number),
            "isDefaultGateway": true,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": node.join("ipam"),
                "ranges": [[{ "subnet": format!("10.244.{number}.0/24") }]],
            },
        }],
    })
    .to_string()
}

/// The network interface that stands for node N's pod network.
pub(super) fn bridge(number: usize) -> String {
    format!("testbed{number}")
}

/// The kubelet's, of node N. JSON is YAML too.
pub(super) fn kubelet(node: &Path, address: &str, number: usize) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        // No other process has this address while the nodes run, so free ports need not be looked for.
        "address": address,
        "port": 10250 + number,
        "healthzPort": 0,
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "containerRuntimeEndpoint": format!("unix://{}", node.join("containerd.sock").display()),
        "podLogsDir": node.join("logs"),
        "volumePluginDir": node.join("volume-plugins"),
        "resolvConf": node.join("resolv.conf"),
        // No system of control groups is ours to arrange: it may be v1, v2, or half of each.
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        // The machine's disk is shared with everything else on it.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": false,
        // A test that waits for a pod waits for the kubelet to say so.
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "5s",
        "registerWithTaints": null,
        "maxPods": 110,
    })
    .to_string()
}
