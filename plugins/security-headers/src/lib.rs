//! `security-headers`: the headers by which browsers keep pages from harm, on every response.

use serde::Deserialize;
use witgate_plugin::{
    ConfigDuration, ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Request, Response,
    ResponseHook, ResponseVerdict, check_header_name, schema_of,
};

/// The table `[plugin.NAME] config`. An empty text leaves a header out.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// `Strict-Transport-Security`, sent only to clients that came by https; left out unless set.
    hsts: Option<Hsts>,
    /// `Content-Security-Policy`; left out unless set.
    content_security_policy: Option<String>,
    /// `Content-Security-Policy-Report-Only`; left out unless set.
    content_security_policy_report_only: Option<String>,
    /// `X-Content-Type-Options`; `nosniff` unless set.
    content_type_options: Option<String>,
    /// `X-Frame-Options`; `DENY` unless set.
    frame_options: Option<String>,
    /// `Referrer-Policy`; `strict-origin-when-cross-origin` unless set.
    referrer_policy: Option<String>,
    /// `Permissions-Policy`; left out unless set.
    permissions_policy: Option<String>,
    /// `Cross-Origin-Opener-Policy`; left out unless set.
    cross_origin_opener_policy: Option<String>,
    /// `Cross-Origin-Embedder-Policy`; left out unless set.
    cross_origin_embedder_policy: Option<String>,
    /// `Cross-Origin-Resource-Policy`; left out unless set.
    cross_origin_resource_policy: Option<String>,
    /// Replace what the upstream sent under these names; `false` unless set: what it sent stays.
    #[serde(default)]
    replace: bool,
    /// Headers to take away; `Server` and `X-Powered-By` unless set.
    remove: Option<Vec<String>>,
}

/// `Strict-Transport-Security` (RFC 6797).
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hsts {
    /// For how long a browser is to come by https alone.
    max_age: ConfigDuration,
    /// Also to all hosts below this one.
    #[serde(default)]
    include_subdomains: bool,
    /// May stand in the lists that browsers come with; takes months to undo.
    #[serde(default)]
    preload: bool,
}

/// What the lists that browsers come with ask for, in seconds.
const PRELOAD_AT_LEAST: u64 = 31_536_000;

/// The plugin: names and values.
pub struct SecurityHeaders {
    hsts: Option<String>,
    set: Vec<(&'static str, String)>,
    replace: bool,
    remove: Vec<String>,
}

impl Plugin for SecurityHeaders {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let headers = [
            (
                "content-security-policy",
                config.content_security_policy,
                "",
            ),
            (
                "content-security-policy-report-only",
                config.content_security_policy_report_only,
                "",
            ),
            (
                "x-content-type-options",
                config.content_type_options,
                "nosniff",
            ),
            ("x-frame-options", config.frame_options, "DENY"),
            (
                "referrer-policy",
                config.referrer_policy,
                "strict-origin-when-cross-origin",
            ),
            ("permissions-policy", config.permissions_policy, ""),
            (
                "cross-origin-opener-policy",
                config.cross_origin_opener_policy,
                "",
            ),
            (
                "cross-origin-embedder-policy",
                config.cross_origin_embedder_policy,
                "",
            ),
            (
                "cross-origin-resource-policy",
                config.cross_origin_resource_policy,
                "",
            ),
        ];
        let mut set = Vec::new();
        for (name, value, default) in headers {
            let value = value.unwrap_or_else(|| default.to_owned());
            if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                let key = name.strip_prefix("x-").unwrap_or(name);
                errors.push(key, "must be one line of ASCII");
            }
            if !value.is_empty() {
                set.push((name, value));
            }
        }
        let remove = config
            .remove
            .unwrap_or_else(|| ["server", "x-powered-by"].map(str::to_owned).to_vec());
        for (at, name) in remove.iter().enumerate() {
            if let Err(mistake) = check_header_name(name) {
                errors.push(format!("remove.{at}"), mistake);
            }
        }
        let hsts = config.hsts.map(|hsts| hsts.value(&mut errors));
        errors.into_result(Self {
            hsts,
            set,
            replace: config.replace,
            remove,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl Hsts {
    fn value(&self, errors: &mut ConfigErrors) -> String {
        let max_age = self.max_age.0.as_secs();
        if self.preload && !(self.include_subdomains && max_age >= PRELOAD_AT_LEAST) {
            errors.push(
                "hsts.preload",
                "needs `include-subdomains = true` and a `max-age` of at least \"365d\"",
            );
        }
        let mut value = format!("max-age={max_age}");
        if self.include_subdomains {
            value.push_str("; includeSubDomains");
        }
        if self.preload {
            value.push_str("; preload");
        }
        value
    }
}

impl ResponseHook for SecurityHeaders {
    fn on_response(
        &self,
        exchange: &Exchange,
        _: &Request,
        response: &mut Response,
    ) -> Result<ResponseVerdict, Failure> {
        for name in &self.remove {
            response.remove_header(name)?;
        }
        for (name, value) in &self.set {
            self.set(response, name, value)?;
        }
        // RFC 6797 §7.2: never by plain HTTP.
        if let Some(value) = &self.hsts
            && exchange.client_scheme() == "https"
        {
            self.set(response, "strict-transport-security", value)?;
        }
        Ok(ResponseVerdict::Next)
    }
}

impl SecurityHeaders {
    fn set(&self, response: &mut Response, name: &str, value: &str) -> Result<(), Failure> {
        if self.replace || response.header(name).is_none() {
            response.set_header(name, value)?;
        }
        Ok(())
    }
}

witgate_plugin::export!(SecurityHeaders: response);
