//! What is wrong with a configuration, and all of it together.

use std::fmt;

use serde_json::{Value, json};

use super::Location;
use super::report;

/// Whether a problem keeps the configuration from being taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing of the configuration is used.
    Error,
    /// The configuration works, though perhaps not as meant.
    Warning,
}

/// One thing that is wrong: where, what, and what would be right.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Whether the configuration can be used all the same.
    pub severity: Severity,
    /// The place to underline.
    pub location: Location,
    /// The key as a dotted path from the top of the file, list items by index from 0: `route.0.plugins.1`. Empty
    /// when no key is concerned.
    pub key: String,
    /// What is wrong: lower case, one sentence without a full stop, no secret in it.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// What else there is to know, below the help.
    pub note: Option<String>,
    /// Another place in the same file that has to do with it, and what is there.
    pub related: Option<(Location, String)>,
}

impl Problem {
    /// A problem because of which nothing of the configuration is used.
    pub fn error(location: Location, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            location,
            key: key.into(),
            message: message.into(),
            help: None,
            note: None,
            related: None,
        }
    }

    /// A problem that leaves the configuration usable.
    pub fn warning(location: Location, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(location, key, message)
        }
    }

    /// Says what would be right.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says what else there is to know.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    fn to_json(&self) -> Value {
        let related = self.related.as_ref().map(|(location, words)| {
            json!({"line": location.line(), "column": location.column(), "message": words})
        });
        json!({
            "severity": match self.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "file": self.location.file(),
            "line": self.location.line(),
            "column": self.location.column(),
            "key": self.key,
            "message": self.message,
            "help": self.help,
            "note": self.note,
            "related": related,
        })
    }

    /// Shows another place of the same file, with a few words on what is there.
    pub fn with_related(mut self, location: Location, words: impl Into<String>) -> Self {
        self.related = Some((location, words.into()));
        self
    }
}

/// Everything that is wrong with one configuration file.
///
/// As an error it displays the whole report without colours; [`Problems::render`] has the colours.
#[derive(Debug, Clone)]
pub struct Problems {
    file: String,
    outcome: String,
    list: Vec<Problem>,
}

impl Problems {
    /// None so far. `file` is named in the report's last line.
    pub fn new(file: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            outcome: "nothing was started".into(),
            list: Vec::new(),
        }
    }

    /// Replaces what the last line says follows from the errors; `nothing was started` until then.
    pub fn set_outcome(&mut self, outcome: impl Into<String>) {
        self.outcome = outcome.into();
    }

    /// Adds one, at any time: while the file is read, or later, when a plugin refuses its configuration.
    pub fn add(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Takes over those of another collection.
    pub fn append(&mut self, mut other: Self) {
        self.list.append(&mut other.list);
    }

    /// Whether any of them keeps the configuration from being taken up.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Whether there is not even a warning.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are, warnings included.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// How many there are of one severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    /// In the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// The report: every problem in file order with the line it is on, then one line that counts them. Ends in a
    /// newline; empty when there is no problem.
    ///
    /// `color` adds ANSI escape sequences, which the caller should want only for a terminal, and not when the
    /// environment variable `NO_COLOR` is set.
    pub fn render(&self, color: bool) -> String {
        report::render(self, color)
    }

    /// The same for programs: every problem with its place, and the report as `text`.
    pub fn to_json(&self) -> Value {
        json!({
            "file": self.file,
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "problems": self.iter().map(Problem::to_json).collect::<Vec<_>>(),
            "text": self.render(false),
        })
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn outcome(&self) -> &str {
        &self.outcome
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}
