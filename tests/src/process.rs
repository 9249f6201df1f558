//! A child process in a group of its own, with everything it prints collected.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait::{PATIENCE, within};

/// A running child. Dropping it stops it; a panicking test shows what it printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
    stop_bound: Duration,
}

/// How a child ended, and all it printed.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// Standard output and standard error, the latter behind the former.
    #[must_use]
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

#[derive(Debug, Default)]
struct Lines {
    collected: Mutex<Collected>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Collected {
    lines: Vec<(Stream, String)>,
    ended_streams: usize,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Collected> {
        // Lines are only ever appended, so they are whole even when a reader panicked.
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn collect(&self, stream: Stream, source: impl Read) {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while source
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.lock().lines.push((stream, text));
            self.changed.notify_all();
            line.clear();
        }
        self.lock().ended_streams += 1;
        self.changed.notify_all();
    }
}

impl Process {
    /// Starts `command` in a process group of its own, without standard input.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn start(name: &str, mut command: Command) -> Self {
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => panic!("cannot start {name}: {error} ({command:?})"),
        };
        let lines = Arc::new(Lines::default());
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        let readers = vec![
            thread::spawn({
                let lines = Arc::clone(&lines);
                move || lines.collect(Stream::Stdout, stdout)
            }),
            thread::spawn({
                let lines = Arc::clone(&lines);
                move || lines.collect(Stream::Stderr, stderr)
            }),
        ];
        Self {
            name: name.to_owned(),
            child,
            lines,
            readers,
            stop_bound: Duration::from_secs(60),
        }
    }

    /// Its process id, which is also the id of its process group.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself just now; then there is nobody left to tell.
        kill_process(self.pid(), signal).ok();
    }

    /// Sends a signal to every process of its group.
    pub fn signal_group(&self, signal: Signal) {
        kill_process_group(self.pid(), signal).ok();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("a child that was not waited for elsewhere has a status")
    }

    /// Waits for its end, at most `bound`, and gives all it printed.
    ///
    /// # Panics
    ///
    /// When it still runs after `bound`; it is killed then.
    #[track_caller]
    pub fn wait(mut self, bound: Duration) -> Ended {
        let Some(status) = within(bound, || self.ended()) else {
            panic!("{} still runs after {bound:?}", self.name);
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader thread only collects lines");
        }
        Ended {
            status,
            stdout: self.text(Stream::Stdout),
            stderr: self.text(Stream::Stderr),
        }
    }

    /// Kills its whole group, as an operating system short of memory might, and waits for its end.
    #[track_caller]
    pub fn kill(self) {
        self.signal_group(Signal::KILL);
        drop(self.wait(PATIENCE));
    }

    /// The first line, of those printed and those still to come within `bound`, that `find` takes.
    ///
    /// `None` when the time is up, or when the process has ended without such a line.
    pub fn find_line<T>(
        &self,
        bound: Duration,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + bound;
        let mut seen = 0;
        let mut collected = self.lines.lock();
        loop {
            while let Some((_, line)) = collected.lines.get(seen) {
                if let Some(found) = find(line) {
                    return Some(found);
                }
                seen += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || collected.ended_streams == 2 {
                return None;
            }
            (collected, _) = self
                .lines
                .changed
                .wait_timeout(collected, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Every line printed up to now, of both streams, in the order in which they arrived.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .lines
            .iter()
            .map(|(_, line)| line.clone())
            .collect()
    }

    /// Gives it another time to end after SIGTERM than 60 s.
    pub fn set_stop_bound(&mut self, bound: Duration) {
        self.stop_bound = bound;
    }

    fn text(&self, wanted: Stream) -> String {
        let collected = self.lines.lock();
        let wanted = collected
            .lines
            .iter()
            .filter(|(stream, _)| *stream == wanted);
        wanted.map(|(_, line)| format!("{line}\n")).collect()
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- what {} printed ---", self.name)?;
        for line in self.lines() {
            writeln!(f, "{line}")?;
        }
        write!(f, "--- end of {} ---", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::TERM);
            let bound = self.stop_bound;
            if within(bound, || self.child.try_wait().ok().flatten()).is_none() {
                self.signal_group(Signal::KILL);
                self.child.wait().ok();
                eprintln!(
                    "{} did not end within {bound:?} of SIGTERM and was killed",
                    self.name
                );
            }
        }
        if thread::panicking() {
            eprintln!("{self}");
        }
    }
}
