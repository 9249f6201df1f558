//! Where lines of the access log go: a queue, and a thread that empties it, so that no worker waits for a disk, a pipe or
//! a daemon. What does not fit the queue, and what cannot be written, is lost and counted.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::file::LogFile;
use super::syslog::Syslog;
use crate::config::{AccessLog, AccessLogTo};

/// Bytes that are written at once.
const BATCH: usize = 64 << 10;

/// How long a stop waits for lines to be written.
const FLUSH: Duration = Duration::from_secs(2);

/// What became of lines, over all places that there were.
#[derive(Debug, Default)]
pub(crate) struct LineCounts {
    pub(crate) written: AtomicU64,
    /// They did not fit the queue.
    pub(crate) crowded_out: AtomicU64,
    /// They could not be written.
    pub(crate) unwritten: AtomicU64,
}

/// The access log of a generation, and of those that follow with the same table.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) config: AccessLog,
    queue: OnceLock<Queue>,
}

#[derive(Debug)]
struct Queue {
    sender: Sender<Message>,
    /// Bytes that wait.
    waiting: Arc<AtomicUsize>,
    counts: Arc<LineCounts>,
}

enum Message {
    Line(Vec<u8>),
    Reopen,
    /// Hears when all before it is written.
    Flush(SyncSender<()>),
}

impl Sink {
    pub(crate) fn new(config: AccessLog) -> Self {
        Self {
            config,
            queue: OnceLock::new(),
        }
    }

    /// Opens the place and starts the thread, unless that was done before.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or a thread not started.
    pub(crate) fn open(&self, counts: &Arc<LineCounts>) -> io::Result<()> {
        if self.queue.get().is_some() {
            return Ok(());
        }
        let place = Place::open(&self.config.to)?;
        let (sender, messages) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            place,
            waiting: waiting.clone(),
            counts: counts.clone(),
            torn: false,
            failing: None,
        };
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run(&messages))?;
        let queue = Queue {
            sender,
            waiting,
            counts: counts.clone(),
        };
        // Nobody else opens it: a server starts once, and reloads come one by one.
        self.queue.get_or_init(|| queue);
        Ok(())
    }

    /// Takes a line, with its end, unless too many wait.
    pub(super) fn put(&self, line: Vec<u8>) {
        let Some(queue) = self.queue.get() else {
            return;
        };
        let size = line.len();
        let before = queue.waiting.fetch_add(size, Ordering::Relaxed);
        let fits = before + size <= self.config.buffer;
        if !fits || queue.sender.send(Message::Line(line)).is_err() {
            queue.waiting.fetch_sub(size, Ordering::Relaxed);
            if queue.counts.crowded_out.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(
                    "lines of the access log are lost: they come faster than they are written, and `log.access.buffer` \
                     is full; further ones are only counted (witgate_access_log_dropped_total)"
                );
            }
        }
    }

    /// Opens the file again, under its name.
    pub(crate) fn reopen(&self) {
        self.tell(Message::Reopen);
    }

    /// Waits, but not for long, until what was put is written.
    pub(crate) fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        if self.tell(Message::Flush(done)) && is_done.recv_timeout(FLUSH).is_err() {
            tracing::warn!("the last lines of the access log were not written within {FLUSH:?}");
        }
    }

    /// `false` when there is nobody to hear it.
    fn tell(&self, message: Message) -> bool {
        let queue = self.queue.get();
        queue.is_some_and(|queue| queue.sender.send(message).is_ok())
    }
}

enum Place {
    Stdout,
    Stderr,
    File(LogFile),
    Syslog(Syslog),
}

impl Place {
    fn open(to: &AccessLogTo) -> io::Result<Self> {
        Ok(match to {
            AccessLogTo::Stdout => Self::Stdout,
            AccessLogTo::Stderr => Self::Stderr,
            AccessLogTo::File(path) => Self::File(LogFile::open(path)?),
            AccessLogTo::SyslogSocket(path) => Self::Syslog(Syslog::socket(path)?),
            AccessLogTo::SyslogUdp(address) => Self::Syslog(Syslog::udp(*address)?),
        })
    }

