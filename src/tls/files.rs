//! A certificate that another controller manages, cert-manager for example. The files are read again when they change.
//!
//! Changes are found by comparing the content at an interval. Kubernetes replaces a mounted Secret by swapping a symbolic link
//! two directories up, and file notifications miss the first swap.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem;
use tracing::{error, info};

use super::ca::Validity;
use super::{Resolver, TlsError};

/// The interval at which the files are read: two small reads from the page cache.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// A certificate's file and its key's.
#[derive(Clone, Debug)]
pub struct CertFiles {
    /// The certificate and the intermediate certificates, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// The content of both files.
type CertFileContents = (Vec<u8>, Vec<u8>);

impl CertFiles {
    /// Serves the certificate in the files. Returns the content, and the time in which the certificate is valid.
    pub fn load(&self, resolver: &Resolver) -> Result<(CertFileContents, Validity), TlsError> {
        let content = self.read()?;
        let validity = self.serve(&content, resolver)?;
        Ok((content, validity))
    }

    /// Serves new content of the files, until the process ends. `report` gets the validity of each new certificate.
    pub async fn watch(
        self,
        mut current: CertFileContents,
        resolver: Arc<Resolver>,
        report: impl Fn(Validity),
    ) {
        let mut tick = tokio::time::interval(RELOAD_INTERVAL);
        // Each bad content is logged once, not at every read.
        let mut complained = None;
        loop {
            tick.tick().await;
            let content = match self.read() {
                Ok(content) if content == current => continue,
                Ok(content) if complained.as_ref() == Some(&content) => continue,
                Ok(content) => content,
                Err(error) => {
                    error!(%error, "cannot read the certificate again; the old one is served on");
                    continue;
                }
            };
            match self.serve(&content, &resolver) {
                Ok(validity) => {
                    info!(expires = %validity.until, "serving the certificate that was put in place");
                    report(validity);
                    current = content;
                }
                // Between the writes of the two files they do not match. The next read finds both.
                Err(error) => {
                    error!(%error, "cannot serve what was put in place; the old certificate is served on");
                    complained = Some(content);
                }
            }
        }
    }

    fn read(&self) -> Result<CertFileContents, TlsError> {
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map_err(|error| TlsError::BadFile(path.clone(), pem::Error::Io(error)))
        };
        Ok((read(&self.cert)?, read(&self.key)?))
    }

    fn serve(&self, content: &CertFileContents, resolver: &Resolver) -> Result<Validity, TlsError> {
        let (cert, key) = content;
        let validity = Validity::of(cert)?;
        resolver.serve_pem((&self.cert, cert), (&self.key, key))?;
        Ok(validity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Ca;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use time::OffsetDateTime;
    use tokio::sync::mpsc;

    fn write(directory: &Path, lifetime: Duration) {
        let now = OffsetDateTime::now_utc();
        let ca = Ca::generate(now, lifetime * 2).unwrap();
        let leaf = ca.issue(&["localhost".into()], now, lifetime).unwrap();
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join("tls.crt"), leaf.cert).unwrap();
        std::fs::write(directory.join("tls.key"), leaf.key).unwrap();
    }

    /// As the kubelet does it: `tls.crt` → `..data/tls.crt`, `..data` → a directory with the time in its name.
    #[tokio::test(start_paused = true)]
    async fn a_mounted_secret_that_is_swapped_is_served_and_a_broken_one_is_not() {
        let root = std::env::temp_dir().join(format!("headstart-files-{}", std::process::id()));
        let point_at = |version: &str| {
            let _ = std::fs::remove_file(root.join("..new"));
            symlink(version, root.join("..new")).unwrap();
            std::fs::rename(root.join("..new"), root.join("..data")).unwrap();
        };
        write(&root.join("..1"), Duration::from_secs(3600));
        point_at("..1");
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), root.join(name)).unwrap();
        }
        let files = CertFiles {
            cert: root.join("tls.crt"),
            key: root.join("tls.key"),
        };
        let resolver = Arc::new(Resolver::default());
        let (content, first) = files.load(&resolver).unwrap();
        let (reports, mut reported) = mpsc::unbounded_channel();
        let report = move |validity| reports.send(validity).unwrap();
        let keeping = tokio::spawn(files.watch(content, resolver, report));

        write(&root.join("..2"), Duration::from_secs(7200));
        std::fs::write(root.join("..2/tls.key"), "half written").unwrap();
        point_at("..2");
        tokio::time::sleep(RELOAD_INTERVAL * 3).await;
        assert!(reported.try_recv().is_err(), "half of a pair is not served");

        write(&root.join("..3"), Duration::from_secs(7200));
        point_at("..3");
        let second = reported.recv().await.unwrap();
        assert!(second.until > first.until);
        keeping.abort();
        std::fs::remove_dir_all(root).unwrap();
    }
}
