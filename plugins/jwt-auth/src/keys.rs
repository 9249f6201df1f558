//! The keys of the issuer: from the configuration, or from where it publishes them.

use std::cell::RefCell;
use std::collections::VecDeque;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use witgate_plugin::{ConfigErrors, clock, http_client, is_authority};

use crate::key::{Algorithm, Jwk, Key};
use crate::token::Token;

/// The keys, and the tokens that were found to be signed by one of them.
pub(crate) struct Keys {
    source: Source,
    /// SHA-256 of whole tokens, the last ones: a client sends the same one again and again, and a digest is a hundredth of a
    /// signature. Only that they are signed is remembered; what they say is checked each time.
    signed: RefCell<VecDeque<[u8; 32]>>,
}

/// Where the keys are from.
enum Source {
    Fixed(Vec<Key>),
    Published {
        url: String,
        /// Milliseconds.
        refresh: u64,
        known: RefCell<Known>,
    },
}

/// What is known of published keys, in this instance.
#[derive(Default)]
pub(crate) struct Known {
    keys: Vec<Key>,
    /// When they were fetched, and when that was last tried.
    fetched: Option<u64>,
    tried: Option<u64>,
    failure: String,
}

/// Why no key could be tried.
pub(crate) enum NotFound {
    NoSuchKey,
    /// For the log.
    Unavailable(String),
}

/// A JWKS.
#[derive(Deserialize)]
struct Published {
    keys: Vec<serde_json::Value>,
}

/// An unknown key may be a new one. But anybody can name one that there is not, and must not make this ask for it each time.
const PAUSE: u64 = 10_000;

/// Tokens of which it is remembered, in each instance: 8 KiB.
const MOST_SIGNED: usize = 256;

/// A token without `kid` may be signed by any of them, and each that is tried costs.
const MOST_TRIED: usize = 4;

impl Keys {
    pub(crate) fn new(
        url: Option<String>,
        jwks: Option<String>,
        secret: Option<String>,
        refresh: u64,
        errors: &mut ConfigErrors,
    ) -> Self {
        let source = match (url, jwks, secret) {
            (Some(url), None, None) => {
                let rest = url
                    .strip_prefix("https://")
                    .or_else(|| url.strip_prefix("http://"));
                let authority = rest.and_then(|rest| rest.split(['/', '?']).next());
                if !authority.is_some_and(is_authority) {
                    errors.push(
                        "jwks-url",
                        "must be a URL, like `https://issuer.example/.well-known/jwks.json`",
                    );
                }
                Source::Published {
                    url,
                    refresh,
                    known: RefCell::default(),
                }
            }
            (None, Some(jwks), None) => {
                let keys = read(jwks.as_bytes()).unwrap_or_default();
                if keys.is_empty() {
                    errors.push("jwks", "must be a JSON Web Key Set with a public key of RSA (2048 to 4096 bits), P-256 or Ed25519");
                }
                Source::Fixed(keys)
            }
            (None, None, Some(secret)) => {
                let secret = secret.trim_end_matches(['\n', '\r']);
                if secret.len() < 32 {
                    errors.push("secret", "must have at least 32 bytes (RFC 7518 §3.2): `openssl rand -hex 32` makes one");
                }
                Source::Fixed(vec![Key::secret(secret)])
            }
            _ => {
                errors.push("", "needs one of `jwks-url`, `jwks` and `secret`");
                Source::Fixed(Vec::new())
            }
        };
        Self {
            source,
            signed: RefCell::default(),
        }
    }

    pub(crate) fn are_secret(&self) -> bool {
        match &self.source {
            Source::Fixed(keys) => keys.iter().any(|key| key.fits(None, Algorithm::Hs256)),
            Source::Published { .. } => false,
        }
    }

