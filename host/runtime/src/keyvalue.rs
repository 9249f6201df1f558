//! Values that outlive an instance: what a plugin may do with a store, and which keys there are its own.
//!
//! This crate has the store in memory; those that need a file or a network come with the grant, as a [`KeyValue`].
//!
//! The standard's `wasi:keyvalue` is there as well ([`standard`]), over the same stores. wasmtime has a crate for it, which
//! is not used: its one store is a map that lives and dies with an instance, so that neither workers nor the exchanges
//! of a recycled instance could share anything; and its bindings are its own.

mod memory;
pub(crate) mod standard;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmtime::{Result, bail};

pub use memory::{Change, MemoryStore, Stored};

use crate::bindings::keyvalue::{Error, Host};
use crate::instance::{Phase, State};
use crate::stopwatch::Stopwatch;

/// Longest key, in bytes: a digest, a token or a path fits, and an index of keys stays small.
pub const MAX_KEY: usize = 256;

/// Largest value that may be granted, in bytes. Every store takes one of these into an empty part of it.
pub const MAX_VALUE: usize = 1 << 20;

/// Longest time to live. Also keeps sums of times far from their end.
const MAX_TTL: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// A store, shared by all workers and by the plugins that it is granted to. Keys come with their namespace.
///
/// Each operation is one step: no other comes between its reading and its writing, whichever worker calls.
pub trait KeyValue: fmt::Debug + Send + Sync {
    /// How long the calls of one hook call may wait together; `None` when every answer is [`Now`](Answer::Now).
    fn timeout(&self) -> Option<Duration>;

    /// The value, if there is one.
    fn get(&self, key: &str) -> Answer<Option<Bytes>>;

    /// Sets a value.
    fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Answer<()>;

    /// Deletes a key, and says whether it was there.
    fn delete(&self, key: &str) -> Answer<bool>;

    /// Adds to a number, and gives the sum. The time to live is for a key that was not there.
    fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Answer<i64>;

    /// Sets a value in place of the expected one, and says whether that was there.
    fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<bool>;

    /// Some of the keys that begin so, without that beginning, from a cursor of an earlier answer on. In no order; one that
    /// was there all the time is in one answer at least. Not every store can.
    fn keys(&self, _prefix: &str, _cursor: Option<u64>) -> Answer<Keys> {
        let why = "its keys cannot be listed";
        Answer::Now(Err(KeyValueError::Unavailable(why.into())))
    }
}

/// Some keys of a store. None of them, and a cursor, means that others have to be asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// At most some hundred KiB.
    pub keys: Vec<String>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<u64>,
}

/// What a store says.
pub enum Answer<T> {
    /// At once.
    Now(Result<T, KeyValueError>),
    /// When it is awaited. The caller bounds the time; dropping the future gives up the wait, not what is under way.
    Later(Pin<Box<dyn Future<Output = Result<T, KeyValueError>> + Send>>),
}

/// Why a store did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    /// What is stored is no integer, or the sum would not be one of 64 bits.
    #[error("what is stored is no 64-bit integer, or the sum would be none")]
    NotANumber,
    /// No room.
    #[error("the store is full")]
    Full,
    /// Not reached, not in time, or not writable.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

/// `grant.keyvalue`: leave to use a store.
#[derive(Debug, Clone)]
pub struct KeyValueGrant {
    /// The store.
    pub store: Arc<dyn KeyValue>,
    /// What the operator calls the store: a standard component may ask for it by this name.
    pub name: Arc<str>,
    /// What stands before each key in the store, so that plugins do not meet: `plugin:NAME:` or `shared:NAME:`.
    pub namespace: Arc<str>,
    /// Bytes of a value, at most [`MAX_VALUE`].
    pub value_size: usize,
    /// Without `set`, `delete`, `increment` and `compare-and-set`.
    pub read_only: bool,
}

/// The grant as one instance has it.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    grant: Option<KeyValueGrant>,
    /// In the present call.
    waited: Duration,
}

impl Lent {
    pub(crate) fn new(grant: Option<KeyValueGrant>) -> Self {
        Self {
            grant,
            waited: Duration::ZERO,
        }
    }

