//! One key, and what it may be used for (RFC 7517, RFC 7518).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use serde::Deserialize;
use sha2::Sha256;
use witgate_plugin::ConfigSchema;

use crate::rsa::RsaKey;

/// How a token may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ConfigSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Algorithm {
    /// HMAC by SHA-256 with a secret.
    Hs256,
    /// RSASSA-PKCS1-v1_5 by SHA-256.
    Rs256,
    /// … by SHA-384.
    Rs384,
    /// … by SHA-512.
    Rs512,
    /// RSASSA-PSS by SHA-256.
    Ps256,
    /// ECDSA on P-256 by SHA-256.
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    pub(crate) const OF_PUBLIC_KEYS: [Self; 6] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Es256,
        Self::EdDsa,
    ];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "ES256" => Self::Es256,
            // RFC 8037 §3.1; RFC 9864 names the curve.
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    pub(crate) fn is_of_secrets(self) -> bool {
        self == Self::Hs256
    }
}

/// A key, with what it is for.
pub(crate) struct Key {
    id: Option<String>,
    /// `None`: any that fits its kind.
    algorithm: Option<Algorithm>,
    kind: Kind,
}

enum Kind {
    Secret(Vec<u8>),
    Rsa(RsaKey),
    P256(Box<VerifyingKey>),
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
}

/// A member of a JWKS. What is not known is left alone (RFC 7517 §5).
#[derive(Deserialize)]
pub(crate) struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Key {
    pub(crate) fn secret(secret: &str) -> Self {
        Self {
            id: None,
            algorithm: Some(Algorithm::Hs256),
            kind: Kind::Secret(secret.as_bytes().to_vec()),
        }
    }

    /// `None` for one that is for something else, or of a kind that is not used here. Secrets among public keys are never
    /// used.
    pub(crate) fn of(jwk: &Jwk) -> Option<Self> {
        if jwk
            .purpose
            .as_deref()
            .is_some_and(|purpose| purpose != "sig")
        {
            return None;
        }
        let algorithm = match &jwk.alg {
            Some(name) => Some(Algorithm::parse(name)?),
            None => None,
        };
        let decode = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_ref()?).ok();
        let kind = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Kind::Rsa(RsaKey::new(&decode(&jwk.n)?, &decode(&jwk.e)?)?),
            ("EC", Some("P-256")) => {
                let (x, y) = (decode(&jwk.x)?, decode(&jwk.y)?);
                let point = [&[4][..], &x, &y].concat();
                let key = VerifyingKey::from_sec1_bytes(&point).ok()?;
                Kind::P256(Box::new(key))
            }
            ("OKP", Some("Ed25519")) => {
                let point = decode(&jwk.x)?.try_into().ok()?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(&point).ok()?;
                Kind::Ed25519(Box::new(key))
            }
            _ => return None,
        };
        Some(Self {
            id: jwk.kid.clone(),
            algorithm,
            kind,
        })
    }

    /// Whether a token that names this key, or none, can be signed by it.
    pub(crate) fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        let is_of_kind = matches!(
            (&self.kind, algorithm),
            (Kind::Secret(_), Algorithm::Hs256)
                | (Kind::P256(_), Algorithm::Es256)
                | (Kind::Ed25519(_), Algorithm::EdDsa)
                | (
                    Kind::Rsa(_),
                    Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256
                )
        );
        // A secret has no name that a token could be wrong about.
        let is_named =
            matches!(self.kind, Kind::Secret(_)) || id.is_none() || self.id.as_deref() == id;
        is_of_kind && is_named && self.algorithm.is_none_or(|own| own == algorithm)
    }

    pub(crate) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            Kind::Secret(secret) => {
                let mac = Hmac::<Sha256>::new_from_slice(secret);
                mac.is_ok_and(|mac| mac.chain_update(signed).verify_slice(signature).is_ok())
            }
            Kind::P256(key) => {
                let signature = Signature::from_slice(signature);
                signature.is_ok_and(|signature| key.verify(signed, &signature).is_ok())
            }
            // Strictly: no key or signature of small order, which would fit several messages (RFC 8032 §8.4).
            Kind::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_slice(signature);
                signature.is_ok_and(|signature| key.verify_strict(signed, &signature).is_ok())
            }
            Kind::Rsa(key) => key.verify(algorithm, signed, signature),
        }
    }
}
