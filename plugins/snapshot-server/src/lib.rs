//! `snapshot-server`: serves one JSON file from a granted mount.
//!
//! The host opens, stats and streams the file, and answers conditional and range requests and HEAD; the plugin decides
//! which file, and what a client gets as long as there is none.

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, Exchange, Failure, File, Plugin, Reply, Request, RequestHook, RequestVerdict,
};

/// The table `[plugin.NAME] config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Absolute path of the file, as the plugin sees its mounts.
    file: String,
}

/// The plugin.
pub struct SnapshotServer {
    file: String,
}

impl Plugin for SnapshotServer {
    type Config = Config;

    fn new(Config { file }: Config) -> Result<Self, ConfigErrors> {
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        match file.strip_prefix('/') {
            Some(path) if path.split('/').all(plain) => Ok(Self { file }),
            _ => Err(ConfigErrors::at(
                "file",
                "must be the absolute path of a file in a mount, like `/snapshots/state.json`",
            )),
        }
    }
}

impl RequestHook for SnapshotServer {
    fn on_request(&self, _: &Exchange, request: &mut Request) -> Result<RequestVerdict, Failure> {
        let reply = match request.method().as_str() {
            "GET" | "HEAD" => self.snapshot(),
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
        // `no-cache` lets a client keep the file, but makes it ask each time; the ETag makes asking cheap.
        Reply::new(200)
            .header("content-type", "application/json")
            .header("cache-control", "no-cache")
            .file(file)
    }
}

witgate_plugin::export!(SnapshotServer: request);
