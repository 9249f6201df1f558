//! `forward-auth`: another service says whether a request may pass.

use serde::Deserialize;
use witgate_plugin::{
    ConfigDuration, ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Reply, Request,
    RequestHook, RequestVerdict, check_header_name, http_client, is_authority, schema_of, warn,
};

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What is asked, by GET: `http://127.0.0.1:9000/verify`.
    url: String,
    /// Headers of the request that are sent along; `["authorization", "cookie"]` unless set.
    request_headers: Option<Vec<String>>,
    /// Headers of a 2xx answer that the upstream gets; a client's own under these names never reach it.
    #[serde(default)]
    upstream_headers: Vec<String>,
    /// Header of a 2xx answer that says who it is, for the attribute `user`.
    user_header: Option<String>,
    /// How long to wait, within `grant.http-client.timeout`.
    timeout: Option<ConfigDuration>,
}

/// The plugin.
pub struct ForwardAuth {
    url: String,
    request_headers: Vec<String>,
    upstream_headers: Vec<String>,
    user_header: Option<String>,
    timeout: Option<ConfigDuration>,
}

/// Of the service's reply, these never reach the client: they are about a connection, or about a body as it was sent.
const NOT_PASSED_ON: [&str; 13] = [
    "connection",
    "content-length",
    "date",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "alt-svc",
];

impl Plugin for ForwardAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        if !is_url(&config.url) {
            errors.push("url", "must be a URL without user information and fragment, like `http://127.0.0.1:9000/verify`");
        }
        let request_headers = config.request_headers;
        let request_headers = request_headers
            .unwrap_or_else(|| ["authorization", "cookie"].map(str::to_owned).to_vec());
        for (key, names) in [
            ("request-headers", &request_headers),
            ("upstream-headers", &config.upstream_headers),
        ] {
            for (at, name) in names.iter().enumerate() {
                if let Err(mistake) = check_header_name(name) {
                    errors.push(format!("{key}.{at}"), mistake);
                }
            }
        }
        if let Some(Err(mistake)) = config.user_header.as_deref().map(check_header_name) {
            errors.push("user-header", mistake);
        }
        if config.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
            errors.push("timeout", "must be more than nothing");
        }
        errors.into_result(Self {
            url: config.url,
            request_headers,
            upstream_headers: config.upstream_headers,
            user_header: config.user_header,
            timeout: config.timeout,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

fn is_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        is_authority(authority)
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#')
    })
}

impl RequestHook for ForwardAuth {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        let response = match self.question(exchange, request).send() {
            Ok(response) => response,
            Err(error) => {
                warn!("nobody said whether a request may pass: {error}");
                let reply = Reply::new(503).header("retry-after", "1");
                return Ok(RequestVerdict::Answer(
                    reply.json(r#"{"error":"try again"}"#),
                ));
            }
        };
        if !(200..=299).contains(&response.status()) {
            exchange.set_attribute("refused", &response.status().to_string())?;
            return Ok(RequestVerdict::Answer(passed_on(response)));
        }
        self.let_in(exchange, request, &response)?;
        Ok(RequestVerdict::Next)
    }
}

impl ForwardAuth {
    fn question(&self, exchange: &Exchange, request: &Request) -> http_client::Request {
        let mut question = http_client::Request::get(self.url.as_str())
            .header("x-forwarded-method", request.method())
            .header("x-forwarded-proto", exchange.client_scheme())
            .header("x-forwarded-host", exchange.client_authority())
            .header("x-forwarded-uri", exchange.client_path_with_query())
            .header("x-forwarded-for", exchange.client_address())
            .header("x-request-id", exchange.id());
        for name in &self.request_headers {
            // What this proxy says of the request is not the client's to say.
            if name.to_ascii_lowercase().starts_with("x-forwarded-") {
                continue;
            }
            for value in request.header_values(name) {
                question = question.header(name.as_str(), value);
            }
        }
        match self.timeout {
            Some(timeout) => question.timeout(timeout.0),
            None => question,
        }
    }

    fn let_in(
        &self,
        exchange: &Exchange,
        request: &mut Request,
        response: &http_client::Response,
    ) -> Result<(), Failure> {
        for name in &self.upstream_headers {
            request.remove_header(name)?;
            for (_, value) in response
                .headers()
                .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            {
                request.append_header(name, value)?;
            }
        }
        let user = self
            .user_header
            .as_ref()
            .and_then(|name| response.header(name));
        if let Some(user) = user {
            let user: String = String::from_utf8_lossy(user).chars().take(200).collect();
            exchange.set_attribute("user", &user)?;
        }
        Ok(())
    }
}

/// The service's own words for why not: a login page, a challenge, a redirect.
fn passed_on(response: http_client::Response) -> Reply {
    let mut reply = Reply::new(response.status());
    for (name, value) in response.headers() {
        if !NOT_PASSED_ON.contains(&name) {
            reply = reply.header(name, value);
        }
    }
    reply.bytes(response.into_body())
}

witgate_plugin::export!(ForwardAuth: request);
