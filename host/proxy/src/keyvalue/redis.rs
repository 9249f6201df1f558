//! A store in Redis or Valkey, for several machines.
//!
//! One connection carries the commands of all workers, side by side. It belongs to a thread of its own, so that none of
//! them waits for a worker that computes; a worker's event loop only awaits the answer. While the server cannot be
//! reached, calls fail at once, and one of them tries again now and then.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ConnectionAddr, FromRedisValue, Pipeline, TlsCertificates};
use redis::{RedisError, RedisResult, cmd};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use witgate_runtime::{Answer, KeyValue, KeyValueError, Keys};

use crate::config;

/// How long no call tries a server that did not answer the last one. Long enough that a hundred hooks do not wait for a
/// machine that is gone, and short enough that nobody notices when it is back.
const REST: Duration = Duration::from_millis(500);

/// Keys, of whomever, that the server looks at for one answer about them.
const MOST_LISTED: usize = 1000;

/// Sets a value in one step if the present one is the expected one; ARGV: whether there is to be one, that, the new one,
/// and the time to live.
const COMPARE_AND_SET: &str = "local now = redis.call('GET', KEYS[1]) \
     if ARGV[1] == '1' and now ~= ARGV[2] then return 0 end \
     if ARGV[1] == '0' and now then return 0 end \
     if ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[3]) \
     else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end \
     return 1";

/// A store on another machine.
#[derive(Debug)]
pub(super) struct RedisStore {
    settings: config::RedisStore,
    running: OnceLock<Running>,
    health: Arc<Health>,
}

struct Running {
    manager: ConnectionManager,
    executor: Handle,
    /// Dropped, it ends the thread.
    _end: oneshot::Sender<()>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Health {
    name: Arc<str>,
    base: Instant,
    /// Milliseconds since `base`.
    rests_until: AtomicU64,
    is_down: AtomicBool,
}

impl RedisStore {
    pub(super) fn new(name: Arc<str>, settings: config::RedisStore) -> Self {
        let health = Health {
            name,
            base: Instant::now(),
            rests_until: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
        };
        Self {
            settings,
            running: OnceLock::new(),
            health: Arc::new(health),
        }
    }

    /// Starts the thread. The first call makes the connection: a server that is not there yet keeps nobody from starting.
    pub(super) fn open(&self) -> Result<(), String> {
        if self.running.get().is_some() {
            return Ok(());
        }
        let client = self
            .client()
            .map_err(|error| format!("its settings cannot be used: {error}"))?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(self.settings.timeout))
            .set_response_timeout(Some(self.settings.timeout));
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no event loop for it: {error}"))?;
        let (end, ended) = oneshot::channel();
        let (ready, made) = mpsc::channel();
        let life = async move {
            let made = ConnectionManager::new_lazy_with_config(client, config);
            // Nobody listens only if the thread that opens it is gone, and then `end` is as well.
            drop(ready.send(made.map(|manager| (manager, Handle::current()))));
            drop(ended.await);
        };
        std::thread::Builder::new()
            .name("keyvalue-redis".into())
            .spawn(move || executor.block_on(life))
            .map_err(|error| format!("no thread for it: {error}"))?;
        let (manager, executor) = (made.recv())
            .map_err(|_| "its thread ended at once".to_owned())?
            .map_err(|error| format!("its settings cannot be used: {error}"))?;
        let running = Running {
            manager,
            executor,
            _end: end,
        };
        // Another thread may have been quicker; its connection is as good.
        drop(self.running.set(running));
        Ok(())
    }

    fn client(&self) -> RedisResult<Client> {
        let connection = self.settings.connection.clone();
        if !matches!(connection.addr(), ConnectionAddr::TcpTls { .. }) {
            return Client::open(connection);
        }
        let own = self.settings.ca.as_ref();
        let certificates = TlsCertificates {
            client_tls: None,
            // Without, the system's.
            root_cert: own.map(|authorities| authorities.pem().into()),
        };
        Client::build_with_tls(connection, certificates)
    }

    fn key(&self, key: &str) -> String {
        format!("{}:{key}", self.settings.prefix)
    }

