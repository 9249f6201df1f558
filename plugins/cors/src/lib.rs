//! `cors`: lets pages of other origins use an upstream, by the CORS protocol of the Fetch standard.
//!
//! The browser keeps the rules; this says what they are. It refuses nothing but preflights: a request that needs none
//! reaches the upstream whoever sent it, and its page only is not shown the response.

mod origins;

use serde::Deserialize;
use witgate_plugin::{
    ConfigDuration, ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Reply, Request,
    RequestHook, RequestVerdict, Response, ResponseHook, ResponseVerdict, check_header_name,
    schema_of,
};

use crate::origins::Origins;

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Origins whose pages may: `https://app.example.com`, `https://*.example.com`, or `*` alone for all.
    origins: Vec<String>,
    /// Methods besides GET, HEAD and POST; `["PUT", "PATCH", "DELETE"]` unless set.
    methods: Option<Vec<String>>,
    /// Request headers besides the simple ones; `*` for all but `Authorization`.
    #[serde(default)]
    headers: Vec<String>,
    /// Response headers that a page may read besides the simple ones.
    #[serde(default)]
    expose_headers: Vec<String>,
    /// Let pages send cookies and other credentials; not with the origin `*`.
    #[serde(default)]
    credentials: bool,
    /// For how long a browser may keep the answer to a preflight; `2h` unless set, of which browsers take less if they like.
    max_age: Option<ConfigDuration>,
    /// Let pages of the public internet ask for what is in a private network.
    #[serde(default)]
    private_network: bool,
}

/// The plugin.
pub struct Cors {
    origins: Origins,
    /// With the simple ones.
    methods: Vec<String>,
    /// In lower case.
    headers: Vec<String>,
    any_header: bool,
    expose_headers: String,
    credentials: bool,
    max_age: u64,
    private_network: bool,
}

const SIMPLE_METHODS: [&str; 3] = ["GET", "HEAD", "POST"];

/// What an upstream may have said itself, and what counts is said here.
const OF_RESPONSES: [&str; 3] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
];

