//! The content of the Secret, and the steps by which one CA follows another without a failed call. Decisions only: no I/O, no
//! clock.
//!
//! All state is in the Secret, so that the next leader continues a rotation:
//!
//! | key | |
//! |---|---|
//! | `tls.crt`, `tls.key` | the CA that signs now |
//! | `next.crt`, `next.key` | the CA that signs once every `caBundle` carries it |
//! | `previous.crt`, `previous.until` | the CA that signed before, and the time at which its last leaf has expired |
//!
//! `caBundle` always holds all three certificates. So the order is: `next` is made, published and read back. Then it becomes
//! the CA that signs. The previous CA is forgotten when nothing signed by it is valid any more. At each step callers trust the
//! leaf.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::{Ca, Lifetimes, TlsError};

/// The names that `kubernetes.io/tls` requires.
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERT: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS_CERT: &str = "previous.crt";
const PREVIOUS_UNTIL: &str = "previous.until";

/// The CAs of one Secret.
#[derive(Clone, Debug)]
pub(crate) struct CaState {
    /// The CA that signs.
    pub current: Arc<Ca>,
    /// The CA that will sign.
    pub next: Option<Arc<Ca>>,
    /// The CA that signed before. Its leaves may still be served.
    pub previous: Option<RetiredCa>,
}

/// A CA that signs no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RetiredCa {
    /// The certificate of the CA. The key is forgotten.
    pub cert: String,
    /// The time at which its last leaf has expired.
    pub until: OffsetDateTime,
}

/// The reason for a write of the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RotationStep {
    /// Half of the current CA's life is over: its successor is made and published.
    CreateNext,
    /// Every caller trusts the successor: it signs from now on.
    Promote,
    /// Nothing signed by the previous CA is valid any more.
    RemovePrevious,
    /// Another client replaced the CA: the CA of the served leaves stays trusted meanwhile.
    KeepServingCa,
}

impl CaState {
    /// Makes a first CA.
    pub(crate) fn generate(now: OffsetDateTime, lifetimes: &Lifetimes) -> Result<Self, TlsError> {
        Ok(Self {
            current: Arc::new(Ca::generate(now, lifetimes.ca)?),
            next: None,
            previous: None,
        })
    }

