//! Why a plugin could not do its part.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A plugin's failure in one exchange. The text is for the operator's log, never for the client.
#[derive(Debug, Clone)]
pub struct PluginFailure {
    /// The plugin's configured name.
    pub plugin: Arc<str>,
    /// The function of the plugin that was called: `on-request`, `transform.push`, …
    pub call: &'static str,
    /// What happened.
    pub kind: FailureKind,
}

/// The ways a call into a plugin can fail.
///
/// [`Trap`](Self::Trap), [`Deadline`](Self::Deadline) and [`Memory`](Self::Memory) cost the plugin its instance.
#[derive(Debug, Clone)]
pub enum FailureKind {
    /// The guest stopped: a panic, an out-of-bounds access, a stack overflow, a call its phase does not allow.
    Trap {
        /// What wasmtime says, with the guest's call stack.
        message: String,
    },
    /// The call ran longer than allowed. Remedy: a quicker plugin, or a larger `limits.deadline`.
    Deadline(Duration),
    /// No head of a response came within `limits.first-byte`. Remedy: a quicker component, or a larger limit.
    FirstByte(Duration),
    /// One exchange took more of a processor than `limits.processor`. Remedy: the same.
    Processor(Duration),
    /// The guest wanted more memory than `limits.memory`, in bytes.
    Memory(usize),
    /// The plugin returned an error value; this is its own reason.
    Error(String),
    /// The plugin returned something that cannot be sent, such as a status of 0. Says what.
    BadResult(String),
    /// A body was held back and grew over `limits.held-body`, in bytes.
    HeldBody(usize),
    /// No instance could be made.
    Start(String),
    /// The instance that held the state of this body or WebSocket failed in another call, or one was given up in it.
    LostInstance,
    /// The plugin failed so often that it is not called for a while.
    Quarantined(Duration),
    /// As many calls were under way as there may be at once (this many), and none ended in time.
    Busy(usize),
    /// It was not told of an exchange's end: too many waited to be told of.
    NotTold,
}

impl FailureKind {
    /// All labels.
    pub const LABELS: [&str; 11] = [
        "trap",
        "deadline",
        "memory",
        "error",
        "bad-result",
        "held-body",
        "start",
        "lost-instance",
        "quarantined",
        "busy",
        "not-told",
    ];

    /// One word for metrics and structured logs.
    pub fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// Place of the label in [`LABELS`](Self::LABELS).
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Trap { .. } => 0,
            Self::Deadline(_) | Self::FirstByte(_) | Self::Processor(_) => 1,
            Self::Memory(_) => 2,
            Self::Error(_) => 3,
            Self::BadResult(_) => 4,
            Self::HeldBody(_) => 5,
            Self::Start(_) => 6,
            Self::LostInstance => 7,
            Self::Quarantined(_) => 8,
            Self::Busy(_) => 9,
            Self::NotTold => 10,
        }
    }

    /// Whether it says more than its label. The others come in crowds.
    pub(crate) fn has_words(&self) -> bool {
        !matches!(
            self,
            Self::Quarantined(_) | Self::Busy(_) | Self::NotTold | Self::LostInstance
        )
    }

    /// Whether the instance may not be used again.
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Trap { .. } | Self::Deadline(_) | Self::Memory(_)
        )
    }
}

impl fmt::Display for PluginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, call, kind } = self;
        match kind {
            FailureKind::Trap { message } => {
                write!(f, "plugin `{plugin}` trapped in {call}: {message}")
            }
            FailureKind::Deadline(limit) => write!(
                f,
                "plugin `{plugin}` was stopped in {call} after its deadline of {limit:?}; raise `limits.deadline` if it needs longer"
            ),
            FailureKind::FirstByte(limit) => write!(
                f,
                "plugin `{plugin}` was stopped in {call}: no response began within {limit:?}; raise `limits.first-byte` if it needs longer"
            ),
            FailureKind::Processor(limit) => write!(
                f,
                "plugin `{plugin}` was stopped in {call} after {limit:?} of a processor; raise `limits.processor` if it needs more"
            ),
            FailureKind::Memory(limit) => write!(
                f,
                "plugin `{plugin}` asked in {call} for more than its {limit} bytes of memory; raise `limits.memory` if it needs more"
            ),
            FailureKind::Error(reason) => {
                write!(f, "plugin `{plugin}` gave up in {call}: {reason}")
            }
            FailureKind::BadResult(what) => write!(
                f,
                "plugin `{plugin}` returned from {call} what cannot be sent: {what}"
            ),
            FailureKind::HeldBody(limit) => write!(
                f,
                "plugin `{plugin}` holds a body back that is over {limit} bytes; raise `limits.held-body` if it should be"
            ),
            FailureKind::Start(why) => write!(f, "plugin `{plugin}` could not be started: {why}"),
            FailureKind::LostInstance => {
                write!(
                    f,
                    "plugin `{plugin}` lost the body or WebSocket of {call}: its instance failed in another call"
                )
            }
            FailureKind::Busy(limit) => write!(
                f,
                "plugin `{plugin}` had no turn for {call}: all its {limit} calls at once on this worker were under way; raise `limits.concurrency`, have more wait longer (`limits.wait`, of a standard component `limits.first-byte`), or make it quicker"
            ),
            FailureKind::NotTold => write!(
                f,
                "plugin `{plugin}` was not told of an exchange's end, because too many wait for its {call}"
            ),
            FailureKind::Quarantined(left) => {
                write!(
                    f,
                    "plugin `{plugin}` is not called for another {left:.0?}, because it failed again and again"
                )
            }
        }
    }
}

impl std::error::Error for PluginFailure {}
