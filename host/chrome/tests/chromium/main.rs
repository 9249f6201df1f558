//! The supervisor and the harvest against a real Chromium, which must be installed.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod backup;
mod faults;
mod harvest;
mod health;
mod playwright;
mod refusals;
mod schedule;
mod supervisor;
mod support;
