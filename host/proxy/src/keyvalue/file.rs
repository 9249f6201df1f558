//! A store that outlives the process.
//!
//! What it holds is in memory, so that no call reads a disk; a thread of its own writes the changes down, each batch in
//! one transaction. What was set less than a moment ago is lost when the machine or the process is killed, and nothing
//! when it is stopped in order; the file is whole in either case.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use witgate_runtime::{Answer, Change, Clock, KeyValue, KeyValueError, Keys, MemoryStore, Stored};

/// By key: when it expires, in milliseconds since 1970 or [`NEVER`], and its value.
const TABLE: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("witgate-keyvalue-1");

const NEVER: u64 = u64::MAX;

/// How long changes are gathered: a transaction makes the disk write everything out, whatever is in it.
const GATHER: Duration = Duration::from_millis(20);

/// How often what has expired is looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// How soon a write is tried again that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Memory for pages of the file. They are read once, at the start.
const PAGES: usize = 4 << 20;

/// A store in a file of redb's format.
#[derive(Debug)]
pub(super) struct FileStore {
    path: PathBuf,
    size: usize,
    memory: Arc<MemoryStore>,
    state: Arc<State>,
    /// To the thread that writes. It ends, with everything written, when there is nobody left to give orders; whoever
    /// drops the store may be a worker and does not wait for it.
    orders: OnceLock<Sender<Order>>,
    /// Held while it is opened, so that nobody opens it twice.
    opening: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The writer has been told of changes, and has not looked yet.
    told: AtomicBool,
    /// The last write failed.
    failing: AtomicBool,
}

enum Order {
    Write,
    /// Answers by dropping it when everything is written.
    Flush(Sender<()>),
}

