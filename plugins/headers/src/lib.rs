//! `headers`: removes, sets and appends headers of requests on their way up and of responses on their way back.

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Request, RequestHook, RequestVerdict,
    Response, ResponseHook, ResponseVerdict, schema_of,
};

mod edits;

use edits::Edits;

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of the request, before the upstream sees it.
    #[serde(default)]
    request: edits::Config,
    /// Of the response, before the client sees it.
    #[serde(default)]
    response: edits::Config,
}

/// The plugin: what is done to each head.
pub struct Headers {
    request: Edits,
    response: Edits,
}

impl Plugin for Headers {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let headers = Self {
            request: Edits::new(config.request, "request", &mut errors),
            response: Edits::new(config.response, "response", &mut errors),
        };
        if errors.is_empty() && headers.request.is_empty() && headers.response.is_empty() {
            errors.push(
                "",
                "changes nothing; add `request` or `response` with `set`, `append` or `remove`",
            );
        }
        errors.into_result(headers)
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl RequestHook for Headers {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        edits::apply(self.request.plan(exchange, request), request)?;
        Ok(RequestVerdict::Next)
    }
}

impl ResponseHook for Headers {
    fn on_response(
        &self,
        exchange: &Exchange,
        request: &Request,
        response: &mut Response,
    ) -> Result<ResponseVerdict, Failure> {
        edits::apply(self.response.plan(exchange, request), response)?;
        Ok(ResponseVerdict::Next)
    }
}

witgate_plugin::export!(Headers: request, response);
