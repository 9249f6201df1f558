//! `request-id`: the same id in the access log, at the upstream and in the client's hands.

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Request, RequestHook, RequestVerdict,
    Response, ResponseHook, ResponseVerdict, check_header_name, schema_of,
};

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The header that holds the id; `x-request-id` unless set.
    header: Option<String>,
    /// Keep an id that the client sent in that header, if it is 1 to 128 visible ASCII characters; `false` unless set. Not
    /// for `x-request-id`, of which the proxy itself decides.
    #[serde(default)]
    from_client: bool,
    /// Send it to the client with the response; `true` unless set.
    response: Option<bool>,
}

/// The plugin.
pub struct RequestId {
    header: String,
    from_client: bool,
    response: bool,
}

/// What the proxy itself sends to upstreams.
const OF_THE_PROXY: &str = "x-request-id";

/// The note under which a client's own id is kept, for the response and the access log.
const NOTE: &str = "id";

impl Plugin for RequestId {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let header = config.header.unwrap_or_else(|| OF_THE_PROXY.to_owned());
        let header = header.to_ascii_lowercase();
        if let Err(mistake) = check_header_name(&header) {
            errors.push("header", mistake);
        }
        if config.from_client && header == OF_THE_PROXY {
            errors.push(
                "from-client",
                "is not for `x-request-id`, which the proxy takes over from trusted proxies only; name another `header`",
            );
        }
        errors.into_result(Self {
            header,
            from_client: config.from_client,
            response: config.response.unwrap_or(true),
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

/// As the proxy judges its own.
fn is_id(value: &[u8]) -> bool {
    (1..=128).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

impl RequestHook for RequestId {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        if self.header == OF_THE_PROXY {
            return Ok(RequestVerdict::Next);
        }
        let sent = request.header_values(&self.header);
        match sent.as_slice() {
            [value] if self.from_client && is_id(value) => {
                exchange.set_attribute(NOTE, &String::from_utf8_lossy(value))?;
            }
            _ => request.set_header(&self.header, exchange.id())?,
        }
        Ok(RequestVerdict::Next)
    }
}

impl ResponseHook for RequestId {
    fn on_response(
        &self,
        exchange: &Exchange,
        _: &Request,
        response: &mut Response,
    ) -> Result<ResponseVerdict, Failure> {
        if self.response {
            let id = exchange.attribute(NOTE).unwrap_or_else(|| exchange.id());
            response.set_header(&self.header, id)?;
        }
        Ok(ResponseVerdict::Next)
    }
}

witgate_plugin::export!(RequestId: request, response);
