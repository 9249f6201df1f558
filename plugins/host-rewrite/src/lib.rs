//! `host-rewrite`: sets the `Host` that the upstream sees, and notes the one that the client sent.

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Request, RequestHook, RequestVerdict,
    is_authority, schema_of,
};

/// The table `[plugin.NAME] config`; exactly one of the two.
#[derive(Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Host and optional port to send.
    host: Option<String>,
    /// Send the authority of the endpoint that is chosen.
    #[serde(default)]
    upstream: bool,
}

/// The plugin: which `Host` the upstream sees.
pub enum HostRewrite {
    /// Always this one.
    Fixed(String),
    /// Its own.
    Upstream,
}

impl Plugin for HostRewrite {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        match (config.host, config.upstream) {
            (Some(host), false) if is_authority(&host) => Ok(Self::Fixed(host)),
            (Some(_), false) => Err(ConfigErrors::at(
                "host",
                "must be a host and an optional port, like `localhost:9222`",
            )),
            (None, true) => Ok(Self::Upstream),
            (Some(_), true) => Err(ConfigErrors::at(
                "upstream",
                "excludes `host`; remove one of the two",
            )),
            (None, false) => Err(ConfigErrors::at(
                "",
                "needs `host = \"NAME:PORT\"` or `upstream = true`",
            )),
        }
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl RequestHook for HostRewrite {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        let original = request.authority();
        // A client that sent no Host (HTTP/1.0) leaves no note.
        if !original.is_empty() {
            exchange.set_attribute("original-host", &original)?;
        }
        match self {
            Self::Fixed(host) => request.set_authority(host)?,
            Self::Upstream => request.use_upstream_authority(),
        }
        Ok(RequestVerdict::Next)
    }
}

witgate_plugin::export!(HostRewrite: request);