impl FileStore {
    pub(super) fn new(path: PathBuf, size: usize) -> Self {
        Self {
            path,
            size,
            memory: Arc::new(MemoryStore::recorded(size, Clock::default())),
            state: Arc::default(),
            orders: OnceLock::new(),
            opening: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Reads the file and starts the thread that writes it; does nothing when that has been done.
    pub(super) fn open(&self) -> Result<(), String> {
        let _alone = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if self.orders.get().is_some() {
            return Ok(());
        }
        let file = self.path.display();
        let database = open(&self.path).map_err(|error| explain(&self.path, &error))?;
        let left_out = load(&database, &self.memory)
            .map_err(|error| format!("{file} cannot be read: {error}"))?;
        if left_out > 0 {
            tracing::warn!(%file, left_out, "entries of a store do not fit its `size` and are not there");
        }
        let (orders, received) = channel();
        let task = Task {
            database,
            memory: self.memory.clone(),
            state: self.state.clone(),
            path: self.path.clone(),
        };
        std::thread::Builder::new()
            .name("keyvalue-file".into())
            .spawn(move || task.run(&received))
            .map_err(|error| format!("no thread to write {file}: {error}"))?;
        let opened = self.orders.set(orders);
        opened.map_err(|_| "it was opened twice".to_owned())
    }

    /// Writes everything down. Blocks.
    pub(super) fn flush(&self) {
        let orders = self.orders.get();
        let (done, is_done) = channel();
        if orders.is_some_and(|orders| orders.send(Order::Flush(done)).is_ok()) {
            // Nothing is ever sent: it ends when the other side is dropped.
            is_done.iter().for_each(drop);
        }
    }

    /// Has a change written down that was made in memory.
    fn written<T>(&self, answer: Answer<T>) -> Answer<T> {
        if !self.state.told.swap(true, Ordering::AcqRel)
            && let Some(orders) = self.orders.get()
            && orders.send(Order::Write).is_err()
        {
            tracing::error!(file = %self.path.display(), "the thread that writes a store has ended");
            self.state.failing.store(true, Ordering::Release);
        }
        answer
    }

    /// Whether what is set now would be written down.
    fn writable(&self) -> Result<(), KeyValueError> {
        if self.orders.get().is_none() {
            return Err(KeyValueError::Unavailable("it is not open yet".into()));
        }
        match self.state.failing.load(Ordering::Acquire) {
            true => Err(KeyValueError::Unavailable(
                "its file cannot be written".into(),
            )),
            false => Ok(()),
        }
    }
}

impl KeyValue for FileStore {
    fn timeout(&self) -> Option<Duration> {
        None
    }

    fn get(&self, key: &str) -> Answer<Option<Bytes>> {
        self.memory.get(key)
    }

    fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Answer<()> {
        match self.writable() {
            Ok(()) => self.written(self.memory.set(key, value, ttl)),
            Err(error) => Answer::Now(Err(error)),
        }
    }

    fn delete(&self, key: &str) -> Answer<bool> {
        match self.writable() {
            Ok(()) => self.written(self.memory.delete(key)),
            Err(error) => Answer::Now(Err(error)),
        }
    }

    fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Answer<i64> {
        match self.writable() {
            Ok(()) => self.written(self.memory.increment(key, by, ttl)),
            Err(error) => Answer::Now(Err(error)),
        }
    }

    fn keys(&self, prefix: &str, cursor: Option<u64>) -> Answer<Keys> {
        self.memory.keys(prefix, cursor)
    }

    fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<bool> {
        match self.writable() {
            Ok(()) => self.written(self.memory.compare_and_set(key, expected, value, ttl)),
            Err(error) => Answer::Now(Err(error)),
        }
    }
}

/// The thread that writes.
struct Task {
    database: Database,
    memory: Arc<MemoryStore>,
    state: Arc<State>,
    path: PathBuf,
}

impl Task {
    fn run(&self, orders: &Receiver<Order>) {
        let mut swept = Instant::now();
        loop {
            let failing = self.state.failing.load(Ordering::Acquire);
            let patience = if failing { RETRY } else { SWEEP };
            let order = orders.recv_timeout(patience);
            if swept.elapsed() >= SWEEP {
                self.memory.sweep();
                swept = Instant::now();
            }
            match order {
                Ok(Order::Write) => {
                    std::thread::sleep(GATHER);
                    self.write_changes();
                }
                Ok(Order::Flush(_done)) => self.write_changes(),
                Err(RecvTimeoutError::Timeout) => self.write_changes(),
                Err(RecvTimeoutError::Disconnected) => return self.write_changes(),
            }
        }
    }

    fn write_changes(&self) {
        // Before they are taken: what changes from now on is told again.
        self.state.told.store(false, Ordering::Release);
        let changes = self.memory.take_changes();
        let file = self.path.display();
        match write(&self.database, &changes) {
            Ok(()) => {
                if self.state.failing.swap(false, Ordering::AcqRel) {
                    tracing::info!(%file, "the file of a store can be written again");
                }
            }
            Err(error) => {
                self.memory.put_back(changes);
                if !self.state.failing.swap(true, Ordering::AcqRel) {
                    tracing::error!(%file, %error, "the file of a store cannot be written; it takes no changes until it can");
                }
            }
        }
    }
}

fn write(database: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let now = unix_time();
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for Change { key, now: stored } in changes {
            match stored {
                None => drop(table.remove(&**key)?),
                Some(Stored { value, ttl }) => {
                    let expires = ttl.map_or(NEVER, |ttl| now.saturating_add(milliseconds(ttl)));
                    drop(table.insert(&**key, (expires, &**value))?);
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Reads what has not expired, and says how many entries there was no room for.
fn load(database: &Database, memory: &MemoryStore) -> Result<usize, redb::Error> {
    let transaction = database.begin_write()?;
    let now = unix_time();
    // What ended while nobody looked would stay for ever.
    (transaction.open_table(TABLE)?).retain(|_, (expires, _)| expires == NEVER || expires > now)?;
    transaction.commit()?;
    let mut left_out = 0;
    for entry in database.begin_read()?.open_table(TABLE)?.iter()? {
        let (key, stored) = entry?;
        let (expires, value) = stored.value();
        let ttl = match expires {
            NEVER => None,
            _ => Some(Duration::from_millis(expires.saturating_sub(now))),
        };
        let value = Bytes::copy_from_slice(value);
        if !memory.restore(key.value(), Stored { value, ttl }) {
            left_out += 1;
        }
    }
    Ok(left_out)
}

fn open(path: &Path) -> Result<Database, DatabaseError> {
    let file = private(path)?;
    let mut builder = Builder::new();
    builder.set_cache_size(PAGES);
    builder.create_with_backend(FileBackend::new(file)?)
}

/// The file, which nobody else may read: tokens and addresses are in such stores.
fn private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn explain(path: &Path, error: &DatabaseError) -> String {
    let file = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen => format!(
            "{file} is open already; stop the process that has it, or, after a reload that took the store away, try again when its last exchange has ended"
        ),
        other => format!("{file} cannot be opened: {other}"),
    }
}

fn unix_time() -> u64 {
    // A clock before 1970 is wrong, and then nothing has expired.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, milliseconds)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER - 1)
}
