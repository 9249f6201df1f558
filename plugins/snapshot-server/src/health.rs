//! How old the snapshot is, for probes and for people.

use serde::Deserialize;
use witgate_plugin::{ConfigErrors, ConfigSchema, File, Reply};

use crate::check_path;

/// The table `config.health`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Config {
    /// Beyond this age the snapshot is stale: an integer and `s`, `m`, `h` or `d`.
    stale_after: String,
    /// The harvests' status, as the plugin sees its mounts. Default: the file's name and `.status.json`.
    status_file: Option<String>,
}

/// What answers for the snapshot's age.
pub(crate) struct Health {
    file: String,
    status_file: String,
    stale_after_seconds: u64,
}

impl Health {
    pub(crate) fn new(config: Config, file: &str, errors: &mut ConfigErrors) -> Option<Self> {
        let status_file = config
            .status_file
            .unwrap_or_else(|| format!("{file}.status.json"));
        check_path("health.status-file", &status_file, errors);
        let seconds = seconds(&config.stale_after);
        if seconds.is_none() {
            errors.push(
                "health.stale-after",
                "must be an integer from 1 and one of the units `s`, `m`, `h`, `d`, like `3h`",
            );
        }
        Some(Self {
            file: file.to_owned(),
            status_file,
            stale_after_seconds: seconds?,
        })
    }

    /// `?verbose` gives the status, 200 as long as the snapshot is fresh and 503 when it is not; without it the answer
    /// is that the server serves.
    pub(crate) fn answer(&self, path_with_query: &str) -> Reply {
        let query = path_with_query
            .split_once('?')
            .map_or("", |(_, query)| query);
        let verbose = query
            .split('&')
            .any(|pair| pair.split('=').next() == Some("verbose"));
        if !verbose {
            return Reply::new(200).text("ok\n");
        }
        let status = File::new(self.status_file.as_str())
            .or_not_found("application/json", r#"{"error":"no harvest yet"}"#)
            .or_stale(self.file.as_str(), self.stale_after_seconds, 503);
        Reply::new(200)
            .header("content-type", "application/json")
            .header("cache-control", "no-store")
            .file(status)
    }
}

fn seconds(text: &str) -> Option<u64> {
    let worth = match text.bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 60 * 60,
        b'd' => 24 * 60 * 60,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    // `parse` would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(worth).filter(|seconds| *seconds > 0)
}
