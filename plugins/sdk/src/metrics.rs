//! Numbers of the plugin's own among the proxy's metrics, if the operator granted them (`grant.metrics = {}`).
//!
//! Declared once, as a rule in [`Plugin::new`](crate::Plugin::new), and counted from then on:
//!
//! ```no_run
//! use witgate_plugin::ConfigErrors;
//! use witgate_plugin::metrics::{Counter, Error};
//!
//! struct Guard {
//!     refused: Counter,
//! }
//!
//! fn guard() -> Result<Guard, Error> {
//!     Ok(Guard { refused: Counter::new("refused", &[("reason", "token")])? })
//! }
//!
//! fn on_refusal(guard: &Guard) {
//!     guard.refused.add(1); // witgate_plugin_custom_refused_total{plugin="…",reason="token"}
//! }
//! ```
//!
//! Names are `a`-`z` and `_`. Label values are for what there is a handful of: each makes a series, of which the grant has
//! a number (100 by default), and never for what a client chooses.

use std::error;
use std::fmt;

use crate::bindings::witgate::plugin::metrics as wit;

/// A number that grows, over all workers.
#[derive(Debug, Clone, Copy)]
pub struct Counter(u32);

impl Counter {
    /// Declares it; again gives the same one.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Result<Self, Error> {
        declare(&wit::Kind::Counter, name, labels).map(Self)
    }

    /// Adds to it.
    pub fn add(&self, by: u64) {
        wit::add(self.0, by);
    }
}

/// A number that is what it was last set to, on whichever worker.
#[derive(Debug, Clone, Copy)]
pub struct Gauge(u32);

impl Gauge {
    /// Declares it; again gives the same one.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn new(name: &str, labels: &[(&str, &str)]) -> Result<Self, Error> {
        declare(&wit::Kind::Gauge, name, labels).map(Self)
    }

    /// Sets it.
    pub fn set(&self, value: f64) {
        wit::set(self.0, value);
    }
}

/// Values in buckets.
#[derive(Debug, Clone, Copy)]
pub struct Histogram(u32);

impl Histogram {
    /// Declares it with the upper bounds of its buckets, 1 to 20 that rise; again gives the same one.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn new(name: &str, labels: &[(&str, &str)], bounds: &[f64]) -> Result<Self, Error> {
        declare(&wit::Kind::Histogram(bounds.to_vec()), name, labels).map(Self)
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        wit::observe(self.0, value);
    }
}

fn declare(kind: &wit::Kind, name: &str, labels: &[(&str, &str)]) -> Result<u32, Error> {
    let label = |(name, value): &(&str, &str)| wit::Label {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    let labels: Vec<_> = labels.iter().map(label).collect();
    wit::declare(kind, name, &labels).map_err(|error| match error {
        wit::Error::NotGranted => Error::NotGranted,
        wit::Error::InvalidName => Error::InvalidName,
        wit::Error::InvalidLabels => Error::InvalidLabels,
        wit::Error::InvalidBounds => Error::InvalidBounds,
        wit::Error::OtherKind => Error::OtherKind,
        wit::Error::TooManySeries(limit) => Error::TooManySeries(limit),
    })
}

/// Why a metric is not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The operator has not granted metrics.
    NotGranted,
    /// Not 1 to 64 of `a`-`z` and `_`, or an ending that belongs to a kind: `_total`, `_sum`, `_count`, `_bucket`, …
    InvalidName,
    /// More than 8 labels, one twice, or a name or value that is none.
    InvalidLabels,
    /// Bounds of a histogram that do not rise, or too many.
    InvalidBounds,
    /// A plugin counts by this name already, as another kind.
    OtherKind,
    /// The grant's `series`, of which there are so many, are used up.
    TooManySeries(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted => f.write_str("metrics are not granted; set `grant.metrics`"),
            Self::InvalidName => f.write_str("the name of a metric is not legal"),
            Self::InvalidLabels => f.write_str("the labels of a metric are not legal"),
            Self::InvalidBounds => f.write_str("the bounds of a histogram are not legal"),
            Self::OtherKind => f.write_str("there is a metric of this name and another kind"),
            Self::TooManySeries(limit) => write!(
                f,
                "all {limit} series are used up; raise `grant.metrics.series` if there should be more"
            ),
        }
    }
}

impl error::Error for Error {}
