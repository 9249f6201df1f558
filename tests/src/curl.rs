//! curl, as people call it.

use std::process::Command;

use crate::process::Process;
use crate::wait::PATIENCE;

/// What curl came to.
#[derive(Debug)]
pub struct Curled {
    /// Its exit code: 0 when it got an answer.
    pub code: i32,
    /// `HTTP/2 200` and the like: the version and status of the last response; empty without one.
    pub outcome: String,
    /// What the response held.
    pub body: String,
    /// What curl said.
    pub said: String,
}

/// Runs curl, which follows no proxy of the environment.
#[must_use]
#[track_caller]
pub fn curl(arguments: &[&str]) -> Curled {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--noproxy", "*"])
        .args(["--write-out", "\n%{http_version} %{http_code}"])
        .args(arguments);
    let ended = Process::start("curl", command).wait(PATIENCE);
    let (body, outcome) = (ended.stdout.trim_end().rsplit_once('\n')).unwrap_or_default();
    Curled {
        code: ended.status.code().unwrap_or(-1),
        outcome: format!("HTTP/{outcome}"),
        body: body.to_owned(),
        said: ended.output(),
    }
}
