//! `bearer-auth`: admits requests that carry one of several named bearer tokens (RFC 6750 §2.1).
//!
//! Fails closed: without a token in the configuration nobody is let in.

mod credentials;
mod failures;
mod parameter;
mod tokens;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr};

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Reply, Request, RequestHook,
    RequestVerdict, clock, debug, schema_of, warn,
};

use crate::credentials::Credentials;
use crate::failures::{Failed, Failures, FailuresConfig};
use crate::parameter::{Parameter, Taken};
use crate::tokens::{TokenConfig, Tokens};

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
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
    /// Name of a query parameter that may hold the token instead of the header.
    query_parameter: Option<String>,
    /// How often a client may fail.
    #[serde(default)]
    failures: FailuresConfig,
}

/// The plugin.
pub struct BearerAuth {
    tokens: Tokens,
    keep_header: bool,
    challenge: Challenge,
    parameter: Option<Parameter>,
    failures: RefCell<Failures>,
}

impl Plugin for BearerAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let tokens = Tokens::new(config.tokens)?;
        let challenge = Challenge::new(config.realm.as_deref())?;
        let parameter = config.query_parameter.map(|name| {
            Parameter::new(&name).ok_or_else(|| {
                let message = "must be 1 to 64 letters, digits, `-`, `_`, `.` or `~`";
                ConfigErrors::at("query-parameter", message)
            })
        });
        let parameter = parameter.transpose()?;
        let failures = Failures::new(&config.failures)?;
        if tokens.is_empty() {
            warn!("no token is configured, so every request is answered with 503");
        }
        Ok(Self {
            tokens,
            keep_header: config.keep_header,
            challenge,
            parameter,
            failures: failures.into(),
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
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
        let taken = self
            .parameter
            .as_ref()
            .map(|parameter| parameter.take(&request.path_with_query()));
        let credentials = match (Credentials::of(&values), &taken) {
            (Credentials::None, Some(taken)) => Credentials::of_parameter(&taken.values),
            (header, _) => header,
        };
        let name = match credentials {
            Credentials::Token(token) => self.tokens.name_of(token),
            Credentials::Malformed | Credentials::None => None,
        };
        let Some(name) = name else {
            let reply = self.turn_away(&exchange.client_address(), &credentials);
            return Ok(RequestVerdict::Answer(reply));
        };
        exchange.set_attribute("token", name)?;
        if !self.keep_header {
            request.remove_header("authorization")?;
        }
        if let Some(taken) = taken {
            self.remove_parameter(taken, request)?;
        }
        Ok(RequestVerdict::Next)
    }
}

impl BearerAuth {
    fn turn_away(&self, client: &str, credentials: &Credentials<'_>) -> Reply {
        // The host always names an address; whoever had none would share one bucket with its like.
        let address = client.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let failed = self
            .failures
            .borrow_mut()
            .count(address, clock::milliseconds());
        let Failed::Excess { retry_after, tell } = failed else {
            debug!("turned {client} away");
            return self.challenge.reply(credentials);
        };
        if let Some(count) = tell {
            warn!(
                "{client} fails to authenticate more often than `failures` allows and gets 429; \
                 such failures since the last line about it: {count}"
            );
        }
        Reply::new(429)
            .header("retry-after", retry_after.to_string())
            .json(r#"{"error":"too many failures"}"#)
    }

    /// The upstream gets to see the token neither in the target nor in the address of the page that made the request.
    fn remove_parameter(&self, taken: Taken, request: &mut Request) -> Result<(), Failure> {
        if !taken.values.is_empty() {
            request.set_path_with_query(&taken.rest)?;
        }
        let Some(parameter) = &self.parameter else {
            return Ok(());
        };
        let holds_token = |referer: &Vec<u8>| {
            let referer = String::from_utf8_lossy(referer);
            !parameter.take(&referer).values.is_empty()
        };
        if request.header_values("referer").iter().any(holds_token) {
            request.remove_header("referer")?;
        }
        Ok(())
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
