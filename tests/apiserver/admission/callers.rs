//! The API server's own certificate, which it shows to webhooks, as docs/client-certificates.md has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headstart::testing::Ca;
use serde_json::json;
use time::OffsetDateTime;

/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The CA of the API server's client certificate, and the file that tells the API server of it.
pub(crate) struct Callers {
    pub(crate) ca: Ca,
    pub(crate) admission_configuration: PathBuf,
}

impl Callers {
    pub(crate) fn new() -> Self {
        let ca = Ca::generate(OffsetDateTime::now_utc(), LIFETIME).unwrap();
        let (cert, key) = client_of(&ca);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("callers");
        fs::create_dir_all(&directory).unwrap();
        let file = |name: &str, content: &str| {
            let path = directory.join(name);
            fs::write(&path, content).unwrap();
            path
        };
        // "*" stands for every host: the ports of the replicas are not known yet.
        let user = json!({"client-certificate": file("tls.crt", &cert), "client-key": file("tls.key", &key)});
        let kubeconfig =
            json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": "*", "user": user}]});
        let webhooks = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration",
            "kubeConfigFile": file("kubeconfig", &kubeconfig.to_string()),
        });
        let plugins = ["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"]
            .map(|name| json!({"name": name, "configuration": webhooks}));
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins,
        });
        Self {
            ca,
            admission_configuration: file("admission.json", &configuration.to_string()),
        }
    }
}

/// A certificate that an API server would show.
pub(crate) fn client_of(ca: &Ca) -> (String, String) {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
    let key = KeyPair::generate().unwrap();
    let issuer_key = KeyPair::from_pem(ca.key()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(ca.cert(), issuer_key).unwrap();
    let mut params = CertificateParams::new(vec!["kube-apiserver".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let cert = params.signed_by(&key, &issuer).unwrap();
    (cert.pem(), key.serialize_pem())
}
