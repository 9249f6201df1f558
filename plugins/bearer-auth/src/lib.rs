//! `bearer-auth`: admits requests that carry one of several named bearer tokens (RFC 6750 §2.1).
//!
//! Fails closed: without a token in the configuration nobody is let in.

mod credentials;
mod tokens;

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, Exchange, Failure, Plugin, Reply, Request, RequestHook, RequestVerdict, debug,
    warn,
};

use crate::credentials::Credentials;
use crate::tokens::{TokenConfig, Tokens};

/// The table `[plugin.NAME] config`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Any of these lets a request pass.
    #[serde(default)]
    tokens: Vec<TokenConfig>,
    /// Send the `Authorization` header on to the upstream.
    #[serde(default)]
    keep_header: bool,
    /// Name of the protected space, told to clients that are turned away.
    realm: Option<String>,
}

/// The plugin.
pub struct BearerAuth {
    tokens: Tokens,
    keep_header: bool,
    challenge: Challenge,
}

impl Plugin for BearerAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let tokens = Tokens::new(config.tokens)?;
        let challenge = Challenge::new(config.realm.as_deref())?;
        if tokens.is_empty() {
            warn!("no token is configured, so every request is answered with 503");
        }
        Ok(Self {
            tokens,
            keep_header: config.keep_header,
            challenge,
        })
    }
}

impl RequestHook for BearerAuth {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        if self.tokens.is_empty() {
            let reply = Reply::new(503).json(r#"{"error":"token not configured"}"#);
            return Ok(RequestVerdict::Answer(reply));
        }
        let values = request.header_values("authorization");
        let credentials = Credentials::of(&values);
        let name = match credentials {
            Credentials::Token(token) => self.tokens.name_of(token),
            Credentials::Malformed | Credentials::None => None,
        };
        let Some(name) = name else {
            debug!("turned {} away", exchange.client_address());
            return Ok(RequestVerdict::Answer(self.challenge.reply(&credentials)));
        };
        exchange.set_attribute("token", name)?;
        if !self.keep_header {
            request.remove_header("authorization")?;
        }
        Ok(RequestVerdict::Next)
    }
}

/// What a client is told that is turned away (RFC 6750 §3).
struct Challenge {
    realm: Option<String>,
}

impl Challenge {
    fn new(realm: Option<&str>) -> Result<Self, ConfigErrors> {
        let Some(realm) = realm else {
            return Ok(Self { realm: None });
        };
        if realm.is_empty()
            || !realm
                .bytes()
                .all(|byte| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte))
        {
            let message = "must be printable ASCII without `\"` and `\\`";
            return Err(ConfigErrors::at("realm", message));
        }
        Ok(Self {
            realm: Some(format!("realm=\"{realm}\"")),
        })
    }

    /// A client that sent no token is not told that one was wrong (RFC 6750 §3.1).
    fn reply(&self, credentials: &Credentials<'_>) -> Reply {
        let error = (*credentials != Credentials::None).then_some("error=\"invalid_token\"");
        let parameters: Vec<&str> = self.realm.as_deref().into_iter().chain(error).collect();
        let challenge = format!("Bearer {}", parameters.join(", "));
        Reply::new(401)
            .header("www-authenticate", challenge.trim_end())
            .json(r#"{"error":"invalid bearer"}"#)
    }
}

witgate_plugin::export!(BearerAuth: request);
