//! The command lines of a control plane's components.

use std::net::TcpListener;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

use super::Options;
use crate::assets::Assets;
use crate::process::without_proxies;
use crate::run_dir::RunDir;

/// A process of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers: Deployments, garbage collection, nodes, …
    ControllerManager,
    /// The scheduler.
    Scheduler,
}

impl Component {
    /// All of them, in the order in which they start.
    pub(super) const ALL: [Self; 4] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
    ];

    /// Its program, and the name of its log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }
}

/// The address of the API server's Service, and of the API server itself where pods reach it. Without kube-proxy the
/// two must be the same.
pub(crate) const SERVICE_ADDRESS: &str = "10.96.0.1";
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// The paths, addresses and ports of a control plane: enough to start any component, again too.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) assets: Assets,
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    /// By pods of real nodes.
    pub(super) reachable_by_pods: bool,
    pub(super) etcd_port: u16,
    pub(super) address: &'static str,
    pub(super) port: u16,
}

impl Layout {
    /// Picks ports that are free now.
    pub(super) fn new(
        assets: &Assets,
        run: &RunDir,
        options: Options,
        reachable_by_pods: bool,
    ) -> Result<Self> {
        let (address, port) = if reachable_by_pods {
            (SERVICE_ADDRESS, 443)
        } else {
            ("127.0.0.1", free_port()?)
        };
        Ok(Self {
            assets: assets.clone(),
            dir: run.path().to_owned(),
            options,
            reachable_by_pods,
            etcd_port: free_port()?,
            address,
            port,
        })
    }

    pub(super) fn server(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }

    /// A file of the run.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn flag(&self, flag: &str, file: &str) -> String {
        format!("--{flag}={}", self.file(file).display())
    }

    pub(super) fn command(&self, component: Component) -> Command {
        let (program, first) = self.assets.kubernetes(component.name());
        let mut command = without_proxies(program);
        command.args(first).args(match component {
            Component::Etcd => self.etcd(),
            Component::ApiServer => self.api_server(),
            Component::ControllerManager => self.controller_manager(),
            Component::Scheduler => self.scheduler(),
        });
        command
    }

    fn etcd(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        vec![
            self.flag("data-dir", "etcd"),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            // Port 0: it is not needed, as there are no peers.
            "--listen-peer-urls=http://127.0.0.1:0".into(),
            "--initial-advertise-peer-urls=http://127.0.0.1:0".into(),
            "--initial-cluster=default=http://127.0.0.1:0".into(),
            // Its data is worth no more than the run.
            "--unsafe-no-fsync=true".into(),
            "--log-level=warn".into(),
        ]
    }

    fn api_server(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--bind-address={}", self.address),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={}", self.port),
            self.flag("cert-dir", "pki"),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            self.flag("service-account-key-file", "service-account.pub"),
            self.flag("service-account-signing-key-file", "service-account.key"),
            self.flag("token-auth-file", "tokens.csv"),
            "--authorization-mode=Node,RBAC".into(),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            "--allow-privileged=true".into(),
        ];
        if self.reachable_by_pods {
            // A webhook's Service is called at its pods: no kube-proxy translates its address.
            flags.push("--enable-aggregator-routing=true".into());
            // The nodes' names cannot be resolved.
            flags.push("--kubelet-preferred-address-types=InternalIP".into());
        } else {
            // A loopback address may be no endpoint of a Service, and the endpoint is not needed.
            flags.push("--endpoint-reconciler-type=none".into());
        }
        if self.options.audit {
            flags.push(self.flag("audit-policy-file", "audit-policy.yaml"));
            flags.push(self.flag("audit-log-path", "audit.log"));
            // In megabytes: one file is easier to count in than several.
            flags.push("--audit-log-maxsize=100000".into());
        }
        flags.extend(self.options.api_server_arguments.iter().cloned());
        flags
    }

    fn controller_manager(&self) -> Vec<String> {
        let mut flags = vec![
            self.flag("kubeconfig", "admin.kubeconfig"),
            self.flag("service-account-private-key-file", "service-account.key"),
            self.flag("root-ca-file", "ca.crt"),
            "--use-service-account-credentials=true".into(),
            // Its default, 20 requests per second, is for clusters that grow slowly: a thousand nodes that come at
            // once would wait minutes for their taints to be taken off.
            "--kube-api-qps=1000".into(),
            "--kube-api-burst=2000".into(),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
        ];
        if !self.reachable_by_pods {
            // A fake node's lease is late when the machine is busy, never because the node is gone.
            flags.push("--node-monitor-grace-period=300s".into());
        }
        flags
    }

    fn scheduler(&self) -> Vec<String> {
        vec![
            self.flag("kubeconfig", "admin.kubeconfig"),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
        ]
    }
}

/// Ports that no system hands out by itself. A system may pick a port for a client's end of a connection in the moment between
/// our look and the component's start.
const PORTS: Range<u16> = 15_000..30_000;

/// Returns a port of the loopback interface that no process listens on now, and that this process has not named lately. Another
/// process may be faster to take it: then the component says so, and everything is started again with other ports.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Processes that start one after another begin far from each other.
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..count {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = begin.wrapping_add(next) % count;
        let port = PORTS.start + u16::try_from(offset)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free on the loopback interface")
}
