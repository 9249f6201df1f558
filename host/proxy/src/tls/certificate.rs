//! Certificates with their keys, and which of them a client is shown.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::acme::{self, Managed};

/// A chain of certificates with the key of its first.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    key: Arc<CertifiedKey>,
    /// Lower case; `*.` before those that stand for one label.
    names: Vec<String>,
    from: i64,
    until: i64,
}

/// Why a pair cannot be used. Shows nothing of either file.
#[derive(Debug)]
pub(crate) enum Unusable {
    Certificate(String),
    Key(String),
}

impl Certificate {
    /// # Errors
    ///
    /// When either is no PEM, holds nothing, or both do not belong together.
    pub(crate) fn from_pem(chain: &str, key: &str) -> Result<Self, Unusable> {
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let certificates = certificates.map_err(|error| Unusable::Certificate(damaged(&error)))?;
        if certificates.is_empty() {
            let nothing = "there is no certificate in it (a line `-----BEGIN CERTIFICATE-----`)";
            return Err(Unusable::Certificate(nothing.into()));
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| {
            Unusable::Key(match error {
                pem::Error::NoItemsFound => {
                    "there is no key in it that is not encrypted (a line `-----BEGIN PRIVATE KEY-----`)".into()
                }
                error => damaged(&error),
            })
        })?;
        Self::new(certificates, key)
    }

    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Unusable> {
        let (names, from, until) = {
            let (_, first) = X509Certificate::from_der(&chain[0]).map_err(|error| {
                Unusable::Certificate(format!("its first certificate cannot be read: {error}"))
            })?;
            let validity = first.validity();
            (
                names(&first),
                validity.not_before.timestamp(),
                validity.not_after.timestamp(),
            )
        };
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let key = key.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                Unusable::Key("it is not the key of the certificate".into())
            }
            error => Unusable::Key(format!("it cannot be used: {error}")),
        })?;
        Ok(Self {
            key: Arc::new(key),
            names,
            from,
            until,
        })
    }

    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// Whether that name is one of its own; wildcards are not looked at.
    pub(super) fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Since when it is valid, in seconds since 1970.
    pub(super) fn from(&self) -> i64 {
        self.from
    }

    /// Until when.
    pub(super) fn until(&self) -> i64 {
        self.until
    }

    /// What a person should know: that clients will not take it.
    pub(crate) fn doubt(&self) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let days = |seconds: i64| seconds / (24 * 60 * 60);
        if now > self.until {
            let days = days(now - self.until);
            return Some(format!("the certificate expired {days} days ago"));
        }
        if now < self.from {
            let days = days(self.from - now);
            return Some(format!(
                "the certificate is not valid yet, for {days} more days"
            ));
        }
        if self.names.is_empty() {
            return Some(
                "the certificate names no host (subjectAltName), so no client takes it".into(),
            );
        }
        None
    }
}

fn damaged(error: &pem::Error) -> String {
    format!("it is no PEM, or is damaged: {error:?}")
}

/// The names of hosts that it is for (RFC 6125 §6.4; the common name has not counted for long).
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        // Never asked for by name, but it is one.
        GeneralName::IPAddress(bytes) => Some(format!("{bytes:?}")),
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}

/// Shows each client the certificate for the name that it asks for (SNI).
pub(crate) struct ByName {
    /// For a client that asks for none, or for one that nobody has.
    default: Option<Arc<CertifiedKey>>,
    /// Those of one name may have keys of different kinds.
    named: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// After those of files, and the default where there are none.
    managed: Option<Arc<Managed>>,
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.named.keys()).finish()
    }
}

