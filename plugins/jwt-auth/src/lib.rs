//! `jwt-auth`: admits requests with a JSON Web Token (RFC 7519) of an issuer that the operator trusts.

mod claims;
mod key;
mod keys;
mod rsa;
mod token;

use serde::Deserialize;
use std::collections::BTreeMap;
use witgate_plugin::{
    ConfigDuration, ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Reply, Request,
    RequestHook, RequestVerdict, check_header_name, clock, debug, schema_of, warn,
};

use crate::claims::{Claims, Rules};
use crate::key::Algorithm;
use crate::keys::{Keys, NotFound};
use crate::token::Token;

/// The table `[plugin.NAME] config`; one of `jwks-url`, `jwks` and `secret`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Where the issuer's public keys are (RFC 7517).
    jwks_url: Option<String>,
    /// The issuer's public keys themselves, as JSON.
    jwks: Option<String>,
    /// The secret of HS256, at least 32 bytes; line breaks at its end are left off.
    secret: Option<String>,
    /// Which of `RS256`, `RS384`, `RS512`, `PS256`, `ES256`, `EdDSA` may be used; all of them unless set, and `HS256` alone with `secret`.
    algorithms: Option<Vec<Algorithm>>,
    /// Who must have issued it (`iss`).
    issuer: Option<String>,
    /// Whom it must be for (`aud`): any of these. Left out, a token that is for somebody is refused.
    #[serde(default)]
    audience: Vec<String>,
    /// By how much clocks may differ; `30s` unless set, at most `5m`.
    leeway: Option<ConfigDuration>,
    /// Take tokens that never expire; `false` unless set.
    #[serde(default)]
    without_expiry: bool,
    /// For how long the keys at `jwks-url` are kept; `10m` unless set.
    refresh: Option<ConfigDuration>,
    /// The claim for the attribute `user`; `sub` unless set.
    user_claim: Option<String>,
    /// Headers for the upstream, each with a claim; a client's own under these names never reach it.
    #[serde(default)]
    claims_to_headers: BTreeMap<String, String>,
    /// Send `Authorization` on to the upstream.
    #[serde(default)]
    keep_header: bool,
}

/// The plugin.
pub struct JwtAuth {
    keys: Keys,
    algorithms: Vec<Algorithm>,
    rules: Rules,
    user_claim: String,
    claims_to_headers: BTreeMap<String, String>,
    keep_header: bool,
}

/// Why a request is not let in. The words go to the attribute `refused`.
enum Refused {
    /// There is none: no error, by RFC 6750 §3.1.
    NoToken,
    Invalid(&'static str),
    /// The issuer's keys cannot be had now.
    NoKeys,
}

impl Plugin for JwtAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let refresh = config
            .refresh
            .map_or(600_000, |refresh| refresh.0.as_millis() as u64);
        if !(30_000..=86_400_000).contains(&refresh) {
            errors.push("refresh", "must be \"30s\" to \"1d\"");
        }
        let keys = Keys::new(
            config.jwks_url,
            config.jwks,
            config.secret,
            refresh,
            &mut errors,
        );
        let is_secret = keys.are_secret();
        let algorithms = config.algorithms.unwrap_or_else(|| match is_secret {
            true => vec![Algorithm::Hs256],
            false => Algorithm::OF_PUBLIC_KEYS.to_vec(),
        });
        // A public key taken for a secret is the oldest way to forge a token.
        if algorithms
            .iter()
            .any(|algorithm| algorithm.is_of_secrets() != is_secret)
        {
            errors.push(
                "algorithms",
                "must be `HS256` with `secret`, and any but that without",
            );
        }
        if algorithms.is_empty() {
            errors.push("algorithms", "is empty, so that no token would be let in");
        }
        let leeway = config.leeway.map_or(30, |leeway| leeway.0.as_secs());
        if leeway > 300 {
            errors.push("leeway", "must be at most \"5m\"");
        }
        for name in config.claims_to_headers.keys() {
            if let Err(mistake) = check_header_name(name) {
                errors.push(format!("claims-to-headers.{name}"), mistake);
            }
        }
        errors.into_result(Self {
            keys,
            algorithms,
            rules: Rules {
                issuer: config.issuer,
                audience: config.audience,
                leeway: leeway as f64,
                without_expiry: config.without_expiry,
            },
            user_claim: config.user_claim.unwrap_or_else(|| "sub".to_owned()),
            claims_to_headers: config.claims_to_headers,
            keep_header: config.keep_header,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl RequestHook for JwtAuth {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        match self.checked(&request.header_values("authorization")) {
            Ok(claims) => {
                self.let_in(exchange, request, &claims)?;
                Ok(RequestVerdict::Next)
            }
            Err(refused) => {
                if let Refused::Invalid(why) = refused {
                    debug!("a token is refused: {why}");
                    exchange.set_attribute("refused", why)?;
                }
                Ok(RequestVerdict::Answer(refused.reply()))
            }
        }
    }
}

impl JwtAuth {
    fn checked(&self, values: &[Vec<u8>]) -> Result<Claims, Refused> {
        let token = Token::of(values)?;
        let algorithm = Algorithm::parse(&token.algorithm)
            .filter(|algorithm| self.algorithms.contains(algorithm))
            .ok_or(Refused::Invalid("algorithm"))?;
        let is_signed = self
            .keys
            .verify(&token, algorithm)
            .map_err(|why| match why {
                NotFound::NoSuchKey => Refused::Invalid("unknown key"),
                NotFound::Unavailable(why) => {
                    warn!("the issuer's keys cannot be had: {why}");
                    Refused::NoKeys
                }
            })?;
        if !is_signed {
            return Err(Refused::Invalid("signature"));
        }
        let claims = Claims::parse(&token.payload).ok_or(Refused::Invalid("claims"))?;
        let now = clock::unix_milliseconds() as f64 / 1000.0;
        self.rules.check(&claims, now).map_err(Refused::Invalid)?;
        Ok(claims)
    }

    fn let_in(
        &self,
        exchange: &Exchange,
        request: &mut Request,
        claims: &Claims,
    ) -> Result<(), Failure> {
        for (name, claim) in &self.claims_to_headers {
            request.remove_header(name)?;
            if let Some(value) = claims.text(claim) {
                request.set_header(name, value)?;
            }
        }
        if let Some(user) = claims.text(&self.user_claim) {
            let user: String = user.chars().take(200).collect();
            exchange.set_attribute("user", &user)?;
        }
        if !self.keep_header {
            request.remove_header("authorization")?;
        }
        Ok(())
    }
}

impl Refused {
    fn reply(&self) -> Reply {
        let challenge = match self {
            Self::NoToken => "Bearer",
            Self::Invalid(_) => "Bearer error=\"invalid_token\"",
            Self::NoKeys => {
                let reply = Reply::new(503).header("retry-after", "5");
                return reply.json(r#"{"error":"try again"}"#);
            }
        };
        Reply::new(401)
            .header("www-authenticate", challenge)
            .json(r#"{"error":"invalid token"}"#)
    }
}

witgate_plugin::export!(JwtAuth: request);
