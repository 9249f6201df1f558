//! `connection-close`: every ordinary response ends its connection; a granted upgrade is never touched.
//!
//! For clients that take one request per connection, or that break when a pooled connection is closed on them.

use witgate_plugin::{
    ConfigErrors, Exchange, Failure, NoConfig, Plugin, Request, Response, ResponseHook,
    ResponseVerdict, schema_of,
};

/// Switching Protocols: the connection now speaks something else, and is not HTTP's to end.
const SWITCHING_PROTOCOLS: u16 = 101;

/// The plugin.
pub struct ConnectionClose;

impl Plugin for ConnectionClose {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, ConfigErrors> {
        Ok(Self)
    }

    fn config_schema() -> String {
        schema_of::<NoConfig>()
    }
}

impl ResponseHook for ConnectionClose {
    fn on_response(
        &self,
        _: &Exchange,
        _: &Request,
        response: &mut Response,
    ) -> Result<ResponseVerdict, Failure> {
        if response.status() != SWITCHING_PROTOCOLS {
            response.end_connection();
        }
        Ok(ResponseVerdict::Next)
    }
}

witgate_plugin::export!(ConnectionClose: response);
