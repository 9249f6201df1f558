//! `snapshot-server`: serves one file from a granted mount, or tells how old it is.
//!
//! The host opens, stats and streams the file, and answers conditional and range requests and HEAD; the plugin decides
//! which file, and what a client gets as long as there is none.

mod health;

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, File, Plugin, Reply, Request, RequestHook,
    RequestVerdict, schema_of,
};

use crate::health::Health;

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Absolute path of the file, as the plugin sees its mounts.
    file: String,
    /// Answers for the file's age instead of serving the file.
    health: Option<health::Config>,
}

/// The plugin.
pub struct SnapshotServer {
    file: String,
    health: Option<Health>,
}

impl Plugin for SnapshotServer {
    type Config = Config;

    fn new(Config { file, health }: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        check_path("file", &file, &mut errors);
        let health = health.and_then(|config| Health::new(config, &file, &mut errors));
        errors.into_result(Self { file, health })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

fn check_path(key: &str, path: &str, errors: &mut ConfigErrors) {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    let relative = path.strip_prefix('/');
    if !relative.is_some_and(|path| path.split('/').all(plain)) {
        errors.push(
            key,
            "must be the absolute path of a file in a mount, like `/snapshots/state.json`",
        );
    }
}

impl RequestHook for SnapshotServer {
    fn on_request(&self, _: &Exchange, request: &mut Request) -> Result<RequestVerdict, Failure> {
        let reply = match (request.method().as_str(), &self.health) {
            ("GET" | "HEAD", None) => self.snapshot(),
            ("GET" | "HEAD", Some(health)) => health.answer(&request.path_with_query()),
            _ => Reply::new(405)
                .header("allow", "GET, HEAD")
                .json(r#"{"error":"method not allowed"}"#),
        };
        Ok(RequestVerdict::Answer(reply))
    }
}

impl SnapshotServer {
    fn snapshot(&self) -> Reply {
        let file = File::new(self.file.as_str()).or_not_found(
            "application/json",
            r#"{"error":"snapshot not yet available"}"#,
        );
        // A browser has no use for what only the holder of a key can read.
        let content_type = match self.file.ends_with(".age") {
            true => "application/octet-stream",
            false => "application/json",
        };
        // `no-cache` lets a client keep the file, but makes it ask each time; the ETag makes asking cheap.
        Reply::new(200)
            .header("content-type", content_type)
            .header("cache-control", "no-cache")
            .file(file)
    }
}

witgate_plugin::export!(SnapshotServer: request);
