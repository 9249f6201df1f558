//! Where log lines go: to standard error, by a thread of their own, so that no worker waits for a terminal or a pipe.

use std::io::{IsTerminal, stderr};

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use crate::Ended;
use crate::args::{Format, Log};

/// Whether people look at standard error and want colour (<https://no-color.org>).
pub(crate) fn color() -> bool {
    stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Starts logging. What is still to be written is written when the guard is dropped.
///
/// If lines come faster than they can be written, for longer than 128,000 lines, the excess is lost.
pub(crate) fn start(log: &Log) -> Result<WorkerGuard, Ended> {
    let filter = EnvFilter::try_new(&log.log_level)
        .map_err(|error| Ended::because(format!("--log-level {:?}: {error}", log.log_level)))?;
    let (writer, guard) = tracing_appender::non_blocking(stderr());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(color());
    match log.log_format {
        Format::Text => lines.init(),
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init(),
    }
    Ok(guard)
}
