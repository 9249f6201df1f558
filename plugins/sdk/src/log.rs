//! Lines in the proxy's log, marked with the plugin's name and, inside a hook, with the route and the request id.
//!
//! Use the macros [`error!`](crate::error), [`warn!`](crate::warn), [`info!`](crate::info), [`debug!`](crate::debug)
//! and [`trace!`](crate::trace), which take what `format!` takes and format only lines that would be written. Control
//! characters are escaped and a message is cut at 4 KiB; a plugin that writes more than `limits.log-lines` (100 a
//! second by default) loses the excess. Do not log secrets: the host cannot tell.

use std::fmt;

use crate::bindings::witgate::plugin::log;

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The plugin cannot do its work.
    Error,
    /// Something is off, and the plugin works on.
    Warn,
    /// What an operator may want to see.
    Info,
    /// What helps to find a mistake.
    Debug,
    /// Every step.
    Trace,
}

/// Whether a line of this level would be written, so that a costly message need not be made.
pub fn enabled(level: Level) -> bool {
    log::enabled(level.into_wit())
}

/// Writes one line if its level is enabled. The macros call this.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    if enabled(level) {
        match message.as_str() {
            Some(message) => log::log(level.into_wit(), message),
            None => log::log(level.into_wit(), &message.to_string()),
        }
    }
}

impl Level {
    fn into_wit(self) -> log::Level {
        match self {
            Self::Error => log::Level::Error,
            Self::Warn => log::Level::Warn,
            Self::Info => log::Level::Info,
            Self::Debug => log::Level::Debug,
            Self::Trace => log::Level::Trace,
        }
    }
}

/// Logs that the plugin cannot do its work. Takes what `format!` takes.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Error, ::core::format_args!($($message)+)) };
}

/// Logs that something is off. Takes what `format!` takes.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Warn, ::core::format_args!($($message)+)) };
}

/// Logs what an operator may want to see. Takes what `format!` takes.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Info, ::core::format_args!($($message)+)) };
}

/// Logs what helps to find a mistake. Takes what `format!` takes.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Debug, ::core::format_args!($($message)+)) };
}

/// Logs a single step. Takes what `format!` takes.
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Trace, ::core::format_args!($($message)+)) };
}
