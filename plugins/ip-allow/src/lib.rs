//! `ip-allow`: who may come in, by the client's address.

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, Networks, Plugin, Reply, Request, RequestHook,
    RequestVerdict, schema_of,
};

/// The table `[plugin.NAME] config`; at least one of the two lists.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Who is let in: addresses and networks (`10.0.0.0/8`). Everybody who is not denied unless set.
    allow: Option<Vec<String>>,
    /// Who is not, even if `allow` names them.
    #[serde(default)]
    deny: Vec<String>,
    /// Status of the refusal, 400 to 499; 403 unless set.
    status: Option<u16>,
}

/// The plugin.
pub struct IpAllow {
    /// `None`: everybody.
    allow: Option<Networks>,
    deny: Networks,
    status: u16,
}

impl Plugin for IpAllow {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        if config.allow.is_none() && config.deny.is_empty() {
            errors.push(
                "",
                "lets everybody in; add `allow = [\"10.0.0.0/8\"]`, `deny`, or both",
            );
        }
        if config.allow.as_ref().is_some_and(Vec::is_empty) {
            errors.push(
                "allow",
                "is empty, so that nobody would be let in; list a network, or leave the key out to allow any",
            );
        }
        let status = config.status.unwrap_or(403);
        if !(400..=499).contains(&status) {
            errors.push("status", "must be 400 to 499: the client is not let in");
        }
        let allow = config
            .allow
            .map(|list| Networks::new(&list, "allow", &mut errors));
        let deny = Networks::new(&config.deny, "deny", &mut errors);
        errors.into_result(Self {
            allow,
            deny,
            status,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl RequestHook for IpAllow {
    fn on_request(&self, exchange: &Exchange, _: &mut Request) -> Result<RequestVerdict, Failure> {
        let client = exchange.client_address();
        let is_listed = self.allow.as_ref().is_none_or(|list| list.contain(&client));
        if is_listed && !self.deny.contain(&client) {
            return Ok(RequestVerdict::Next);
        }
        // The address itself is in the access log anyway.
        exchange.set_attribute("refused", "address")?;
        let reply = Reply::new(self.status).json(r#"{"error":"address not allowed"}"#);
        Ok(RequestVerdict::Answer(reply))
    }
}

witgate_plugin::export!(IpAllow: request);
