//! A word to who waits at a terminal while components are compiled.

use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// With every component in the code cache a start takes a fraction of this.
const LONG: Duration = Duration::from_secs(1);

/// Says so when components take long, unless it is dropped first.
pub(crate) struct Progress {
    _ends: Option<Sender<()>>,
}

impl Progress {
    /// Only for a terminal: a log has nothing of it.
    pub(crate) fn start() -> Self {
        if !stderr().is_terminal() {
            return Self { _ends: None };
        }
        let (ends, ended) = channel::<()>();
        // Compiling keeps the calling thread busy, so the clock is on another.
        let wait = move || {
            if ended.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
                eprintln!("compiling components; the code cache keeps them for the next start …");
            }
        };
        let started = thread::Builder::new().name("progress".into()).spawn(wait);
        Self {
            _ends: started.is_ok().then_some(ends),
        }
    }
}
