//! How much time passes, for rates, ages and windows. Always granted, and works in every call.

use crate::bindings::witgate::plugin::clock;

/// Milliseconds since a moment that is not said: only differences mean something. Never less than before, in any
/// instance of the process; wall-clock changes do not move it.
pub fn milliseconds() -> u64 {
    clock::milliseconds()
}