impl Plugin for Cors {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let origins = Origins::new(&config.origins, &mut errors);
        if config.credentials && origins.is_any() {
            errors.push(
                "credentials",
                "cannot go with the origin `*`: any page could use what its visitor is logged in to; list the origins",
            );
        }
        let more = config
            .methods
            .unwrap_or_else(|| ["PUT", "PATCH", "DELETE"].map(str::to_owned).to_vec());
        for (at, method) in more.iter().enumerate() {
            let upper = method.to_ascii_uppercase();
            if check_header_name(method).is_err()
                || ["CONNECT", "TRACE", "TRACK"].contains(&upper.as_str())
            {
                errors.push(format!("methods.{at}"), "is no method that a page can use");
            }
        }
        let any_header = config.headers.iter().any(|name| name == "*");
        for (key, names) in [
            ("headers", &config.headers),
            ("expose-headers", &config.expose_headers),
        ] {
            for (at, name) in names.iter().enumerate() {
                let is_wildcard = name == "*" && key == "headers";
                if let (Err(mistake), false) = (named(name), is_wildcard) {
                    errors.push(format!("{key}.{at}"), mistake);
                }
            }
        }
        let simple = SIMPLE_METHODS.map(str::to_owned).into_iter();
        errors.into_result(Self {
            origins,
            methods: simple.chain(more).collect(),
            headers: config
                .headers
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
            any_header,
            expose_headers: config.expose_headers.join(", "),
            credentials: config.credentials,
            max_age: config.max_age.map_or(7200, |age| age.0.as_secs()),
            private_network: config.private_network,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

/// `*` among what is exposed would expose nothing to requests with credentials, and hide what a list shows.
fn named(name: &str) -> Result<(), String> {
    match name {
        "*" => Err("lists names; `*` would mean nothing to requests with credentials".into()),
        name => check_header_name(name),
    }
}

/// The one value of a header, if there is one.
fn only(values: Vec<Vec<u8>>) -> Option<String> {
    match <[Vec<u8>; 1]>::try_from(values) {
        Ok([value]) => String::from_utf8(value).ok(),
        Err(_) => None,
    }
}

impl RequestHook for Cors {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        // Fetch §4.8: what makes a preflight is the method and these two headers.
        let is_preflight = request.method() == "OPTIONS"
            && request.header("origin").is_some()
            && request.header("access-control-request-method").is_some();
        if !is_preflight {
            return Ok(RequestVerdict::Next);
        }
        let reply = match self.preflight(request) {
            Ok(reply) => reply,
            Err(what) => {
                exchange.set_attribute("refused", what)?;
                Reply::new(403).json(format!(r#"{{"error":"{what} not allowed"}}"#))
            }
        };
        let depends_on = "origin, access-control-request-method, access-control-request-headers, \
                          access-control-request-private-network";
        Ok(RequestVerdict::Answer(reply.header("vary", depends_on)))
    }
}

impl Cors {
    /// The answer to a preflight, or what is not allowed of it.
    fn preflight(&self, request: &Request) -> Result<Reply, &'static str> {
        let origin = only(request.header_values("origin"));
        let origin = origin
            .filter(|origin| self.origins.allow(origin))
            .ok_or("origin")?;
        let method = only(request.header_values("access-control-request-method"));
        // Methods have a case (RFC 9110 §9.1).
        let method = method
            .filter(|method| self.methods.contains(method))
            .ok_or("method")?;
        let mut reply = Reply::new(204)
            .header("access-control-allow-origin", self.shown(&origin))
            .header("access-control-allow-methods", method)
            .header("access-control-max-age", self.max_age.to_string());
        let wanted = self.wanted_headers(request)?;
        if !wanted.is_empty() {
            reply = reply.header("access-control-allow-headers", wanted);
        }
        if self.credentials {
            reply = reply.header("access-control-allow-credentials", "true");
        }
        let asks_for_private = request.header("access-control-request-private-network");
        if asks_for_private.as_deref() == Some(b"true") {
            if !self.private_network {
                return Err("private network");
            }
            reply = reply.header("access-control-allow-private-network", "true");
        }
        Ok(reply)
    }

    /// Those that the page wants to send, all of them allowed.
    fn wanted_headers(&self, request: &Request) -> Result<String, &'static str> {
        let mut wanted = Vec::new();
        for value in request.header_values("access-control-request-headers") {
            let value = String::from_utf8(value).map_err(|_| "header")?;
            for name in value
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
            {
                let name = name.to_ascii_lowercase();
                // Fetch: `*` never stands for `Authorization`.
                let by_wildcard = self.any_header && name != "authorization";
                let is_allowed = by_wildcard || self.headers.contains(&name);
                if !is_allowed || check_token(&name).is_err() {
                    return Err("header");
                }
                wanted.push(name);
            }
        }
        Ok(wanted.join(", "))
    }

    /// What a page of this origin is told.
    fn shown(&self, origin: &str) -> String {
        match self.origins.is_any() {
            true => "*".to_owned(),
            false => origin.to_owned(),
        }
    }
}

/// A page may send some of the names that plugins may not write.
fn check_token(name: &str) -> Result<(), ()> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match name.bytes().all(is_token) {
        true => Ok(()),
        false => Err(()),
    }
}

impl ResponseHook for Cors {
    fn on_response(
        &self,
        _: &Exchange,
        request: &Request,
        response: &mut Response,
    ) -> Result<ResponseVerdict, Failure> {
        for name in OF_RESPONSES {
            response.remove_header(name)?;
        }
        if !self.origins.is_any() {
            vary_by_origin(response)?;
        }
        let origin = only(request.header_values("origin"));
        let Some(origin) = origin.filter(|origin| self.origins.allow(origin)) else {
            return Ok(ResponseVerdict::Next);
        };
        response.set_header("access-control-allow-origin", self.shown(&origin))?;
        if self.credentials {
            response.set_header("access-control-allow-credentials", "true")?;
        }
        if !self.expose_headers.is_empty() {
            response.set_header("access-control-expose-headers", &self.expose_headers)?;
        }
        Ok(ResponseVerdict::Next)
    }
}

/// A cache must not show the page of one origin what was said to that of another, whether or not this request had one.
fn vary_by_origin(response: &mut Response) -> Result<(), Failure> {
    let values = response.header_values("vary");
    let varies = values.iter().any(|value| {
        value.split(|&byte| byte == b',').any(|name| {
            let name = name.trim_ascii();
            name.eq_ignore_ascii_case(b"origin") || name == b"*"
        })
    });
    if !varies {
        response.append_header("vary", "origin")?;
    }
    Ok(())
}

witgate_plugin::export!(Cors: request, response);
