//! Flags and environment of `headstart serve`. Every default is here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use k8s_openapi::jiff::SignedDuration;

use crate::domain::node::PullMethod;
use crate::domain::pod::Pin;
use crate::tls::Lifetimes;

/// headstart's own image, where there is no pod of it to look at: what the manifests install.
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
    #[arg(long, env = "POD_NAMESPACE", default_value = "headstart")]
    pub namespace: String,

    /// Name of this replica, unique among them [default: the host's name and a random part]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

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

    /// Image of headstart, whose no-op the prefetch pods run [default: the image of the pod this runs in]
    #[arg(long, env = "HEADSTART_NOOP_IMAGE", value_name = "IMAGE")]
    pub noop_image: Option<String>,

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
    #[arg(long, env = "HEADSTART_POD_DEADLINE", default_value = DEFAULT_POD_DEADLINE, value_parser = duration, value_name = "DURATION")]
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

/// `--pull-method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PullMethodFlag {
    /// The best that each node can.
    Auto,
    /// Image volumes.
    ImageVolume,
    /// Containers that run a static no-op.
    Container,
}

impl PullMethodFlag {
    /// The method for every node, `None` to choose for each.
    pub fn forced(self) -> Option<PullMethod> {
        match self {
            Self::Auto => None,
            Self::ImageVolume => Some(PullMethod::ImageVolume),
            Self::Container => Some(PullMethod::Container),
        }
    }
}

/// `--pin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PinFlag {
    /// spec.nodeName.
    NodeName,
    /// Required node affinity.
    Affinity,
}

impl From<PinFlag> for Pin {
    fn from(flag: PinFlag) -> Self {
        match flag {
            PinFlag::NodeName => Self::NodeName,
            PinFlag::Affinity => Self::Affinity,
        }
    }
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
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

/// Reads a duration as Go and Kubernetes write it.
pub(crate) fn duration(value: &str) -> Result<Duration, String> {
    value
        .parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "want a duration such as 90s, 10m or 1h30m".to_owned())
}

/// Shorter, and pods would come and go all the time.
fn refresh(value: &str) -> Result<SignedDuration, String> {
    match SignedDuration::try_from(duration(value)?) {
        Ok(duration) if duration >= SignedDuration::from_mins(1) => Ok(duration),
        _ => Err("want a duration of at least 1m".to_owned()),
    }
}

/// A Lease counts in whole seconds, and renewals need some room within it.
fn lease_duration(value: &str) -> Result<Duration, String> {
    let duration = duration(value)?;
    if duration < Duration::from_secs(2) || duration.subsec_nanos() != 0 {
        return Err("want whole seconds, at least 2s".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    fn parse(flags: &[&str]) -> Result<Config, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"serve").chain(flags)).map(|cli| cli.config)
    }

    #[test]
    fn the_defaults_parse() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.retain, Duration::from_secs(600));
        assert_eq!(config.pull_method.forced(), None);
    }

    #[test]
    fn the_default_image_is_the_one_that_the_manifests_install() {
        let manifest = include_str!("../manifests/kustomization.yaml");
        let (name, tag) = DEFAULT_NOOP_IMAGE.rsplit_once(':').unwrap();
        assert!(manifest.contains(&format!("newName: {name}\n")), "{name}");
        assert!(manifest.contains(&format!("newTag: {tag}\n")), "{tag}");
    }

    #[test]
    fn lifetimes_that_could_not_be_kept_are_refused() {
        let lifetimes = |ca: &str, leaf: &str| {
            parse(&["--ca-lifetime", ca, "--leaf-lifetime", leaf])
                .unwrap()
                .lifetimes()
        };
        assert!(parse(&[]).unwrap().lifetimes().is_ok());
        assert!(lifetimes("16s", "4s").is_ok());
        assert!(lifetimes("15s", "4s").unwrap_err().contains("4 times"));
        assert!(lifetimes("1h", "1s").unwrap_err().contains("at least 4s"));
        assert!(lifetimes("2000000h", "1h").unwrap_err().contains("at most"));
    }

    #[test]
    fn bad_values_say_what_is_wanted() {
        for (flags, phrase) in [
            (["--retain", "10 bananas"], "want a duration such as"),
            (
                ["--retain=-5m", "--max-writes=1"],
                "want a duration such as",
            ),
            (["--lease-duration", "500ms"], "at least 2s"),
            (["--max-writes", "0"], "1..=1000"),
            (["--pull-method", "magic"], "image-volume"),
            (["--pin", "hope"], "affinity"),
            (["--pods-per-node", "0"], "1..=255"),
            (["--refresh", "5s"], "at least 1m"),
            (["--trust-node-images", "maybe"], "true, false"),
            (["--tls-cert", "a.pem"], "--tls-key"),
        ] {
            let error = parse(&flags).err();
            let message = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(phrase), "{flags:?}: {message}");
        }
    }
}