    /// A call of the guest begins.
    pub(crate) fn begin(&mut self) {
        self.waited = Duration::ZERO;
    }

    fn get(&self, key: &str) -> Result<Answer<Option<Bytes>>, Error> {
        let grant = self.grant()?;
        Ok(grant.store.get(&grant.name(key)?))
    }

    fn set(&self, key: &str, value: Vec<u8>, ttl: Option<u64>) -> Result<Answer<()>, Error> {
        let grant = self.writable()?;
        let (key, value) = (grant.name(key)?, grant.value(value)?);
        Ok(grant.store.set(&key, value, time_to_live(ttl)))
    }

    fn delete(&self, key: &str) -> Result<Answer<bool>, Error> {
        let grant = self.writable()?;
        Ok(grant.store.delete(&grant.name(key)?))
    }

    fn increment(&self, key: &str, by: i64, ttl: Option<u64>) -> Result<Answer<i64>, Error> {
        let grant = self.writable()?;
        let key = grant.name(key)?;
        Ok(grant.store.increment(&key, by, time_to_live(ttl)))
    }

    fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl: Option<u64>,
    ) -> Result<Answer<bool>, Error> {
        let grant = self.writable()?;
        let (key, value) = (grant.name(key)?, grant.value(value)?);
        let expected = expected.map(Bytes::from);
        let ttl = time_to_live(ttl);
        Ok(grant.store.compare_and_set(&key, expected, value, ttl))
    }

    fn keys(&self, cursor: Option<u64>) -> Result<Answer<Keys>, Error> {
        let grant = self.grant()?;
        Ok(grant.store.keys(&grant.namespace, cursor))
    }

    /// Waits for an answer, as long as the call may still wait. None of it counts as run time.
    async fn in_time<T>(
        &mut self,
        answer: Result<Answer<T>, Error>,
        stopwatch: Option<&Arc<Stopwatch>>,
    ) -> Result<T, Error> {
        let future = match answer? {
            Answer::Now(answer) => return answer.map_err(Error::from),
            Answer::Later(future) => future,
        };
        let grant = self.grant.as_ref();
        let timeout = grant.and_then(|grant| grant.store.timeout());
        let left = timeout.unwrap_or_default().saturating_sub(self.waited);
        let started = Instant::now();
        let answered = {
            let _time_stands_still = stopwatch.map(Stopwatch::wait);
            tokio::time::timeout(left, future).await
        };
        self.waited += started.elapsed();
        match answered {
            Ok(answer) => answer.map_err(Error::from),
            Err(_) => Err(late()),
        }
    }

    /// The grant, for a call that may still wait: one that may not is not begun, as nobody would hear how it ended.
    fn grant(&self) -> Result<&KeyValueGrant, Error> {
        let grant = self.grant.as_ref().ok_or(Error::NotGranted)?;
        match grant.store.timeout() {
            Some(timeout) if self.waited >= timeout => Err(late()),
            _ => Ok(grant),
        }
    }

    fn writable(&self) -> Result<&KeyValueGrant, Error> {
        let grant = self.grant()?;
        match grant.read_only {
            true => Err(Error::NotGranted),
            false => Ok(grant),
        }
    }
}

impl KeyValueGrant {
    /// The key as the store knows it.
    fn name(&self, key: &str) -> Result<String, Error> {
        match (1..=MAX_KEY).contains(&key.len()) {
            true => Ok([&self.namespace, key].concat()),
            false => Err(Error::InvalidKey),
        }
    }

    fn value(&self, value: Vec<u8>) -> Result<Bytes, Error> {
        match value.len() <= self.value_size {
            true => Ok(value.into()),
            false => Err(Error::TooLarge(self.value_size as u64)),
        }
    }
}

fn late() -> Error {
    Error::Unavailable("no answer in time".into())
}

fn time_to_live(ttl: Option<u64>) -> Option<Duration> {
    ttl.map(|ms| Duration::from_millis(ms.max(1)).min(MAX_TTL))
}

