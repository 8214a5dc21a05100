//! Flags and environment of `headstart serve`. Every default is here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use k8s_openapi::jiff::SignedDuration;

use crate::domain::hold;
use crate::tls::Lifetimes;

mod values;

pub(crate) use values::duration;
pub use values::{HoldFlag, LogFormat, PinFlag, PullMethodFlag, ServiceAccountFlag};
use values::{lease_duration, pod_deadline, refresh};

/// The namespace that headstart runs in.
pub const DEFAULT_NAMESPACE: &str = "headstart";
/// headstart's own image for a plan, which starts nothing: what the manifests install.
pub const DEFAULT_NOOP_IMAGE: &str = concat!("headstart:v", env!("CARGO_PKG_VERSION"));
/// The PriorityClass that the manifests install.
pub const DEFAULT_PRIORITY_CLASS: &str = "headstart-prefetch";
/// How long a prefetch pod may take.
pub const DEFAULT_POD_DEADLINE: &str = "30m";

/// What `headstart serve` is told.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address of the webhook (HTTPS)
    #[arg(
        long,
        env = "HEADSTART_LISTEN",
        default_value = "[::]:8443",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,

    /// Address of /livez, /readyz and /metrics (plain HTTP)
    #[arg(
        long,
        env = "HEADSTART_PROBE_LISTEN",
        default_value = "[::]:8080",
        value_name = "ADDRESS"
    )]
    pub probe_listen: SocketAddr,

    /// headstart's own namespace: holds its lease and its CA, and is never prefetched for
    #[arg(long, env = "POD_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,

    /// Name of this replica, unique among them [default: the host's name and a random part]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// headstart's own Deployment, on which events say what is wrong with the installation
    #[arg(
        long,
        env = "HEADSTART_DEPLOYMENT",
        default_value = "headstart",
        value_name = "NAME"
    )]
    pub deployment: String,

    /// Service that the API server calls; the certificate is made out to SERVICE.NAMESPACE.svc
    #[arg(long, env = "HEADSTART_SERVICE", default_value = "headstart")]
    pub service: String,

    /// Further DNS names or IP addresses for the certificate (comma-separated)
    #[arg(
        long,
        env = "HEADSTART_TLS_SAN",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub tls_san: Vec<String>,

    /// Secret with the CA in headstart's namespace; made if it is absent
    #[arg(
        long,
        env = "HEADSTART_CA_SECRET",
        default_value = "headstart-ca",
        value_name = "NAME"
    )]
    pub ca_secret: String,

    /// How long a CA is valid; its successor is made at half of it, and used once every caBundle carries it
    #[arg(long, env = "HEADSTART_CA_LIFETIME", default_value = "8760h", value_parser = duration, value_name = "DURATION")]
    pub ca_lifetime: Duration,

    /// How long a serving certificate is valid; each replica signs a new one at half of it
    #[arg(long, env = "HEADSTART_LEAF_LIFETIME", default_value = "24h", value_parser = duration, value_name = "DURATION")]
    pub leaf_lifetime: Duration,

    /// Serve this certificate (PEM) instead of one that headstart signs; caBundle is then yours to write.
    ///
    /// Read again when it is replaced. For cert-manager: mount the Secret of a Certificate for
    /// SERVICE.NAMESPACE.svc, give its tls.crt here and its tls.key below, and annotate both webhook
    /// configurations with cert-manager.io/inject-ca-from: NAMESPACE/CERTIFICATE.
    #[arg(
        long,
        env = "HEADSTART_TLS_CERT",
        requires = "tls_key",
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,

    /// The key (PEM) of --tls-cert
    #[arg(
        long,
        env = "HEADSTART_TLS_KEY",
        requires = "tls_cert",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// Serve only clients with a certificate of one of these CAs (PEM).
    ///
    /// The API server shows one if its --admission-control-config-file names, for MutatingAdmissionWebhook and
    /// ValidatingAdmissionWebhook, a kubeConfigFile with a user "SERVICE.NAMESPACE.svc" that has a
    /// client-certificate and a client-key. See docs/client-certificates.md.
    #[arg(long, env = "HEADSTART_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,

    /// Name of the MutatingWebhookConfiguration and the ValidatingWebhookConfiguration whose caBundle is kept
    #[arg(
        long,
        env = "HEADSTART_WEBHOOK_CONFIGURATION",
        default_value = "headstart",
        value_name = "NAME"
    )]
    pub webhook_configuration: String,

    /// Image of headstart, whose no-op the prefetch pods run. The manifests set it to the image that they install
    #[arg(long, env = "HEADSTART_NOOP_IMAGE", value_name = "IMAGE")]
    pub noop_image: Option<String>,

    /// Create no pods and hold nothing unless the API server enforces headstart's ValidatingAdmissionPolicies, which a
    /// self-test tries at the start and every hour
    #[arg(
        long,
        env = "HEADSTART_REQUIRE_POLICIES",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pub require_policies: bool,

    /// How images are pulled: `auto` takes image volumes on nodes that have them, else containers
    #[arg(
        long,
        env = "HEADSTART_PULL_METHOD",
        default_value = "auto",
        value_name = "METHOD"
    )]
    pub pull_method: PullMethodFlag,

    /// How prefetch pods get to their node: `affinity` goes through the scheduler, for clusters that forbid spec.nodeName
    #[arg(
        long,
        env = "HEADSTART_PIN",
        default_value = "node-name",
        value_name = "WAY"
    )]
    pub pin: PinFlag,

    /// ServiceAccount of prefetch pods: the namespace's `default` (with the pull secrets of the workload's), or the `workload`'s
    /// own, for kubelets that ask for registry credentials in its name. Any node may then ask for tokens of it: a prefetch puts a
    /// pod on every node
    #[arg(
        long,
        env = "HEADSTART_SERVICE_ACCOUNT",
        default_value = "default",
        value_name = "WHICH"
    )]
    pub service_account: ServiceAccountFlag,

    /// PriorityClass of prefetch pods; empty for none
    #[arg(
        long,
        env = "HEADSTART_PRIORITY_CLASS",
        default_value = DEFAULT_PRIORITY_CLASS,
        value_name = "NAME"
    )]
    pub priority_class: String,

    /// How long finished prefetch pods stay after the rollout; until then they keep the images from garbage collection
    #[arg(long, env = "HEADSTART_RETAIN", default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub retain: Duration,

    /// When the kubelet ends a prefetch pod that is not done
    #[arg(long, env = "HEADSTART_POD_DEADLINE", default_value = DEFAULT_POD_DEADLINE, value_parser = pod_deadline, value_name = "DURATION")]
    pub pod_deadline: Duration,

    /// Most writes of pods in flight; an API server serves no more creates per second beyond about this many
    #[arg(long, env = "HEADSTART_MAX_WRITES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000), value_name = "N")]
    pub max_writes: u16,

    /// Most nodes that pull at once in the whole cluster; 0 for no limit. The default: rollouts are waited for, and their own
    /// pods would pull all at once too
    #[arg(
        long,
        env = "HEADSTART_MAX_PULLING_NODES",
        default_value_t = 0,
        value_name = "N"
    )]
    pub max_pulling_nodes: u32,

    /// Most nodes that pull from one registry at once; 0 for no limit. The default: registries are sized for rollouts; set it
    /// where one counts pulls by address, or is behind a thin line
    #[arg(
        long,
        env = "HEADSTART_MAX_PULLS_PER_REGISTRY",
        default_value_t = 0,
        value_name = "N"
    )]
    pub max_pulls_per_registry: u32,

    /// Most prefetch pods on one node that are not done. The default: a kubelet pulls one image after another, and what is
    /// behind others in its queue cannot be called off
    #[arg(long, env = "HEADSTART_PODS_PER_NODE", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..), value_name = "N")]
    pub pods_per_node: u8,

    /// Hold rollouts where the label says so; `off` resumes those that are held, and needs no right to patch Deployments
    /// once there are none
    #[arg(
        long,
        env = "HEADSTART_HOLD",
        default_value = "on",
        value_name = "SWITCH"
    )]
    pub hold: HoldFlag,

    /// How long a rollout is held at most, unless its annotation says otherwise
    #[arg(long, env = "HEADSTART_HOLD_TIMEOUT", default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub hold_timeout: Duration,

    /// How long a rollout is held at most, whatever its annotation says
    #[arg(long, env = "HEADSTART_MAX_HOLD", default_value = "30m", value_parser = duration, value_name = "DURATION")]
    pub max_hold: Duration,

    /// Prefetch again this often, unless a Deployment's annotation says otherwise: heals images that a node evicted, at the
    /// price of a pod per node and Deployment each time [default: never]
    #[arg(long, env = "HEADSTART_REFRESH", value_parser = refresh, value_name = "DURATION")]
    pub refresh: Option<SignedDuration>,

    /// Skip nodes that report all images of a Deployment in their status. A hint, and used only for images that are not
    /// pulled always and Deployments without imagePullSecrets: with them, only a prefetch proves the right to use the image
    #[arg(
        long,
        env = "HEADSTART_TRUST_NODE_IMAGES",
        default_value_t = true,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pub trust_node_images: bool,

    /// For how many Deployments a node that joins is warmed, those with most replicas first; 0 for none. The default: what a
    /// node usually runs, and a fraction of its pod slots
    #[arg(
        long,
        env = "HEADSTART_NEW_NODE_DEPLOYMENTS",
        default_value_t = 20,
        value_name = "N"
    )]
    pub new_node_deployments: u16,

    /// Namespaces to look at, and no others (comma-separated) [default: all]
    #[arg(
        long,
        env = "HEADSTART_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub namespaces: Vec<String>,

    // client-go's 15 s are for controllers whose work a restart undoes. What is prefetched 15 s late is of no use to a
    // rollout, and losing the lease costs a list: 6 s, with a renewal every 0.8 s, of which four may be lost.
    /// How long a leader's lease is valid after its last renewal; a standby takes over a crashed leader after it
    #[arg(long, env = "HEADSTART_LEASE_DURATION", default_value = "6s", value_parser = lease_duration, value_name = "DURATION")]
    pub lease_duration: Duration,

    /// How long reviews are still served after SIGTERM, until the API server has stopped sending them
    #[arg(long, env = "HEADSTART_DRAIN", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub drain: Duration,

    /// Kubeconfig to use instead of the pod's service account
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Form of the log on standard error
    #[arg(
        long,
        env = "HEADSTART_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