impl ByName {
    /// The first is the default. `None` without any.
    pub(crate) fn new(certificates: &[Certificate], managed: Option<Arc<Managed>>) -> Option<Self> {
        let default = certificates.first().map(|first| first.key.clone());
        if default.is_none() && managed.is_none() {
            return None;
        }
        let mut named: HashMap<String, Vec<_>> = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                let keys = named.entry(name.clone()).or_default();
                keys.push(certificate.key.clone());
            }
        }
        Some(Self {
            default,
            named,
            managed,
        })
    }

    pub(super) fn managed(&self) -> Option<&Arc<Managed>> {
        self.managed.as_ref()
    }

    fn of(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let name = name.to_ascii_lowercase();
        let below = || {
            let (_, parent) = name.split_once('.')?;
            self.named.get(&format!("*.{parent}"))
        };
        self.named.get(&name).or_else(below).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        if let Some(managed) = &self.managed
            && acme::is_validator(&hello)
        {
            return managed.handshake(name?);
        }
        let Some(keys) = name.and_then(|name| self.of(name)) else {
            let of_managed = |managed: &&Arc<Managed>| {
                self.default.is_none() || name.is_some_and(|name| managed.is_for(name))
            };
            return match self.managed.as_ref().filter(of_managed) {
                Some(managed) => managed.key(name),
                None => self.default.clone(),
            };
        };
        let schemes = hello.signature_schemes();
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        keys.iter().find(fits).or(keys.first()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::self_signed;
    use super::*;

    fn certificate(names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        self_signed(&names).expect("it can be made")
    }

    #[test]
    fn a_name_is_found_exactly_or_below_its_wildcard_and_nowhere_else() {
        let certificates = [
            certificate(&["default.example"]),
            certificate(&["*.example.com", "example.com"]),
            certificate(&["www.example.com"]),
        ];
        let by_name = ByName::new(&certificates, None).expect("there are some");
        let found = |name: &str| {
            let keys = by_name.of(name)?;
            certificates
                .iter()
                .position(|c| Arc::ptr_eq(&c.key, &keys[0]))
        };
        assert_eq!(found("example.com"), Some(1));
        assert_eq!(found("a.EXAMPLE.com"), Some(1));
        assert_eq!(found("www.example.com"), Some(2));
        assert_eq!(found("a.b.example.com"), None);
        assert_eq!(found("example.org"), None);
        assert!(ByName::new(&[], None).is_none());
    }

    #[test]
    fn a_pair_that_is_none_says_which_half_is_wrong() {
        let (one, other) = (self_signed::pem(), self_signed::pem());
        assert!(Certificate::from_pem(&one.0, &one.1).is_ok());
        let wrong = Certificate::from_pem(&one.0, &other.1).expect_err("another key");
        assert!(
            matches!(&wrong, Unusable::Key(why) if why.contains("not the key")),
            "{wrong:?}"
        );
        for chain in ["", "hello", &one.1] {
            let wrong = Certificate::from_pem(chain, &one.1).expect_err("no certificate");
            assert!(matches!(wrong, Unusable::Certificate(_)), "{wrong:?}");
        }
        let half = &one.0[..one.0.len() / 2];
        let wrong = Certificate::from_pem(half, &one.1).expect_err("half a certificate");
        assert!(matches!(wrong, Unusable::Certificate(_)), "{wrong:?}");
        for key in ["", "hello", &one.0] {
            let wrong = Certificate::from_pem(&one.0, key).expect_err("no key");
            assert!(matches!(wrong, Unusable::Key(_)), "{wrong:?}");
        }
    }

    #[test]
    fn a_certificate_out_of_its_time_or_without_names_is_doubted() {
        let sound = certificate(&["a.example"]);
        assert_eq!(sound.doubt(), None);
        let expired = Certificate {
            until: 1,
            ..sound.clone()
        };
        assert!(expired.doubt().expect("a doubt").contains("expired"));
        let early = Certificate {
            from: i64::MAX,
            ..sound.clone()
        };
        assert!(early.doubt().expect("a doubt").contains("not valid yet"));
        let nameless = Certificate {
            names: Vec::new(),
            ..sound
        };
        assert!(nameless.doubt().expect("a doubt").contains("names no host"));
    }
}
