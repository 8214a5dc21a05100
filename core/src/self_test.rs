//! Reads from the API server's answers whether the policies that bound headstart's rights are enforced.
//!
//! The self-test asks, as dry runs and with headstart's own token, for writes that a policy must refuse. Only a refusal that
//! names the policy proves that the policy is there and knows this account.

use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;

/// A request that a policy has to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// Create a pod that is no prefetch pod.
    CreatePod,
    /// Delete headstart's own pod.
    DeletePod,
    /// Change `failurePolicy` of the own MutatingWebhookConfiguration.
    PatchMutating,
    /// Change `failurePolicy` of the own ValidatingWebhookConfiguration.
    PatchValidating,
    /// Create a Secret by another name than the CA's.
    CreateSecret,
    /// Create a Lease by another name than headstart's.
    CreateLease,
    /// Change a Deployment that is not held: headstart's own.
    PatchDeployment,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CreatePod,
        Self::DeletePod,
        Self::PatchMutating,
        Self::PatchValidating,
        Self::CreateSecret,
        Self::CreateLease,
        Self::PatchDeployment,
    ];

    /// The name of the policy, without what an overlay puts before it.
    pub fn policy(self) -> &'static str {
        match self {
            Self::CreatePod => "headstart-creates-only-prefetch-pods",
            Self::DeletePod => "headstart-deletes-only-prefetch-pods",
            Self::PatchMutating => "headstart-writes-only-cabundle-mutating",
            Self::PatchValidating => "headstart-writes-only-cabundle-validating",
            Self::CreateSecret => "headstart-writes-only-its-secret",
            Self::CreateLease => "headstart-writes-only-its-lease",
            Self::PatchDeployment => "headstart-only-resumes",
        }
    }
}

/// The answer of the API server to a [`Check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It would have done it.
    Accepted,
    /// It refused.
    Refused {
        /// The HTTP status.
        code: u16,
        /// The message.
        message: String,
    },
    /// It did not answer.
    Silent,
}

/// The enforcement of a policy, or of all policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// Not known: no answer, or a refusal for another reason.
    #[default]
    Unknown,
    /// The policy refuses, or there is no right to bound.
    Enforced,
    /// A request that the policy forbids is allowed.
    NotEnforced,
}

impl Check {
    /// Reads the answer to this check.
    pub fn read(self, answer: &Answer) -> Enforcement {
        match answer {
            Answer::Accepted => Enforcement::NotEnforced,
            Answer::Silent => Enforcement::Unknown,
            // The API server quotes the name.
            Answer::Refused { message, .. } if message.contains(&format!("{}'", self.policy())) => {
                Enforcement::Enforced
            }
            // RBAC refuses before any policy: an installation without this right.
            Answer::Refused { code: 403, message }
                if message.contains("User \"") && message.contains(" cannot ") =>
            {
                Enforcement::Enforced
            }
            // The object to try it on is not there: a replica that is no pod, a Deployment by another name.
            Answer::Refused { code: 404, .. } => Enforcement::Enforced,
            Answer::Refused { .. } => Enforcement::Unknown,
        }
    }
}

impl Enforcement {
    /// Returns the enforcement of all policies: one policy that is not enforced is enough, and without an answer what was known
    /// `before` stays.
    pub fn of_all(checks: impl IntoIterator<Item = Self>, before: Self) -> Self {
        let mut all = Self::Enforced;
        for check in checks {
            match check {
                Self::NotEnforced => return Self::NotEnforced,
                Self::Unknown => all = before,
                Self::Enforced => {}
            }
        }
        all
    }
}

/// The address at which the API server has to call headstart.
#[derive(Clone, Debug)]
pub struct Address {
    /// The Service.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
    /// Hosts of a URL that are headstart's too: those that its certificate is made out to besides.
    pub hosts: Vec<String>,
}

/// The paths that headstart answers reviews at.
const PATHS: [&str; 4] = ["/mutate", "/hold", "/without-consent", "/validate"];
/// The port of headstart's Service.
const SERVICE_PORT: i32 = 443;

