//! Makes CAs and leaves. All keys are P-256: fast to sign with, and accepted by every API server.

use std::fmt;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;

/// The time before their creation from which certificates are valid, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(300);

/// A certificate authority.
pub struct Ca {
    cert: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
    validity: Validity,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key.
        f.debug_struct("Authority")
            .field("cert", &self.cert)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// A certificate and its key, as PEM.
pub struct LeafCert {
    /// The certificate.
    pub cert: String,
    /// The private key.
    pub key: String,
    /// The time in which it is valid.
    pub validity: Validity,
}

impl fmt::Debug for LeafCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key.
        f.debug_struct("Leaf")
            .field("cert", &self.cert)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// The time in which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: OffsetDateTime,
    /// The last moment.
    pub until: OffsetDateTime,
}

impl Validity {
    /// Returns the validity of a certificate that is made now.
    fn starting(now: OffsetDateTime, lifetime: Duration) -> Self {
        Self {
            from: now - BACKDATE,
            until: now + lifetime,
        }
    }

    /// Returns the validity of the first certificate in a PEM text.
    pub fn of(pem: &[u8]) -> Result<Self, TlsError> {
        let der = CertificateDer::from_pem_slice(pem).map_err(|_| TlsError::BadCertificate)?;
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|_| TlsError::BadCertificate)?;
        let time = |seconds| {
            OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| TlsError::BadCertificate)
        };
        let validity = certificate.validity();
        Ok(Self {
            from: time(validity.not_before.timestamp())?,
            until: time(validity.not_after.timestamp())?,
        })
    }

    /// Returns whether the certificate is valid at this time.
    pub fn is_valid_at(&self, now: OffsetDateTime) -> bool {
        (self.from..self.until).contains(&now)
    }

    /// Returns whether half of `lifetime` is over, or the certificate is not valid at this time.
    pub fn needs_renewal(&self, now: OffsetDateTime, lifetime: Duration) -> bool {
        !self.is_valid_at(now) || self.until - now <= lifetime / 2
    }
}

impl Ca {
    /// Makes a new CA.
    pub fn generate(now: OffsetDateTime, lifetime: Duration) -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let validity = Validity::starting(now, lifetime);
        params.not_before = validity.from;
        params.not_after = validity.until;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params
            .distinguished_name
            .push(DnType::CommonName, "headstart webhook CA");
        let cert = params.self_signed(&key)?.pem();
        Self::from_pem(cert, key.serialize_pem())
    }

    /// Reads a CA from its PEM texts.
    pub fn from_pem(cert: String, key: String) -> Result<Self, TlsError> {
        let validity = Validity::of(cert.as_bytes())?;
        let issuer = Issuer::from_ca_cert_pem(&cert, KeyPair::from_pem(&key)?)?;
        Ok(Self {
            cert,
            key,
            issuer,
            validity,
        })
    }

    /// Returns the certificate as PEM, the form for a `caBundle`.
    pub fn cert(&self) -> &str {
        &self.cert
    }

    /// Returns the private key as PEM.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the time in which it is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Signs a server certificate for these names (DNS names or IP addresses). It does not outlive its CA.
    pub fn issue(
        &self,
        names: &[String],
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<LeafCert, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        let validity = Validity::starting(now, lifetime);
        let validity = Validity {
            until: validity.until.min(self.validity.until),
            ..validity
        };
        params.not_before = validity.from;
        params.not_after = validity.until;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params
            .distinguished_name
            .push(DnType::CommonName, "headstart webhook");
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(LeafCert {
            cert,
            key: key.serialize_pem(),
            validity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn an_authority_reads_back_and_signs_on() {
        let now = OffsetDateTime::now_utc();
        let first = Ca::generate(now, HOUR).unwrap();
        let again = Ca::from_pem(first.cert().into(), first.key().into()).unwrap();
        assert_eq!(first.validity(), again.validity());
        let leaf = again.issue(&["headstart.headstart.svc".into()], now, HOUR / 4);
        let leaf = leaf.unwrap();
        let read = Validity::of(leaf.cert.as_bytes()).unwrap();
        assert_eq!(
            read.until.unix_timestamp(),
            leaf.validity.until.unix_timestamp()
        );
    }

    #[test]
    fn a_leaf_does_not_outlive_its_authority() {
        let now = OffsetDateTime::now_utc();
        let ca = Ca::generate(now, HOUR).unwrap();
        let leaf = ca.issue(&["headstart".into()], now, HOUR * 2).unwrap();
        assert_eq!(leaf.validity.until, ca.validity().until);
    }

    #[test]
    fn certificate_is_due_after_half_its_lifetime_or_before_it_is_valid() {
        let now = OffsetDateTime::now_utc();
        let validity = Validity::starting(now, HOUR);
        assert!(!validity.needs_renewal(now + HOUR / 3, HOUR));
        assert!(validity.needs_renewal(now + HOUR / 2, HOUR));
        assert!(validity.needs_renewal(now + HOUR * 100, HOUR));
        assert!(
            validity.needs_renewal(now - HOUR, HOUR),
            "the clock was set back"
        );
    }

    #[test]
    fn nothing_that_is_printed_holds_a_key() {
        let now = OffsetDateTime::now_utc();
        let ca = Ca::generate(now, HOUR).unwrap();
        let leaf = ca.issue(&["headstart".into()], now, HOUR).unwrap();
        for shown in [format!("{ca:?}"), format!("{leaf:?}")] {
            assert!(!shown.contains("PRIVATE KEY"), "{shown}");
        }
    }
}
