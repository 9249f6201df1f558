//! A word to who waits at a terminal: what takes so long, and for how long it has. A log has one line of it, which whoever
//! does the work writes.

use std::env;
use std::io::{IsTerminal, Write as _, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What is done within this needs no word. With every component in the code cache a start takes a fraction of it.
const LONG: Duration = Duration::from_secs(1);

/// Takes the line back and empties it.
const EMPTY_LINE: &str = "\r\u{1b}[2K";

/// Says what takes long, until it is dropped.
pub(crate) struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

/// How a terminal is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Not at all: a log, or a pipe.
    Nothing,
    /// Once: what is read by programs as well, or knows no escape sequences.
    Once,
    /// On a line that changes.
    Live,
}

impl Progress {
    /// `what` is asked for again and again, as long as it takes. Writes only to a terminal.
    pub(crate) fn start(what: impl Fn() -> String + Send + 'static) -> Self {
        let told = told(stderr().is_terminal(), |name| env::var(name).ok());
        if told == Told::Nothing {
            return Self(None);
        }
        let (ends, ended) = channel::<()>();
        // The work keeps the calling thread busy, so the clock is on another.
        let wait = move || {
            let begun = Instant::now();
            let mut shown = false;
            while ended.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
                match told {
                    Told::Live => {
                        let seconds = begun.elapsed().as_secs();
                        eprint!("{EMPTY_LINE}{} … {seconds} s", what());
                    }
                    _ if !shown => eprintln!("{} …", what()),
                    _ => {}
                }
                shown = true;
            }
            if shown && told == Told::Live {
                eprint!("{EMPTY_LINE}");
            }
        };
        let started = thread::Builder::new().name("progress".into()).spawn(wait);
        Self(started.ok().map(|thread| (ends, thread)))
    }
}

/// What is written next finds its line empty.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((ends, thread)) = self.0.take() {
            drop(ends);
            // It only writes.
            drop(thread.join());
            drop(stderr().flush());
        }
    }
}

/// <https://no-color.org> asks for plain text; a terminal of a CI is a log.
fn told(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Told {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    let is_dumb = variable("TERM").is_none_or(|term| term == "dumb");
    match is_terminal {
        false => Told::Nothing,
        true if is_set("NO_COLOR") || is_set("CI") || is_dumb => Told::Once,
        true => Told::Live,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_is_told_and_only_one_that_can_take_a_line_back_sees_it_change() {
        let with = |set: &'static [(&str, &str)]| {
            move |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            }
        };
        assert_eq!(told(false, with(&[("TERM", "xterm")])), Told::Nothing);
        assert_eq!(told(true, with(&[("TERM", "xterm")])), Told::Live);
        assert_eq!(
            told(true, with(&[("TERM", "xterm"), ("NO_COLOR", "")])),
            Told::Live
        );
        for plain in [
            &[("TERM", "xterm"), ("NO_COLOR", "1")][..],
            &[("TERM", "xterm"), ("CI", "true")],
            &[("TERM", "dumb")],
            &[],
        ] {
            assert_eq!(told(true, with(plain)), Told::Once, "{plain:?}");
        }
    }
}
