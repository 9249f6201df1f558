//! How much time passes, and which time it is. Always granted, and works in every call.

use crate::bindings::witgate::plugin::clock;

/// Milliseconds since a moment that is not said: only differences mean something. Never less than before, in any
/// instance of the process; wall-clock changes do not move it.
pub fn milliseconds() -> u64 {
    clock::milliseconds()
}

/// Milliseconds since 1970-01-01T00:00:00Z: the time of day, which may jump when somebody sets the machine's clock.
pub fn unix_milliseconds() -> u64 {
    clock::unix_milliseconds()
}