    /// One write, which may take a part only.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => io::stdout().lock().write(bytes),
            Self::Stderr => io::stderr().lock().write(bytes),
            Self::File(file) => file.write(bytes),
            Self::Syslog(daemon) => daemon.send(bytes),
        }
    }

    /// Nothing stays in a buffer of the standard library.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().flush(),
            _ => Ok(()),
        }
    }

    /// Bytes that may go out in one write.
    fn batch(&self) -> usize {
        match self {
            // One datagram is one line.
            Self::Syslog(_) => 0,
            _ => BATCH,
        }
    }
}

struct Writer {
    place: Place,
    waiting: Arc<AtomicUsize>,
    counts: Arc<LineCounts>,
    /// The last line that was written has no end.
    torn: bool,
    /// How many lines were lost since the last one that was written.
    failing: Option<u64>,
}

impl Writer {
    /// Ends when nobody can put a line any more.
    fn run(mut self, messages: &Receiver<Message>) {
        let mut batch = Vec::new();
        let mut lines = 0;
        while let Ok(first) = messages.recv() {
            let mut next = Some(first);
            while let Some(message) = next {
                let also = match message {
                    Message::Line(line) => {
                        self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                        batch.extend_from_slice(&line);
                        lines += 1;
                        None
                    }
                    other => Some(other),
                };
                if also.is_some() || batch.len() >= self.place.batch() {
                    self.write_out(&mut batch, &mut lines);
                }
                match also {
                    Some(Message::Reopen) => self.reopen(),
                    Some(Message::Flush(done)) if done.try_send(()).is_err() => {
                        tracing::debug!("nobody waits for the lines any more");
                    }
                    _ => {}
                }
                next = messages.try_recv().ok();
            }
            self.write_out(&mut batch, &mut lines);
        }
    }

    fn write_out(&mut self, batch: &mut Vec<u8>, lines: &mut u64) {
        if batch.is_empty() {
            return;
        }
        if let Place::File(file) = &mut self.place
            && file.follow_name()
        {
            self.torn = false;
        }
        let was_torn = self.torn;
        if was_torn {
            batch.insert(0, b'\n');
        }
        let (taken, outcome) = self.write_all(batch);
        self.torn = match taken {
            0 => was_torn,
            _ => batch[taken - 1] != b'\n',
        };
        let ends = batch[taken..].iter().filter(|byte| **byte == b'\n').count() as u64;
        // One of them is no line's.
        let lost = ends - u64::from(was_torn && taken == 0);
        let written = lines.saturating_sub(lost);
        self.counts.written.fetch_add(written, Ordering::Relaxed);
        self.counts.unwritten.fetch_add(lost, Ordering::Relaxed);
        self.say(outcome.err(), lost);
        batch.clear();
        *lines = 0;
    }

    /// How much was taken, and why not all.
    fn write_all(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.place.write(&bytes[taken..]) {
                Ok(0) => return (taken, Err(io::ErrorKind::WriteZero.into())),
                Ok(more) => taken += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (taken, Err(error)),
            }
        }
        (taken, self.place.flush())
    }

    /// A place that fails is told of once, and once when it is well again.
    fn say(&mut self, error: Option<io::Error>, lost: u64) {
        match (error, self.failing) {
            (Some(error), None) => {
                tracing::error!(%error, "the access log cannot be written; lines are lost until it can");
                self.failing = Some(lost);
            }
            (Some(_), Some(before)) => self.failing = Some(before + lost),
            (None, Some(lost)) => {
                tracing::info!(lost, "the access log is written again");
                self.failing = None;
            }
            (None, None) => {}
        }
    }

    fn reopen(&mut self) {
        if let Place::File(file) = &mut self.place
            && file.reopen()
        {
            self.torn = false;
        }
    }
}
