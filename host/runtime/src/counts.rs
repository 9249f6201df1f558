//! What a plugin did, counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::failure::FailureKind;

/// What one plugin did on one worker since it was started there. Written by that worker alone, read from anywhere; the
/// parts of a reading may be a call apart.
#[derive(Debug, Default)]
pub struct PluginCounts {
    on_request: AtomicU64,
    on_response: AtomicU64,
    on_upgrade: AtomicU64,
    on_message: AtomicU64,
    on_complete: AtomicU64,
    failures: [AtomicU64; FailureKind::LABELS.len()],
    quarantined: AtomicBool,
}

/// One of the hooks whose calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Request,
    Response,
    Upgrade,
    Message,
    Completion,
}

impl PluginCounts {
    /// Calls by hook, the failed ones included: `("on-request", 12)`, …
    pub fn calls(&self) -> [(&'static str, u64); 5] {
        [
            ("on-request", self.on_request.load(Ordering::Relaxed)),
            ("on-response", self.on_response.load(Ordering::Relaxed)),
            ("on-upgrade", self.on_upgrade.load(Ordering::Relaxed)),
            ("on-message", self.on_message.load(Ordering::Relaxed)),
            ("on-complete", self.on_complete.load(Ordering::Relaxed)),
        ]
    }

    /// Failures by the label of their kind, in the order of [`FailureKind::LABELS`].
    pub fn failures(&self) -> [(&'static str, u64); FailureKind::LABELS.len()] {
        std::array::from_fn(|at| {
            let count = self.failures[at].load(Ordering::Relaxed);
            (FailureKind::LABELS[at], count)
        })
    }

    /// Whether it failed so often that it is left alone, or is being tried again and has not succeeded yet.
    pub fn is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::Relaxed)
    }

    pub(crate) fn called(&self, hook: Hook) {
        let count = match hook {
            Hook::Request => &self.on_request,
            Hook::Response => &self.on_response,
            Hook::Upgrade => &self.on_upgrade,
            Hook::Message => &self.on_message,
            Hook::Completion => &self.on_complete,
        };
        // There is one writer, so this loses nothing, and costs less than an atomic addition.
        let called = count.load(Ordering::Relaxed);
        count.store(called.wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, kind: &FailureKind) {
        self.failures[kind.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_quarantined(&self, quarantined: bool) {
        self.quarantined.store(quarantined, Ordering::Relaxed);
    }
}
