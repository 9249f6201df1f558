//! `allow-list`: refuses requests for host names, and from web pages, that the operator did not list.
//!
//! Against DNS rebinding: a web page makes its own name resolve to this proxy and reads what is here as if it were its
//! own. The browser still says that name in `Host`, and the page's origin in `Origin`.

mod host;
mod origin;

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Reply, Request, RequestHook,
    RequestVerdict, debug, schema_of,
};

use crate::host::Hosts;
use crate::origin::Origins;

/// The table `[plugin.NAME] config`; at least one of the two lists.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The hosts that clients may ask for.
    hosts: Option<Vec<String>>,
    /// The origins whose pages may make requests.
    origins: Option<Vec<String>>,
    /// Send the `Origin` header on to the upstream.
    #[serde(default)]
    keep_origin: bool,
}

/// The plugin.
pub struct AllowList {
    /// `None`: any.
    hosts: Option<Hosts>,
    origins: Origins,
    keep_origin: bool,
}

impl Plugin for AllowList {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        if config.hosts.is_none() && config.origins.is_none() {
            let message = "needs `hosts = [\"NAME\"]`, `origins = [\"https://NAME\"]`, or both";
            errors.push("", message);
        }
        let hosts = config.hosts.map(|hosts| Hosts::new(&hosts, &mut errors));
        let origins = Origins::new(&config.origins.unwrap_or_default(), &mut errors);
        errors.into_result(Self {
            hosts,
            origins,
            keep_origin: config.keep_origin,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl RequestHook for AllowList {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        if let Some(hosts) = &self.hosts {
            let authority = exchange.client_authority();
            if !hosts.allow(&authority, &exchange.client_scheme()) {
                // The host is in the access log anyway.
                return refuse(exchange, "host", 421, "host not allowed");
            }
        }
        let sent = request.header_values("origin");
        if sent.is_empty() {
            return Ok(RequestVerdict::Next);
        }
        if !matches!(sent.as_slice(), [origin] if self.origins.allow(origin)) {
            let origins: Vec<_> = sent
                .iter()
                .map(|origin| String::from_utf8_lossy(origin))
                .collect();
            let origins: String = origins.join(", ").chars().take(200).collect();
            return refuse(
                exchange,
                &format!("origin {origins}"),
                403,
                "origin not allowed",
            );
        }
        if !self.keep_origin {
            request.remove_header("origin")?;
        }
        Ok(RequestVerdict::Next)
    }
}

/// The reason goes into the access log, where an operator who forgot a name finds it; the client learns nothing of what
/// is on the list.
fn refuse(
    exchange: &Exchange,
    what: &str,
    status: u16,
    error: &str,
) -> Result<RequestVerdict, Failure> {
    debug!("refused {}: {what}", exchange.client_address());
    exchange.set_attribute("refused", what)?;
    let body = format!(r#"{{"error":"{error}"}}"#);
    Ok(RequestVerdict::Answer(Reply::new(status).json(body)))
}

witgate_plugin::export!(AllowList: request);
