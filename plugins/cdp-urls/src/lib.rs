//! `cdp-urls`: makes the URLs in Chromium's DevTools JSON lead back through the proxy.
//!
//! Chromium fills `webSocketDebuggerUrl` and `devtoolsFrontendUrl` from the `Host` it was sent, always with `ws://` and
//! without any path prefix. The client has to get the scheme, the authority and the prefix that it used itself, or it
//! connects to an address that is not there. Only these values are replaced; every other byte stays as it was.

mod base;
mod document;
mod url;

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Request, Response, ResponseHook,
    ResponseVerdict, buffer, schema_of, warn,
};

use crate::base::Base;

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What all clients are told instead of what each used: `wss://cdp.example.com/prefix`.
    public_url: Option<String>,
    /// Parameters of the client's own request that the URLs are to have as well.
    #[serde(default)]
    carry_query: Vec<String>,
}

/// The plugin.
pub struct CdpUrls {
    public: Option<Base>,
    carried: Vec<String>,
}

/// Longest document that is taken in, in bytes. A tab whose address is a large `data:` URL makes one of megabytes; far
/// more would be no list of tabs.
const MAX_DOCUMENT: usize = 16 << 20;

impl Plugin for CdpUrls {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        for (i, name) in config.carry_query.iter().enumerate() {
            if !is_parameter(name) {
                let message =
                    "must be a parameter's name: 1 to 64 letters, digits, `-`, `_`, `.` or `~`";
                errors.push(format!("carry-query.{i}"), message);
            }
        }
        let carried = errors.into_result(config.carry_query)?;
        let public = match config.public_url {
            None => None,
            Some(url) => Some(Base::public(&url).ok_or_else(|| {
                ConfigErrors::at(
                    "public-url",
                    "must be like `wss://cdp.example.com` or `ws://host:9222/prefix`",
                )
            })?),
        };
        Ok(Self { public, carried })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl ResponseHook for CdpUrls {
    fn on_response(
        &self,
        exchange: &Exchange,
        request: &Request,
        response: &mut Response,
    ) -> Result<ResponseVerdict, Failure> {
        if !is_target_list(request) || response.status() != 200 || !is_json(response) {
            return Ok(ResponseVerdict::Next);
        }
        let base = self.public.clone();
        let Some(mut base) = base.or_else(|| Base::of_client(exchange, request)) else {
            return Ok(ResponseVerdict::Next);
        };
        if !self.carried.is_empty() {
            base.query = base::carried(&self.carried, &exchange.client_path_with_query());
        }
        Ok(ResponseVerdict::hold(buffer(MAX_DOCUMENT, move |body| {
            Ok(rewrite(body, &base))
        })))
    }
}

/// A name that stands for itself in a query (RFC 3986 §2.3).
fn is_parameter(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(legal)
}

/// Whether the request is for one of the documents with URLs in them. Of a trailing slash Chromium takes no notice.
fn is_target_list(request: &Request) -> bool {
    let path = request.path();
    let path = path.strip_suffix('/').unwrap_or(&path);
    matches!(path, "/json" | "/json/list" | "/json/version" | "/json/new")
        && matches!(request.method().as_str(), "GET" | "PUT")
}

fn is_json(response: &Response) -> bool {
    let content_type = response.header("content-type").unwrap_or_default();
    let essence = content_type
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default();
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/json")
}

fn rewrite(body: Vec<u8>, base: &Base) -> Vec<u8> {
    match document::rewrite(&body, base) {
        Ok(document) => document,
        Err(error) => {
            warn!("the document is sent on as it came: {error}");
            body
        }
    }
}

witgate_plugin::export!(CdpUrls: response);