impl Address {
    /// Returns the fault of the address at which a webhook is called, `None` if it is headstart's.
    pub fn fault(&self, webhook: &str, client: &WebhookClientConfig) -> Option<String> {
        let Self {
            service,
            namespace,
            hosts,
        } = self;
        let wanted = format!("service {namespace}/{service}, port {SERVICE_PORT}");
        if let Some(url) = client.url.as_deref() {
            let authority = url.strip_prefix("https://").unwrap_or(url);
            let authority = authority.split('/').next().unwrap_or_default();
            let host = match authority.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
                _ => authority,
            };
            let is_own = hosts.iter().any(|own| own == host);
            // The URL may carry credentials.
            return (!is_own).then(|| {
                format!("webhook {webhook} is called at a URL of host {host:.100}; want {wanted}")
            });
        }
        let Some(called) = client.service.as_ref() else {
            return Some(format!("webhook {webhook} has no address; want {wanted}"));
        };
        if (&called.name, &called.namespace) != (service, namespace)
            || called.port.unwrap_or(SERVICE_PORT) != SERVICE_PORT
        {
            let port = called.port.unwrap_or(SERVICE_PORT);
            return Some(format!(
                "webhook {webhook} is called at service {}/{}, port {port}; want {wanted}",
                called.namespace, called.name
            ));
        }
        let path = called.path.as_deref().unwrap_or("/");
        (!PATHS.contains(&path)).then(|| {
            format!(
                "webhook {webhook} is called at path {path:.100}; want one of {}",
                PATHS.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::admissionregistration::v1::ServiceReference;

    fn refused(code: u16, message: &str) -> Answer {
        Answer::Refused {
            code,
            message: message.to_owned(),
        }
    }

    #[test]
    fn only_a_refusal_by_the_policy_proves_it() {
        let read = |answer| Check::CreatePod.read(&answer);
        let by = |policy: &str| {
            let binding = format!("with binding '{policy}' denied request: headstart: no");
            let message =
                format!("pods \"a\" is forbidden: ValidatingAdmissionPolicy '{policy}' {binding}");
            read(refused(422, &message))
        };
        assert_eq!(
            by("headstart-creates-only-prefetch-pods"),
            Enforcement::Enforced
        );
        assert_eq!(
            by("hs-headstart-creates-only-prefetch-pods"),
            Enforcement::Enforced
        );
        assert_eq!(
            by("headstart-deletes-only-prefetch-pods"),
            Enforcement::Unknown
        );
        assert_eq!(read(Answer::Accepted), Enforcement::NotEnforced);
        assert_eq!(read(Answer::Silent), Enforcement::Unknown);
        let quota = refused(403, "pods \"a\" is forbidden: exceeded quota: q");
        assert_eq!(read(quota), Enforcement::Unknown);
        assert_eq!(read(refused(500, "etcd")), Enforcement::Unknown);
    }

    #[test]
    fn a_right_that_was_taken_away_and_an_object_that_is_not_there_need_no_policy() {
        let rbac = "pods is forbidden: User \"system:serviceaccount:headstart:headstart\" cannot create resource \"pods\"";
        assert_eq!(
            Check::CreatePod.read(&refused(403, rbac)),
            Enforcement::Enforced
        );
        let absent = refused(404, "pods \"web\" not found");
        assert_eq!(Check::DeletePod.read(&absent), Enforcement::Enforced);
    }

    #[test]
    fn one_hole_is_enough_and_no_answer_changes_nothing() {
        use Enforcement::{Enforced, NotEnforced, Unknown};
        let all =
            |checks: &[Enforcement], before| Enforcement::of_all(checks.iter().copied(), before);
        assert_eq!(all(&[Enforced, Enforced], Unknown), Enforced);
        assert_eq!(all(&[Unknown, NotEnforced], Enforced), NotEnforced);
        assert_eq!(all(&[Enforced, Unknown], Unknown), Unknown);
        assert_eq!(all(&[Enforced, Unknown], Enforced), Enforced);
        assert_eq!(all(&[Unknown, Enforced], NotEnforced), NotEnforced);
    }

    #[test]
    fn every_policy_is_in_the_manifests() {
        let files = concat!(
            include_str!("../../manifests/policies/creates-only-prefetch-pods.yaml"),
            include_str!("../../manifests/policies/deletes-only-prefetch-pods.yaml"),
            include_str!("../../manifests/policies/writes-only-cabundle.yaml"),
            include_str!("../../manifests/policies/owns-little.yaml"),
            include_str!("../../manifests/policies/only-resumes.yaml"),
        );
        for check in Check::ALL {
            let name = format!("  name: {}\n", check.policy());
            assert!(files.contains(&name), "{check:?}");
        }
    }

    #[test]
    fn a_webhook_that_is_called_elsewhere_is_found() {
        let address = Address {
            service: "headstart".into(),
            namespace: "infra".into(),
            hosts: vec!["127.0.0.1".into()],
        };
        let service = |name: &str, namespace: &str, path: &str, port| WebhookClientConfig {
            service: Some(ServiceReference {
                name: name.into(),
                namespace: namespace.into(),
                path: Some(path.into()),
                port,
            }),
            ..WebhookClientConfig::default()
        };
        let url = |url: &str| WebhookClientConfig {
            url: Some(url.into()),
            ..WebhookClientConfig::default()
        };
        let fault = |client| address.fault("w", &client).unwrap_or_default();
        assert_eq!(fault(service("headstart", "infra", "/mutate", None)), "");
        assert_eq!(fault(url("https://127.0.0.1:8443/mutate")), "");
        for (client, phrase) in [
            (
                service("headstart", "headstart", "/mutate", None),
                "at service headstart/headstart",
            ),
            (
                service("other", "infra", "/mutate", None),
                "at service infra/other",
            ),
            (
                service("headstart", "infra", "/mutate", Some(8443)),
                "port 8443",
            ),
            (service("headstart", "infra", "/", None), "at path /"),
            (url("https://evil.example/mutate"), "host evil.example"),
            (WebhookClientConfig::default(), "no address"),
        ] {
            let fault = fault(client);
            assert!(fault.contains(phrase), "{fault:?} says {phrase:?}");
            assert!(fault.contains("want "), "{fault:?} says what is right");
        }
    }
}