    fn command<T: FromRedisValue + Send + 'static>(&self, command: Cmd) -> Answer<T> {
        self.run(async move |mut manager| command.query_async(&mut manager).await)
    }

    fn run<T, R>(&self, commands: impl FnOnce(ConnectionManager) -> R + Send + 'static) -> Answer<T>
    where
        T: Send + 'static,
        R: Future<Output = RedisResult<T>> + Send + 'static,
    {
        let unavailable = |why: &str| Answer::Now(Err(KeyValueError::Unavailable(why.into())));
        let Some(running) = self.running.get() else {
            return unavailable("it is not open yet");
        };
        if self.health.rests() {
            return unavailable("it could not be reached a moment ago");
        }
        let (manager, limit) = (running.manager.clone(), self.settings.timeout);
        let health = self.health.clone();
        let answered = running.executor.spawn(async move {
            match timeout(limit, commands(manager)).await {
                Ok(Ok(value)) => {
                    health.is_up();
                    Ok(value)
                }
                Ok(Err(error)) => Err(health.judge(&error)),
                Err(_) => Err(health.down(format!("no answer within {limit:?}"))),
            }
        });
        Answer::Later(Box::pin(async move {
            let gone = |_| Err(KeyValueError::Unavailable("its thread has ended".into()));
            answered.await.unwrap_or_else(gone)
        }))
    }
}

impl KeyValue for RedisStore {
    fn timeout(&self) -> Option<Duration> {
        Some(self.settings.timeout)
    }

    fn get(&self, key: &str) -> Answer<Option<Bytes>> {
        let mut get = cmd("GET");
        get.arg(self.key(key));
        self.command(get)
    }

    fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Answer<()> {
        let mut set = cmd("SET");
        set.arg(self.key(key)).arg(&value[..]);
        if let Some(ttl) = ttl {
            set.arg("PX").arg(milliseconds(ttl));
        }
        self.command(set)
    }

    fn delete(&self, key: &str) -> Answer<bool> {
        let mut delete = cmd("DEL");
        delete.arg(self.key(key));
        self.command(delete)
    }

    fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Answer<i64> {
        let mut increment = cmd("INCRBY");
        increment.arg(self.key(key)).arg(by);
        let Some(ttl) = ttl else {
            return self.command(increment);
        };
        // One step for the server, and the sum is exact, which a script's numbers would not be.
        let mut create = cmd("SET");
        create
            .arg(self.key(key))
            .arg(0)
            .arg("NX")
            .arg("PX")
            .arg(milliseconds(ttl));
        let mut both = Pipeline::new();
        both.atomic()
            .add_command(create)
            .ignore()
            .add_command(increment);
        self.run(async move |mut manager| {
            let (sum,): (i64,) = both.query_async(&mut manager).await?;
            Ok(sum)
        })
    }

    fn keys(&self, prefix: &str, cursor: Option<u64>) -> Answer<Keys> {
        let prefix = self.key(prefix);
        let mut scan = cmd("SCAN");
        scan.arg(cursor.unwrap_or(0))
            .arg("MATCH")
            .arg(pattern(&prefix));
        scan.arg("COUNT").arg(MOST_LISTED);
        self.run(async move |mut manager| {
            let (cursor, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut manager).await?;
            let own = |key| {
                String::from_utf8(key)
                    .ok()?
                    .strip_prefix(&prefix)
                    .map(str::to_owned)
            };
            let keys = keys.into_iter().filter_map(own).collect();
            let cursor = Some(cursor).filter(|cursor| *cursor > 0);
            Ok(Keys { keys, cursor })
        })
    }

    fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<bool> {
        let mut eval = cmd("EVAL");
        eval.arg(COMPARE_AND_SET).arg(1).arg(self.key(key));
        eval.arg(i32::from(expected.is_some()));
        eval.arg(&expected.unwrap_or_default()[..]).arg(&value[..]);
        match ttl {
            Some(ttl) => eval.arg(milliseconds(ttl)),
            None => eval.arg(""),
        };
        self.command(eval)
    }
}

impl Health {
    fn rests(&self) -> bool {
        self.now() < self.rests_until.load(Ordering::Relaxed)
    }

    fn is_up(&self) {
        if self.is_down.load(Ordering::Relaxed) && self.is_down.swap(false, Ordering::Relaxed) {
            tracing::info!(store = &*self.name, "a key-value store answers again");
        }
    }

    /// What went wrong, for the plugin; a server that is not there is left alone for a moment.
    fn judge(&self, error: &RedisError) -> KeyValueError {
        // Of a transaction, the text alone tells what one of its commands met with.
        let said = error.to_string();
        if said.contains("not an integer") || said.contains("would overflow") {
            return KeyValueError::NotANumber;
        }
        if error.code() == Some("OOM") || said.contains("OOM command not allowed") {
            return KeyValueError::Full;
        }
        match error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
            true => self.down(said),
            false => KeyValueError::Unavailable(said),
        }
    }

    fn down(&self, why: String) -> KeyValueError {
        let rest = self.now() + u64::try_from(REST.as_millis()).unwrap_or_default();
        self.rests_until.store(rest, Ordering::Relaxed);
        if !self.is_down.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                store = &*self.name,
                why,
                "a key-value store does not answer"
            );
        }
        KeyValueError::Unavailable(why)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What `SCAN` matches with all keys that begin so, and no others.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern + "*"
}

fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