    /// Returns the content for a Secret that is gone or unreadable. A known CA whose leaves are served stays current, so that
    /// no call fails. A user who deletes a CA wants it gone, so its successor is made at once.
    pub(crate) fn replacement(
        served: Option<Arc<Ca>>,
        now: OffsetDateTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, TlsError> {
        let fresh = Self::generate(now, lifetimes)?;
        Ok(match served.filter(|ca| ca.validity().is_valid_at(now)) {
            Some(served) => Self {
                current: served,
                next: Some(fresh.current),
                previous: None,
            },
            None => fresh,
        })
    }

    /// Reads the Secret. `None` without a usable current CA.
    pub(crate) fn from_secret(secret: &Secret) -> Option<Self> {
        let text = |key: &str| {
            let bytes = secret.data.as_ref()?.get(key)?;
            String::from_utf8(bytes.0.clone()).ok()
        };
        let pair = |cert: &str, key: &str| Ca::from_pem(text(cert)?, text(key)?).ok().map(Arc::new);
        let retired = || {
            let until: Timestamp = text(PREVIOUS_UNTIL)?.trim().parse().ok()?;
            Some(RetiredCa {
                cert: text(PREVIOUS_CERT)?,
                until: OffsetDateTime::from_unix_timestamp(until.as_second()).ok()?,
            })
        };
        Some(Self {
            current: pair(CERT, KEY)?,
            next: pair(NEXT_CERT, NEXT_KEY),
            previous: retired(),
        })
    }

    /// Returns the Secret's data.
    pub(crate) fn to_data(&self) -> BTreeMap<String, ByteString> {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let mut data = BTreeMap::from([
            (CERT.to_owned(), bytes(self.current.cert())),
            (KEY.to_owned(), bytes(self.current.key())),
        ]);
        if let Some(next) = &self.next {
            data.insert(NEXT_CERT.into(), bytes(next.cert()));
            data.insert(NEXT_KEY.into(), bytes(next.key()));
        }
        if let Some(RetiredCa { cert, until }) = &self.previous {
            // Times that `from_secret` has read, and times of this century, are within jiff's range.
            let until = Timestamp::from_second(until.unix_timestamp()).unwrap_or(Timestamp::MAX);
            data.insert(PREVIOUS_CERT.into(), bytes(cert));
            data.insert(PREVIOUS_UNTIL.into(), bytes(&until.to_string()));
        }
        data
    }

    /// Returns the content for every `caBundle`.
    pub(crate) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.cert());
        let previous = self.previous.as_ref().map(|retired| retired.cert.as_str());
        [Some(self.current.cert()), next, previous]
            .into_iter()
            .flatten()
            .map(|cert| format!("{}\n", cert.trim_end()))
            .collect()
    }

    /// Returns the next step, if one is due. `served` is the CA of the leaf that this replica serves; `published` is true once
    /// `next` has been in every `caBundle` for long enough.
    pub(crate) fn step(
        &self,
        now: OffsetDateTime,
        lifetimes: &Lifetimes,
        served: Option<&Ca>,
        published: bool,
    ) -> Result<Option<(RotationStep, Self)>, TlsError> {
        let retired = |cert: &str| {
            Some(RetiredCa {
                cert: cert.to_owned(),
                until: now + lifetimes.retirement(),
            })
        };
        if let Some(served) = served.filter(|served| !self.knows(served.cert())) {
            let remembering = Self {
                previous: retired(served.cert()),
                ..self.clone()
            };
            return Ok(Some((RotationStep::KeepServingCa, remembering)));
        }
        if self.previous.as_ref().is_some_and(|old| old.until <= now) {
            let forgetting = Self {
                previous: None,
                ..self.clone()
            };
            return Ok(Some((RotationStep::RemovePrevious, forgetting)));
        }
        match &self.next {
            // One rotation at a time: the previous CA must be out of use first.
            None if self.previous.is_some() => Ok(None),
            None if self.current.validity().needs_renewal(now, lifetimes.ca) => {
                let next = Arc::new(Ca::generate(now, lifetimes.ca)?);
                let preparing = Self {
                    next: Some(next),
                    ..self.clone()
                };
                Ok(Some((RotationStep::CreateNext, preparing)))
            }
            Some(next) if published => {
                let promoting = Self {
                    current: next.clone(),
                    next: None,
                    previous: retired(self.current.cert()),
                };
                Ok(Some((RotationStep::Promote, promoting)))
            }
            None | Some(_) => Ok(None),
        }
    }

    fn knows(&self, cert: &str) -> bool {
        let all = TrustedRoots::of(self.bundle().as_bytes());
        all.contains(cert)
    }
}

/// The certificates of `caBundle`s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedRoots(BTreeSet<Vec<u8>>);

impl TrustedRoots {
    /// Returns the certificates of one bundle. Other content is ignored.
    pub fn of(bundle: &[u8]) -> Self {
        let certificates = CertificateDer::pem_slice_iter(bundle);
        Self(certificates.flatten().map(|der| der.to_vec()).collect())
    }

    /// Returns the certificates that all of these bundles have.
    pub fn by_all(bundles: impl IntoIterator<Item = Self>) -> Self {
        let common = bundles
            .into_iter()
            .reduce(|a, b| Self(a.0.intersection(&b.0).cloned().collect()));
        common.unwrap_or_default()
    }

    /// Returns whether this certificate (PEM) is among them.
    pub fn contains(&self, cert: &str) -> bool {
        let der = CertificateDer::from_pem_slice(cert.as_bytes());
        der.is_ok_and(|der| self.0.contains(der.as_ref()))
    }
}

#[cfg(test)]
mod tests;
