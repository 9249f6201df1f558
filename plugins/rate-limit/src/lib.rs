//! `rate-limit`: how often a client may ask, counted once for all workers and, with a shared store, all machines.

mod bucket;
mod key;

use serde::Deserialize;
use witgate_plugin::{
    ConfigDuration, ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Reply, Request,
    RequestHook, RequestVerdict, Response, ResponseHook, ResponseVerdict, schema_of, warn,
};

use crate::bucket::{Bucket, Taken};
use crate::key::Key;

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// How many requests a client may make in each `per`, in the long run: 1 to 1,000,000.
    limit: u32,
    /// The time that `limit` is about; `1m` unless set.
    per: Option<ConfigDuration>,
    /// How many it may make at once; as `limit` unless set.
    burst: Option<u32>,
    /// What a client is told by; `client-address` unless set.
    key: Option<Key>,
    /// What becomes of requests while the store cannot be asked; `refuse` unless set.
    #[serde(default)]
    without_store: WithoutStore,
    /// Tell clients what they have left (`RateLimit` and `RateLimit-Policy`); `true` unless set.
    headers: Option<bool>,
}

/// What becomes of requests that cannot be counted.
#[derive(Deserialize, ConfigSchema, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum WithoutStore {
    /// A 503.
    #[default]
    Refuse,
    /// They go on.
    Pass,
}

/// The plugin.
pub struct RateLimit {
    bucket: Bucket,
    key: Key,
    without_store: WithoutStore,
    /// `RateLimit-Policy`; `None` when clients are told nothing.
    policy: Option<String>,
}

/// The note under which the response hook finds what the client has left; it is in the access log as well.
const NOTE: &str = "left";

impl Plugin for RateLimit {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let burst = config.burst.unwrap_or(config.limit);
        let per = config.per.map_or(60_000, |per| per.0.as_millis() as u64);
        for (key, value) in [("limit", config.limit), ("burst", burst)] {
            if !(1..=1_000_000).contains(&value) && (key == "limit" || config.burst.is_some()) {
                errors.push(key, "must be 1 to 1000000");
            }
        }
        if !(1_000..=31 * 86_400_000).contains(&per) {
            errors.push("per", "must be \"1s\" to \"31d\"");
        }
        let key = config.key.unwrap_or_default();
        key.check(&mut errors);
        let policy = format!(r#""default";q={};w={}"#, config.limit, per / 1000);
        let policy = (config.headers != Some(false)).then_some(policy);
        errors.into_result(())?;
        Ok(Self {
            bucket: Bucket::new(config.limit, per, burst),
            key,
            without_store: config.without_store,
            policy,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl RequestHook for RateLimit {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        let key = self.key.of(exchange, request);
        let taken = match self.bucket.take(&key) {
            Ok(taken) => taken,
            Err(why) if self.without_store == WithoutStore::Pass => {
                warn!("a request was not counted, and passes: {why}");
                return Ok(RequestVerdict::Next);
            }
            Err(why) => {
                warn!("a request could not be counted: {why}");
                let reply = Reply::new(503).header("retry-after", "1");
                return Ok(RequestVerdict::Answer(
                    reply.json(r#"{"error":"try again"}"#),
                ));
            }
        };
        match taken {
            Taken::One { left, full_in } => {
                let left = format!(r#""default";r={left};t={full_in}"#);
                exchange.set_attribute(NOTE, &left)?;
                Ok(RequestVerdict::Next)
            }
            Taken::None { retry_after } => Ok(self.refuse(exchange, retry_after)?),
        }
    }
}

impl RateLimit {
    fn refuse(&self, exchange: &Exchange, retry_after: u64) -> Result<RequestVerdict, Failure> {
        exchange.set_attribute("refused", "rate")?;
        let mut reply = Reply::new(429).header("retry-after", retry_after.to_string());
        if let Some(policy) = &self.policy {
            let left = format!(r#""default";r=0;t={retry_after}"#);
            reply = reply
                .header("ratelimit-policy", policy.clone())
                .header("ratelimit", left);
        }
        let reply = reply.json(r#"{"error":"too many requests"}"#);
        Ok(RequestVerdict::Answer(reply))
    }
}

impl ResponseHook for RateLimit {
    fn on_response(
        &self,
        exchange: &Exchange,
        _: &Request,
        response: &mut Response,
    ) -> Result<ResponseVerdict, Failure> {
        if let (Some(policy), Some(left)) = (&self.policy, exchange.attribute(NOTE)) {
            // Appended: another limit of the route may have told of itself.
            response.append_header("ratelimit-policy", policy)?;
            response.append_header("ratelimit", left)?;
        }
        Ok(ResponseVerdict::Next)
    }
}

witgate_plugin::export!(RateLimit: request, response);