impl From<KeyValueError> for Error {
    fn from(error: KeyValueError) -> Self {
        match error {
            KeyValueError::NotANumber => Self::NotANumber,
            KeyValueError::Full => Self::Full,
            KeyValueError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

impl State {
    fn lent(&self) -> Result<&Lent> {
        match self.without_stores() {
            Some(call) => bail!("stores are used in hooks and transforms, not in {call}"),
            None => Ok(&self.keyvalue),
        }
    }

    /// The present call, if it is one that has no stores.
    pub(crate) fn without_stores(&self) -> Option<&'static str> {
        match self.phase {
            Phase::Other(call @ ("start" | "configure" | "config-schema")) => Some(call),
            _ => None,
        }
    }

    async fn in_time<T>(&mut self, answer: Result<Answer<T>, Error>) -> Result<T, Error> {
        self.keyvalue.in_time(answer, Some(&self.stopwatch)).await
    }
}

impl Host for State {
    async fn get(&mut self, key: String) -> Result<Result<Option<Vec<u8>>, Error>> {
        let answer = self.lent()?.get(&key);
        let value = self.in_time(answer).await;
        Ok(value.map(|value| value.map(Vec::from)))
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl: Option<u64>,
    ) -> Result<Result<(), Error>> {
        let answer = self.lent()?.set(&key, value, ttl);
        Ok(self.in_time(answer).await)
    }

    async fn delete(&mut self, key: String) -> Result<Result<bool, Error>> {
        let answer = self.lent()?.delete(&key);
        Ok(self.in_time(answer).await)
    }

    async fn increment(
        &mut self,
        key: String,
        by: i64,
        ttl: Option<u64>,
    ) -> Result<Result<i64, Error>> {
        let answer = self.lent()?.increment(&key, by, ttl);
        Ok(self.in_time(answer).await)
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl: Option<u64>,
    ) -> Result<Result<bool, Error>> {
        let answer = self.lent()?.compare_and_set(&key, expected, value, ttl);
        Ok(self.in_time(answer).await)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Counts what it is asked, and answers nothing.
    #[derive(Debug, Default)]
    struct Asked(AtomicU32);

    impl Asked {
        fn never<T>(&self) -> Answer<T> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Answer::Now(Err(KeyValueError::Full))
        }
    }

    impl KeyValue for Asked {
        fn timeout(&self) -> Option<Duration> {
            Some(Duration::from_millis(5))
        }

        fn get(&self, _: &str) -> Answer<Option<Bytes>> {
            self.never()
        }

        fn set(&self, _: &str, _: Bytes, _: Option<Duration>) -> Answer<()> {
            self.never()
        }

        fn delete(&self, _: &str) -> Answer<bool> {
            self.never()
        }

        fn increment(&self, _: &str, _: i64, _: Option<Duration>) -> Answer<i64> {
            self.never()
        }

        fn compare_and_set(
            &self,
            _: &str,
            _: Option<Bytes>,
            _: Bytes,
            _: Option<Duration>,
        ) -> Answer<bool> {
            self.never()
        }
    }

    #[test]
    fn a_store_is_not_asked_by_a_call_that_may_not_wait_any_more() {
        let store = Arc::new(Asked::default());
        let mut lent = Lent::new(Some(KeyValueGrant {
            store: store.clone(),
            name: "default".into(),
            namespace: "plugin:a:".into(),
            value_size: 10,
            read_only: false,
        }));
        let unavailable = |error: Error| matches!(error, Error::Unavailable(_));
        lent.waited = Duration::from_millis(5);
        assert!(lent.get("a").err().is_some_and(unavailable));
        assert!(lent.set("a", vec![1], None).err().is_some_and(unavailable));
        assert!(lent.delete("a").err().is_some_and(unavailable));
        assert!(lent.increment("a", 1, None).err().is_some_and(unavailable));
        let swapped = lent.compare_and_set("a", None, vec![1], None);
        assert!(swapped.err().is_some_and(unavailable));
        assert_eq!(store.0.load(Ordering::Relaxed), 0);

        lent.begin();
        assert!(lent.get("a").is_ok());
        assert_eq!(store.0.load(Ordering::Relaxed), 1);
    }
}