    /// Whether the token is signed by one of them.
    pub(crate) fn verify(&self, token: &Token, algorithm: Algorithm) -> Result<bool, NotFound> {
        if let Source::Published {
            url,
            refresh,
            known,
        } = &self.source
        {
            let mut known = known.borrow_mut();
            if known.is_due(*refresh) && known.fetch(url) {
                self.signed.borrow_mut().clear();
            }
        }
        let digest: [u8; 32] = Sha256::new()
            .chain_update(&token.signed)
            .chain_update(b".")
            .chain_update(&token.signature)
            .finalize()
            .into();
        if self.signed.borrow().contains(&digest) {
            return Ok(true);
        }
        let is_signed = self.try_keys(token, algorithm)?;
        if is_signed {
            let mut signed = self.signed.borrow_mut();
            signed.truncate(MOST_SIGNED - 1);
            signed.push_front(digest);
        }
        Ok(is_signed)
    }

    fn try_keys(&self, token: &Token, algorithm: Algorithm) -> Result<bool, NotFound> {
        let (url, known) = match &self.source {
            Source::Fixed(keys) => {
                return try_all(keys, token, algorithm).ok_or(NotFound::NoSuchKey);
            }
            Source::Published { url, known, .. } => (url, known),
        };
        let mut known = known.borrow_mut();
        if let Some(is_signed) = try_all(&known.keys, token, algorithm) {
            return Ok(is_signed);
        }
        if known.is_due(0) && known.fetch(url) {
            self.signed.borrow_mut().clear();
            if let Some(is_signed) = try_all(&known.keys, token, algorithm) {
                return Ok(is_signed);
            }
        }
        match known.fetched {
            Some(_) => Err(NotFound::NoSuchKey),
            None => Err(NotFound::Unavailable(known.failure.clone())),
        }
    }
}

impl Known {
    /// Whether keys of this age, in milliseconds, are to be fetched anew; not too soon after the last time.
    fn is_due(&self, age: u64) -> bool {
        let now = clock::milliseconds();
        let passed = |since: Option<u64>, time: u64| since.is_none_or(|since| now - since >= time);
        passed(self.fetched, age) && passed(self.tried, PAUSE)
    }

    /// Whether there are new ones. Keys that are known stay when there are none to be had: an issuer that is away for an hour
    /// locks nobody out.
    fn fetch(&mut self, url: &str) -> bool {
        let now = clock::milliseconds();
        self.tried = Some(now);
        let response = http_client::Request::get(url)
            .header("accept", "application/jwk-set+json, application/json")
            .send();
        let read = match response {
            Err(error) => Err(error.to_string()),
            Ok(response) if response.status() != 200 => {
                Err(format!("{url} answers {}", response.status()))
            }
            Ok(response) => read(response.body()),
        };
        match read {
            Ok(keys) => {
                self.keys = keys;
                self.fetched = Some(now);
            }
            Err(why) => {
                witgate_plugin::warn!("the keys at {url} cannot be fetched: {why}");
                self.failure = why;
            }
        }
        self.fetched == Some(now)
    }
}

/// `None` when none of them fits.
fn try_all(keys: &[Key], token: &Token, algorithm: Algorithm) -> Option<bool> {
    let id = token.key_id.as_deref();
    let mut fitting = keys
        .iter()
        .filter(|key| key.fits(id, algorithm))
        .take(MOST_TRIED)
        .peekable();
    fitting.peek()?;
    Some(fitting.any(|key| key.verify(algorithm, &token.signed, &token.signature)))
}

/// The keys of a JWKS that can be used here.
fn read(json: &[u8]) -> Result<Vec<Key>, String> {
    let set: Published =
        serde_json::from_slice(json).map_err(|_| "it is no JSON Web Key Set".to_owned())?;
    let jwks = set.keys.into_iter();
    let jwks = jwks.filter_map(|jwk| serde_json::from_value::<Jwk>(jwk).ok());
    Ok(jwks.filter_map(|jwk| Key::of(&jwk)).collect())
}
