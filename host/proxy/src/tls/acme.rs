//! Certificates from an authority that speaks ACME (RFC 8555): had, stored and renewed beside the workers.
//!
//! A configuration that is read gives [`Managed`], with what is stored already; only a running server has the
//! [`Keeper`] that talks to the authority. Until there is a certificate, handshakes for its names are refused: a
//! stand-in that nobody trusts would teach people to click warnings away, and would look like an answer to a check.

mod keeper;
mod order;
mod storage;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use http::Uri;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use super::Certificate;
pub(crate) use keeper::Keeper;
use storage::Storage;

/// What a validator of `tls-alpn-01` offers, and nothing beside it (RFC 8737 §3).
pub(super) const PROTOCOL: &[u8] = b"acme-tls/1";

/// Where a validator of `http-01` asks (RFC 8555 §8.3).
const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// `acme` of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Lower case, none twice, at least one.
    pub(crate) domains: Vec<String>,
    pub(crate) directory: Uri,
    pub(crate) contact: Vec<String>,
    pub(crate) storage: PathBuf,
    /// Who vouches for the directory, if not those that the system trusts.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) challenge: Challenge,
}

/// How it is shown that the names are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Challenge {
    TlsAlpn01,
    Http01,
}

/// A certificate that is had by ACME. There is one of the same settings in a process, whatever is reloaded.
pub(crate) struct Managed {
    settings: Settings,
    storage: Storage,
    state: RwLock<State>,
    obtained: AtomicU64,
    failed: AtomicU64,
}

#[derive(Default)]
struct State {
    certificate: Option<Certificate>,
    /// Until there is one: that of the names before a reload changed them.
    former: Option<Certificate>,
    /// Of the last attempt, until one goes well.
    failure: Option<String>,
    /// By name: what its validator is shown.
    handshakes: HashMap<String, Arc<CertifiedKey>>,
    /// By token: what its validator is told.
    answers: HashMap<String, String>,
}

/// What is shown of it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The first of its names.
    pub(crate) domain: String,
    /// In seconds since 1970, when there is a certificate.
    pub(crate) expiry: Option<i64>,
    pub(crate) failure: Option<String>,
    pub(crate) obtained: u64,
    pub(crate) failed: u64,
}

static KNOWN: Mutex<Vec<Weak<Managed>>> = Mutex::new(Vec::new());

fn known() -> Vec<Arc<Managed>> {
    // It is only ever replaced whole.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|managed| managed.strong_count() > 0);
    known.iter().filter_map(Weak::upgrade).collect()
}

/// What a validator is told at this path, if one is expected there.
pub(crate) fn answer(path: &str) -> Option<String> {
    let token = path.strip_prefix(WELL_KNOWN)?;
    known()
        .iter()
        .find_map(|managed| managed.state().answers.get(token).cloned())
}

impl fmt::Debug for Managed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What else is in it includes keys.
        f.debug_struct("Managed")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Managed {
    /// The one of these settings, with what is stored.
    ///
    /// # Errors
    ///
    /// In words, when something is stored that cannot be used. It will be had anew.
    pub(crate) fn of(settings: Settings) -> (Arc<Self>, Result<(), String>) {
        if let Some(same) = known().into_iter().find(|known| known.settings == settings) {
            return (same, Ok(()));
        }
        let storage = Storage::new(&settings);
        let (certificate, read) = match storage.certificate() {
            Ok(certificate) => (certificate, Ok(())),
            Err(why) => (None, Err(why)),
        };
        let former = match certificate {
            Some(_) => None,
            None => former(&settings),
        };
        let managed = Arc::new(Self {
            settings,
            storage,
            state: RwLock::new(State {
                certificate,
                former,
                ..State::default()
            }),
            obtained: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.push(Arc::downgrade(&managed));
        (managed, read)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        // Each part is put in whole.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is for that name.
    pub(super) fn is_for(&self, name: &str) -> bool {
        let domains = &self.settings.domains;
        domains.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// What is shown now to clients that ask for that name.
    pub(super) fn key(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let state = self.state();
        let former = || {
            let former = state.former.as_ref();
            former.filter(|former| name.is_none_or(|name| former.is_for(name)))
        };
        let now = state.certificate.as_ref().or_else(former)?;
        Some(now.key().clone())
    }

    /// What the validator of this name is shown.
    pub(super) fn handshake(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.state().handshakes.get(&name).cloned()
    }

    pub(crate) fn standing(&self) -> Standing {
        let state = self.state();
        Standing {
            domain: self.settings.domains[0].clone(),
            expiry: state.certificate.as_ref().map(Certificate::until),
            failure: state.failure.clone(),
            obtained: self.obtained.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    fn now_has(&self, certificate: Certificate) {
        let mut state = self.change();
        state.certificate = Some(certificate);
        state.former = None;
        state.failure = None;
    }

    fn now_fails(&self, why: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.change().failure = Some(why);
    }
}

/// What an authority gave for some of these names before a reload changed them.
fn former(settings: &Settings) -> Option<Certificate> {
    known().iter().rev().find_map(|other| {
        if other.settings.directory != settings.directory {
            return None;
        }
        let state = other.state();
        let shown = state.certificate.as_ref().or(state.former.as_ref())?;
        let is_for = |name: &String| shown.is_for(name);
        let is_ours = settings.domains.iter().any(is_for);
        is_ours.then(|| shown.clone())
    })
}

/// Whether a client is the validator of `tls-alpn-01`.
pub(super) fn is_validator(hello: &ClientHello<'_>) -> bool {
    let Some(mut offered) = hello.alpn() else {
        return false;
    };
    offered.next() == Some(PROTOCOL) && offered.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_certificate_while_one_for_more_names_is_had() {
        let directory = tempfile::tempdir().expect("the temporary directory can be written");
        let of = |domains: &[&str]| {
            let (managed, read) = Managed::of(Settings {
                domains: domains.iter().map(|domain| (*domain).into()).collect(),
                directory: Uri::from_static("https://names.example/dir"),
                contact: Vec::new(),
                storage: directory.path().join("acme"),
                ca: None,
                challenge: Challenge::Http01,
            });
            read.expect("nothing is stored");
            managed
        };
        let one = of(&["a.example"]);
        assert!(one.key(Some("a.example")).is_none());
        let certificate = super::super::self_signed(&["a.example".into()]);
        one.now_has(certificate.expect("it can be made"));
        let both = of(&["a.example", "b.example"]);
        drop(one);
        assert!(both.key(Some("A.example")).is_some());
        assert!(both.key(None).is_some());
        assert!(both.key(Some("b.example")).is_none());
        assert!(both.standing().expiry.is_none(), "there is none of its own");
        assert!(of(&["b.example"]).key(Some("b.example")).is_none());
    }
}
