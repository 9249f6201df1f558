//! A bucket of requests for each key: `burst` fit into it, and it fills again by `limit` in each `per`.
//!
//! What is stored is when it will be full: one number, so that one compare-and-set takes a request out of it (the generic
//! cell rate algorithm, ITU-T I.371). The time is that of day, which machines that share a store share as well.

use std::time::Duration;

use witgate_plugin::{clock, keyvalue};

/// Others may take from the same bucket in between, and each time one of them got a request out of it. More often than
/// this in a row, the store is busier than a limit should make it.
const TRIES: u32 = 32;

pub(crate) struct Bucket {
    /// Microseconds until one more request fits.
    interval: u64,
    /// Microseconds from empty to full.
    whole: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    One {
        /// How many more would fit now.
        left: u64,
        /// Seconds until the bucket is full.
        full_in: u64,
    },
    None {
        /// Seconds until one fits.
        retry_after: u64,
    },
}

impl Bucket {
    /// `per` is in milliseconds, at least 1000, and `limit` at most a million.
    pub(crate) fn new(limit: u32, per: u64, burst: u32) -> Self {
        let interval = (per * 1000 / u64::from(limit)).max(1);
        Self {
            interval,
            whole: interval * u64::from(burst),
        }
    }

    /// Takes a request out of the bucket of this key. The error is for the log.
    pub(crate) fn take(&self, key: &str) -> Result<Taken, String> {
        let told = |error: keyvalue::Error| error.to_string();
        for _ in 0..TRIES {
            let stored = keyvalue::get(key).map_err(told)?;
            let now = clock::unix_milliseconds() * 1000;
            let full_at = stored.as_deref().and_then(number);
            let full_at = match self.take_at(now, full_at) {
                Ok(full_at) => full_at,
                Err(wait) => {
                    return Ok(Taken::None {
                        retry_after: seconds(wait).max(1),
                    });
                }
            };
            let time = Duration::from_micros(full_at - now);
            let is_taken = keyvalue::compare_and_set(
                key,
                stored.as_deref(),
                full_at.to_string(),
                // A full bucket is one that is not there.
                Some(time + Duration::from_secs(1)),
            );
            if is_taken.map_err(told)? {
                return Ok(Taken::One {
                    left: (self.whole - (full_at - now)) / self.interval,
                    full_in: seconds(full_at - now),
                });
            }
        }
        Err(format!("others changed the key {TRIES} times in a row"))
    }

    /// When it will be full without one request more; or how long that has to wait.
    fn take_at(&self, now: u64, full_at: Option<u64>) -> Result<u64, u64> {
        // A clock that was set back must not keep anybody out for longer than an empty bucket does.
        let full_at = full_at.unwrap_or(now).clamp(now, now + self.whole);
        let after = full_at + self.interval;
        match after.checked_sub(now + self.whole) {
            None | Some(0) => Ok(after),
            Some(wait) => Err(wait),
        }
    }
}

fn number(stored: &[u8]) -> Option<u64> {
    str::from_utf8(stored).ok()?.parse().ok()
}

/// Rounded up: who comes after so many seconds does not come too early.
fn seconds(microseconds: u64) -> u64 {
    microseconds.div_ceil(1_000_000)
}
