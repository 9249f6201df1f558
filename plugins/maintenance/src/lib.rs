//! `maintenance`: answers for an upstream that is being worked on, and lets those through who work on it.

use serde::Deserialize;
use witgate_plugin::{
    ConfigDuration, ConfigErrors, ConfigSchema, Exchange, Failure, Networks, PathPattern, Plugin,
    Reply, Request, RequestHook, RequestVerdict, schema_of,
};

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Whether it is now; `true` unless set. `false` lets everything pass.
    enabled: Option<bool>,
    /// Status of the answer, 400 to 599; 503 unless set.
    status: Option<u16>,
    /// When to come again (`Retry-After`).
    retry_after: Option<ConfigDuration>,
    /// Text of the answer; `down for maintenance` unless set.
    body: Option<String>,
    /// Its `Content-Type`; `text/plain; charset=utf-8` unless set.
    content_type: Option<String>,
    /// Clients who are let through: addresses and networks.
    #[serde(default)]
    allow: Vec<String>,
    /// Paths that everybody may have: `/health`, `/static/{rest*}`.
    #[serde(default)]
    except: Vec<String>,
}

/// The plugin.
pub struct Maintenance {
    enabled: bool,
    status: u16,
    retry_after: Option<u64>,
    body: String,
    content_type: String,
    allow: Networks,
    except: Vec<PathPattern>,
}

impl Plugin for Maintenance {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let status = config.status.unwrap_or(503);
        if !(400..=599).contains(&status) {
            errors.push(
                "status",
                "must be 400 to 599: anything else would be taken for the page",
            );
        }
        let content_type = config.content_type;
        let content_type = content_type.unwrap_or_else(|| "text/plain; charset=utf-8".to_owned());
        if !content_type
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte))
        {
            errors.push("content-type", "must be one line of ASCII");
        }
        let allow = Networks::new(&config.allow, "allow", &mut errors);
        let mut except = Vec::new();
        for (at, text) in config.except.iter().enumerate() {
            match PathPattern::parse(text) {
                Ok(pattern) => except.push(pattern),
                Err(mistake) => errors.push(format!("except.{at}"), mistake),
            }
        }
        errors.into_result(Self {
            enabled: config.enabled.unwrap_or(true),
            status,
            retry_after: config.retry_after.map(|after| after.0.as_secs()),
            body: config
                .body
                .unwrap_or_else(|| "down for maintenance\n".to_owned()),
            content_type,
            allow,
            except,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl RequestHook for Maintenance {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        let passes = !self.enabled
            || self.allow.contain(&exchange.client_address())
            || self.is_excepted(&request.path());
        if passes {
            return Ok(RequestVerdict::Next);
        }
        // Nobody is to see this page from a cache when the work is done.
        let mut reply = Reply::new(self.status)
            .header("cache-control", "no-store")
            .header("content-type", self.content_type.clone());
        if let Some(seconds) = self.retry_after {
            reply = reply.header("retry-after", seconds.to_string());
        }
        Ok(RequestVerdict::Answer(reply.bytes(self.body.clone())))
    }
}

impl Maintenance {
    fn is_excepted(&self, path: &str) -> bool {
        self.except
            .iter()
            .any(|pattern| pattern.captures(path).is_some())
    }
}

witgate_plugin::export!(Maintenance: request);
