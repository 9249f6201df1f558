//! `redirect`: sends clients elsewhere.

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, PathPattern, Plugin, Reply, Request,
    RequestHook, RequestVerdict, Template, is_authority, schema_of,
};

/// The table `[plugin.NAME] config`; at least one of `rules`, `https` and `host`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Paths and where they are now. The first that fits counts.
    #[serde(default)]
    rules: Vec<RuleConfig>,
    /// Send those who came by http to https.
    #[serde(default)]
    https: bool,
    /// The port of https; 443 unless set.
    https_port: Option<u16>,
    /// Send those who asked for another host to this one.
    host: Option<String>,
    /// Status where a rule names none: 301, 302, 303, 307 or 308; 308 unless set.
    status: Option<u16>,
}

/// One of `rules`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuleConfig {
    /// A path as the client sent it: `/old`, `/users/{id}`, `/docs/{rest*}`.
    from: String,
    /// Where it is now: a path or a URL, with `{id}` and other placeholders.
    to: String,
    /// As `status` above.
    status: Option<u16>,
    /// Send the query along, if `to` has none; `true` unless set.
    keep_query: Option<bool>,
}

/// The plugin.
pub struct Redirect {
    rules: Vec<Rule>,
    https: bool,
    https_port: u16,
    host: Option<String>,
    status: u16,
}

struct Rule {
    from: PathPattern,
    to: Template,
    status: u16,
    keep_query: bool,
}

const DEFAULT_STATUS: u16 = 308;

impl Plugin for Redirect {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        if config.rules.is_empty() && !config.https && config.host.is_none() {
            errors.push(
                "",
                "sends nobody anywhere; add `rules`, `https = true` or `host`",
            );
        }
        if config.https_port.is_some() && !config.https {
            errors.push("https-port", "is of no use without `https = true`");
        }
        if config.host.as_ref().is_some_and(|host| !is_authority(host)) {
            errors.push(
                "host",
                "must be a host and an optional port, like `www.example.com`",
            );
        }
        let status = status(config.status, DEFAULT_STATUS, "status", &mut errors);
        let rules = config.rules.iter().enumerate();
        let rules = rules
            .filter_map(|(at, rule)| Rule::new(rule, status, &format!("rules.{at}"), &mut errors));
        let rules = rules.collect();
        errors.into_result(Self {
            rules,
            https: config.https,
            https_port: config.https_port.unwrap_or(443),
            host: config.host,
            status,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

fn status(wanted: Option<u16>, default: u16, key: &str, errors: &mut ConfigErrors) -> u16 {
    let status = wanted.unwrap_or(default);
    if ![301, 302, 303, 307, 308].contains(&status) {
        errors.push(key, "must be 301, 302, 303, 307 or 308");
    }
    status
}

impl Rule {
    fn new(
        config: &RuleConfig,
        default: u16,
        key: &str,
        errors: &mut ConfigErrors,
    ) -> Option<Self> {
        let status = match config.status {
            Some(wanted) => status(Some(wanted), default, &format!("{key}.status"), errors),
            None => default,
        };
        let from = PathPattern::parse(&config.from);
        let from = from
            .map_err(|mistake| errors.push(format!("{key}.from"), mistake))
            .ok()?;
        let to = Template::parse_with(&config.to, &from.names());
        let to = to
            .map_err(|mistake| errors.push(format!("{key}.to"), mistake))
            .ok()?;
        let is_target = config.to.starts_with('/') && !config.to.starts_with("//")
            || config.to.starts_with("http://")
            || config.to.starts_with("https://");
        let is_line = to
            .literals()
            .all(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        if !is_target || !is_line {
            errors.push(
                format!("{key}.to"),
                "must be a path that starts with one `/`, or a URL that starts with `http://` or `https://`, of visible ASCII",
            );
        }
        Some(Self {
            from,
            to,
            status,
            keep_query: config.keep_query.unwrap_or(true),
        })
    }
}

impl RequestHook for Redirect {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        let asked = exchange.client_path_with_query();
        Ok(match self.target(exchange, request, &asked) {
            Some((location, status)) if location != asked => {
                let reply = Reply::new(status).header("location", location);
                RequestVerdict::Answer(reply)
            }
            _ => RequestVerdict::Next,
        })
    }
}

impl Redirect {
    /// Where this client is to go, and the status that says so.
    fn target(&self, exchange: &Exchange, request: &Request, asked: &str) -> Option<(String, u16)> {
        let (path, query) = match asked.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (asked, None),
        };
        for rule in &self.rules {
            if let Some(captured) = rule.from.captures(path) {
                let to = rule.to.fill_with(exchange, request, &captured)?;
                let location = located(String::from_utf8_lossy(&to).into_owned());
                return Some((rule.with_query(location, query), rule.status));
            }
        }
        let location = self.elsewhere(exchange)?;
        Some((format!("{location}{asked}"), self.status))
    }

    /// Scheme and authority, when they have to be others.
    fn elsewhere(&self, exchange: &Exchange) -> Option<String> {
        let (scheme, authority) = (exchange.client_scheme(), exchange.client_authority());
        let is_secured = self.https && scheme == "http";
        let other_host = self
            .host
            .as_ref()
            .filter(|host| !host.eq_ignore_ascii_case(&authority));
        // Nobody can be sent to a host without a name: a client of HTTP/1.0 that sent none.
        let authority = match other_host {
            Some(host) => host.as_str(),
            None if is_secured && !authority.is_empty() => without_port(&authority),
            None => return None,
        };
        Some(match (is_secured, self.https_port) {
            (true, port) if port != 443 => format!("https://{}:{port}", without_port(authority)),
            (true, _) => format!("https://{authority}"),
            (false, _) => format!("{scheme}://{authority}"),
        })
    }
}

impl Rule {
    fn with_query(&self, location: String, query: Option<&str>) -> String {
        match query {
            Some(query) if self.keep_query && !location.contains('?') => {
                format!("{location}?{query}")
            }
            _ => location,
        }
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(at) if !authority.ends_with(']') => &authority[..at],
        _ => authority,
    }
}

/// A path that begins with `//` or `/\` is another host to a browser, and a client may have chosen what comes behind the
/// first `/`.
fn located(location: String) -> String {
    match location.strip_prefix('/') {
        Some(rest) => format!("/{}", rest.trim_start_matches(['/', '\\'])),
        None => location,
    }
}

witgate_plugin::export!(Redirect: request);