impl Config {
    /// How long rollouts are held at most, `None` if they are not; or what is wrong with what was asked for.
    pub fn holds(&self) -> Result<Option<hold::HoldLimits>, String> {
        let (timeout, most) = (self.hold_timeout, self.max_hold);
        if timeout.is_zero() || timeout > most {
            return Err(format!(
                "--hold-timeout is {timeout:?}; want more than zero, and at most --max-hold, which is {most:?}"
            ));
        }
        let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let limits = hold::HoldLimits {
            default: signed(timeout),
            max: signed(most),
        };
        Ok((self.hold == HoldFlag::On).then_some(limits))
    }

    /// How long certificates live, or what is wrong with what was asked for.
    pub fn lifetimes(&self) -> Result<Lifetimes, String> {
        let (authority, leaf) = (self.ca_lifetime, self.leaf_lifetime);
        let shortest = Lifetimes::SHORTEST_LEAF;
        if leaf < shortest {
            return Err(format!(
                "--leaf-lifetime is {leaf:?}; want at least {shortest:?}"
            ));
        }
        let times = Lifetimes::LEAVES_PER_AUTHORITY;
        if authority < leaf.saturating_mul(times) {
            return Err(format!(
                "--ca-lifetime is {authority:?}; want at least {times} times --leaf-lifetime, which is {leaf:?}: \
                 a CA must outlive the certificates that it signed in the first half of its life"
            ));
        }
        // X.509 can say more, but 100 years are a typing error.
        let longest = Duration::from_secs(100 * 365 * 24 * 3600);
        if authority > longest {
            return Err(format!(
                "--ca-lifetime is {authority:?}; want at most {longest:?}"
            ));
        }
        Ok(Lifetimes { authority, leaf })
    }
}

#[cfg(test)]
mod tests;
