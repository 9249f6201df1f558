//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// The bound on every wait that has no reason for another. Generous: it is only ever spent by a failing test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition without a notification is looked at again.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` gives something, at most [`PATIENCE`].
///
/// # Panics
///
/// When the time is up; `what` says what was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    match within(PATIENCE, condition) {
        Some(value) => value,
        None => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Waits until `condition` gives something, at most `bound`; `None` when the time is up.
pub fn within<T>(bound: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(INTERVAL);
    }
}
