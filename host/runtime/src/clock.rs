//! The clock that guests read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use wasmtime::Result;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::bindings::clock;
use crate::instance::State;

/// Where all guests of the process count from, so that what they compare was measured from one moment.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What a standing clock shows before it is moved: 2026-01-01T00:00:00Z, in milliseconds since 1970.
const STANDING_SINCE: u64 = 1_767_225_600_000;

/// What a plugin's instances see of time: the system's clocks, or one that a test moves.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    System,
    /// Milliseconds.
    Standing(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that stands still until it is [advanced](Self::advance). Clones show the same time.
    pub fn standing() -> Self {
        Self(Source::Standing(Arc::default()))
    }

    /// Moves a standing clock, in whole milliseconds. The system's own goes by itself, and this does nothing to it.
    pub fn advance(&self, by: Duration) {
        if let Source::Standing(now) = &self.0 {
            now.fetch_add(milliseconds(by), Ordering::Relaxed);
        }
    }

    pub(crate) fn now(&self) -> u64 {
        match &self.0 {
            Source::System => milliseconds(START.elapsed()),
            Source::Standing(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds since 1970. 0 on a machine that lives before that.
    fn unix(&self) -> u64 {
        match &self.0 {
            Source::System => SystemTime::UNIX_EPOCH.elapsed().map_or(0, milliseconds),
            Source::Standing(_) => STANDING_SINCE.saturating_add(self.now()),
        }
    }

    /// Makes a standing clock that of WASI as well, which has the system's otherwise.
    pub(crate) fn lend(&self, context: &mut WasiCtxBuilder) {
        if let Source::Standing(_) = &self.0 {
            context.wall_clock(OfWasi(self.clone()));
            context.monotonic_clock(OfWasi(self.clone()));
        }
    }
}

/// A standing clock in the words of WASI.
struct OfWasi(Clock);

impl HostWallClock for OfWasi {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.unix())
    }
}

impl HostMonotonicClock for OfWasi {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        self.0.now().saturating_mul(1_000_000)
    }
}

/// Saturates after half a billion years.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl clock::Host for State {
    fn milliseconds(&mut self) -> Result<u64> {
        Ok(self.clock.now())
    }

    fn unix_milliseconds(&mut self) -> Result<u64> {
        Ok(self.clock.unix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_clock_goes_by_itself_and_never_back() {
        let clock = Clock::default();
        let start = clock.now();
        clock.advance(Duration::from_secs(3600));
        let mut last = start;
        while last == start {
            let now = clock.now();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        assert!(last - start < 3_600_000, "it was not moved by hand");
    }

    #[test]
    fn a_standing_clock_goes_only_by_hand_and_is_shared_by_its_clones() {
        let clock = Clock::standing();
        let other = clock.clone();
        assert_eq!(clock.now(), 0);
        other.advance(Duration::from_micros(1_999));
        assert_eq!(clock.now(), 1);
        assert_eq!(clock.unix(), STANDING_SINCE + 1);
    }
}
