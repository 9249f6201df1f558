//! The store in memory.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use indexmap::IndexMap;

use super::{Answer, KeyValue, KeyValueError, Keys, MAX_KEY, MAX_VALUE};
use crate::clock::Clock;

/// What an entry takes beside its key and value: the map's own bytes, rounded up.
const OVERHEAD: usize = 128;

/// A part's least share of the bytes: twice the largest entry there can be, so that one always fits.
const LEAST_SHARE: usize = 2 * (MAX_VALUE + MAX_KEY + MAX_KEY + OVERHEAD);

/// More parts than a machine has workers that would be in the same one at the same time.
const MAX_PARTS: usize = 64;

/// Entries of a store that one answer about its keys looks at, whoever they belong to: 256 KiB of keys.
const MOST_LISTED: usize = 1000;

/// Changed keys of one part that are not written down yet, before no more are taken: bounds what a disk that does not
/// keep up costs in memory.
const MAX_CHANGES: usize = 16 << 10;

/// How many entries are looked at, while a part is locked, for some whose time is over.
const LOOK: usize = 128;

/// A store in memory, shared by all workers: a map in up to 64 parts by the hash of the key, each behind a lock.
///
/// The locks are there instead of a map without any because every operation that writes is a reading and a writing in
/// one step, because bytes have to be counted exactly for the bound to hold, and because they are held for moments: a
/// lookup, a comparison and the move of a pointer, without the copy of a value or anything that waits. Reading takes a
/// part's lock together with other readers, one atomic operation, and puts no entry in order. So workers meet only in
/// the same part in the same moment.
///
/// Bounded by `size` bytes of keys, values and 128 more for each, spread evenly over the parts. A part that is full
/// forgets, or refuses: see [`new`](Self::new) and [`recorded`](Self::recorded).
#[derive(Debug)]
pub struct MemoryStore {
    parts: Box<[RwLock<Part>]>,
    hasher: RandomState,
    share: usize,
    clock: Clock,
    recorded: bool,
}

#[derive(Default)]
struct Part {
    entries: IndexMap<Box<str>, Entry>,
    /// Bytes.
    used: usize,
    /// Which entry is looked at next for room.
    hand: usize,
    /// Keys whose entries are others than were written down.
    changed: HashSet<Box<str>>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys and values are the plugins' business and may be secrets.
        write!(f, "{} entries of {} bytes", self.entries.len(), self.used)
    }
}

struct Entry {
    value: Value,
    /// Milliseconds of the clock.
    expires: u64,
    /// Since the hand came by.
    used: AtomicBool,
}

const NEVER: u64 = u64::MAX;

#[derive(Clone, PartialEq)]
enum Value {
    Bytes(Bytes),
    Number(i64),
}

/// An entry as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The value; numbers in decimal digits.
    pub value: Bytes,
    /// How long it has to live from now.
    pub ttl: Option<Duration>,
}

/// A key that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// With its namespace.
    pub key: Box<str>,
    /// What it is now; `None` when it is gone.
    pub now: Option<Stored>,
}

impl MemoryStore {
    /// A store of so many bytes, at least 4 MiB. When a part of it is full, entries go whose time is over, then those
    /// that were not read or written since the last time this part looked for room (the CLOCK algorithm, which comes
    /// near to forgetting the least recently used, without an order to keep).
    pub fn new(size: usize, clock: Clock) -> Self {
        let parts = (size / LEAST_SHARE).clamp(1, MAX_PARTS);
        Self {
            parts: (0..parts).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            share: (size / parts).max(LEAST_SHARE),
            clock,
            recorded: false,
        }
    }

    /// The same for somebody who writes all changes down: [`take_changes`](Self::take_changes). Full, it refuses
    /// instead of forgetting ([`KeyValueError::Full`]), and when changes are not taken, as
    /// [`KeyValueError::Unavailable`].
    pub fn recorded(size: usize, clock: Clock) -> Self {
        Self {
            recorded: true,
            ..Self::new(size, clock)
        }
    }

    /// Puts back what was written down, as far as there is room, and says whether there was.
    pub fn restore(&self, key: &str, stored: Stored) -> bool {
        let now = self.clock.now();
        let mut part = self.write(key);
        let put = part.put(
            key,
            stored.value.into(),
            self.expiry(now, stored.ttl),
            self,
            now,
        );
        part.changed.remove(key);
        put.is_ok()
    }

    /// All that has changed since the last time, in no order; each key once, as it is now.
    pub fn take_changes(&self) -> Vec<Change> {
        let now = self.clock.now();
        let mut changes = Vec::new();
        for part in &self.parts {
            let changed = std::mem::take(&mut whole(part.write()).changed);
            let part = whole(part.read());
            changes.extend(changed.into_iter().map(|key| {
                let entry = part.entries.get(&key).filter(|entry| entry.lives(now));
                Change {
                    now: entry.map(|entry| entry.stored(now)),
                    key,
                }
            }));
        }
        changes
    }

    /// Says that a change could not be written down, so that it is taken again.
    pub fn put_back(&self, changes: Vec<Change>) {
        for change in changes {
            self.write(&change.key).changed.insert(change.key);
        }
    }

    /// Drops what has expired, a little at a time, so that no call waits for it.
    pub fn sweep(&self) {
        let now = self.clock.now();
        for part in &self.parts {
            let mut from = 0;
            loop {
                let mut part = whole(part.write());
                if from >= part.entries.len() {
                    break;
                }
                from = part.drop_expired(from, now, self.recorded);
            }
        }
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.parts.iter().map(|part| whole(part.read()).used).sum()
    }

    fn part(&self, key: &str) -> &RwLock<Part> {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or_default();
        &self.parts[hash % self.parts.len()]
    }

    fn read(&self, key: &str) -> RwLockReadGuard<'_, Part> {
        whole(self.part(key).read())
    }

    fn write(&self, key: &str) -> RwLockWriteGuard<'_, Part> {
        whole(self.part(key).write())
    }

    fn expiry(&self, now: u64, ttl: Option<Duration>) -> u64 {
        match ttl {
            None => NEVER,
            Some(ttl) => now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(NEVER)),
        }
    }
}

/// Whoever panicked did so before or after a change: each is made of steps that cannot.
fn whole<G>(guard: Result<G, PoisonError<G>>) -> G {
    guard.unwrap_or_else(PoisonError::into_inner)
}

impl KeyValue for MemoryStore {
    fn timeout(&self) -> Option<Duration> {
        None
    }

    fn get(&self, key: &str) -> Answer<Option<Bytes>> {
        let now = self.clock.now();
        let part = self.read(key);
        let found = part.entries.get(key).filter(|entry| entry.lives(now));
        Answer::Now(Ok(found.map(|entry| {
            entry.touch();
            entry.value.bytes()
        })))
    }

    fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Answer<()> {
        let now = self.clock.now();
        let expires = self.expiry(now, ttl);
        Answer::Now(self.write(key).put(key, value.into(), expires, self, now))
    }

    fn delete(&self, key: &str) -> Answer<bool> {
        let now = self.clock.now();
        let mut part = self.write(key);
        if let Err(error) = part.may_change(key, self) {
            return Answer::Now(Err(error));
        }
        let gone = part
            .entries
            .get_index_of(key)
            .map(|at| part.remove(at, self.recorded));
        Answer::Now(Ok(gone.is_some_and(|entry| entry.lives(now))))
    }

    fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Answer<i64> {
        let now = self.clock.now();
        let mut part = self.write(key);
        let found = part.entries.get(key).filter(|entry| entry.lives(now));
        let (number, expires) = match found {
            None => (Some(0), self.expiry(now, ttl)),
            Some(entry) => (entry.value.number(), entry.expires),
        };
        let Some(sum) = number.and_then(|number| number.checked_add(by)) else {
            return Answer::Now(Err(KeyValueError::NotANumber));
        };
        let put = part.put(key, Value::Number(sum), expires, self, now);
        Answer::Now(put.map(|()| sum))
    }

    fn keys(&self, prefix: &str, cursor: Option<u64>) -> Answer<Keys> {
        let now = self.clock.now();
        let (mut at, mut below) = match cursor {
            None => (0, usize::MAX),
            Some(cursor) => (
                (cursor >> 32) as usize,
                (cursor & u64::from(u32::MAX)) as usize,
            ),
        };
        let (mut keys, mut looked) = (Vec::new(), 0);
        while let Some(part) = self.parts.get(at) {
            let part = whole(part.read());
            // Backwards: what goes leaves its place to the last one, which was looked at already.
            let end = part.entries.len().min(below);
            let begin = end.saturating_sub(MOST_LISTED - looked);
            for (key, entry) in (begin..end)
                .rev()
                .filter_map(|at| part.entries.get_index(at))
            {
                if let Some(key) = key.strip_prefix(prefix).filter(|_| entry.lives(now)) {
                    keys.push(key.to_owned());
                }
            }
            looked += end - begin;
            if begin > 0 {
                let cursor = Some((at as u64) << 32 | begin as u64);
                return Answer::Now(Ok(Keys { keys, cursor }));
            }
            (at, below) = (at + 1, usize::MAX);
        }
        let cursor = None;
        Answer::Now(Ok(Keys { keys, cursor }))
    }

    fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Answer<bool> {
        let now = self.clock.now();
        let mut part = self.write(key);
        let found = part.entries.get(key).filter(|entry| entry.lives(now));
        if found.map(|entry| entry.value.bytes()) != expected {
            return Answer::Now(Ok(false));
        }
        let put = part.put(key, value.into(), self.expiry(now, ttl), self, now);
        Answer::Now(put.map(|()| true))
    }
}

impl Part {
    fn put(
        &mut self,
        key: &str,
        value: Value,
        expires: u64,
        store: &MemoryStore,
        now: u64,
    ) -> Result<(), KeyValueError> {
        self.may_change(key, store)?;
        let size = value.size() + key.len() + OVERHEAD;
        if let Some(entry) = self.entries.get_mut(key) {
            let before = entry.value.size() + key.len() + OVERHEAD;
            let others = self.used - before;
            if others + size <= store.share {
                self.used = others + size;
                entry.value = value;
                entry.expires = expires;
                entry.touch();
                self.note(key, store);
                return Ok(());
            }
        }
        self.make_room(key, size, store, now)?;
        let entry = Entry {
            value,
            expires,
            used: AtomicBool::new(false),
        };
        self.used += size;
        if let Some(replaced) = self.entries.insert(key.into(), entry) {
            self.used -= replaced.size(key);
        }
        self.note(key, store);
        Ok(())
    }

    /// Room for an entry of this size. What the key has now does not count, and may go for it.
    fn make_room(
        &mut self,
        key: &str,
        size: usize,
        store: &MemoryStore,
        now: u64,
    ) -> Result<(), KeyValueError> {
        if self.used + size <= store.share {
            return Ok(());
        }
        if store.recorded {
            let from = self.hand_in_range();
            self.hand = self.drop_expired(from, now, true);
            let replaced = self.entries.get(key).map_or(0, |entry| entry.size(key));
            return match self.used - replaced + size <= store.share {
                true => Ok(()),
                false => Err(KeyValueError::Full),
            };
        }
        while self.used + size > store.share && !self.entries.is_empty() {
            self.forget_one(now);
        }
        Ok(())
    }

    /// The first that was not used since the hand came by. After some that all were, the next one, used or not: the
    /// part is locked meanwhile.
    fn forget_one(&mut self, now: u64) {
        const MOST: usize = 1024;
        for _ in 0..MOST {
            let at = self.hand_in_range();
            let (_, entry) = self.entries.get_index(at).expect("there is an entry");
            if !entry.lives(now) || !entry.used.swap(false, Ordering::Relaxed) {
                break;
            }
            self.hand = at + 1;
        }
        let at = self.hand_in_range();
        drop(self.remove(at, false));
    }

    fn hand_in_range(&self) -> usize {
        match self.hand < self.entries.len() {
            true => self.hand,
            false => 0,
        }
    }

    /// Looks at a few entries, and gives the index to go on from.
    fn drop_expired(&mut self, from: usize, now: u64, note: bool) -> usize {
        let mut at = from;
        for _ in 0..LOOK {
            match self.entries.get_index(at) {
                // The last one takes its place and is looked at next.
                Some((_, entry)) if !entry.lives(now) => drop(self.remove(at, note)),
                Some(_) => at += 1,
                None => break,
            }
        }
        at
    }

    fn remove(&mut self, at: usize, note: bool) -> Entry {
        let removed = self.entries.swap_remove_index(at);
        let (key, entry) = removed.expect("the index is that of an entry");
        self.used -= entry.size(&key);
        if note {
            self.changed.insert(key);
        }
        entry
    }

    fn note(&mut self, key: &str, store: &MemoryStore) {
        if store.recorded && !self.changed.contains(key) {
            self.changed.insert(key.into());
        }
    }

    fn may_change(&self, key: &str, store: &MemoryStore) -> Result<(), KeyValueError> {
        let behind = store.recorded && self.changed.len() >= MAX_CHANGES;
        if behind && !self.changed.contains(key) {
            let why = "the disk does not keep up with the changes";
            return Err(KeyValueError::Unavailable(why.into()));
        }
        Ok(())
    }
}

impl Entry {
    fn lives(&self, now: u64) -> bool {
        now < self.expires
    }

    fn size(&self, key: &str) -> usize {
        self.value.size() + key.len() + OVERHEAD
    }

    /// Written to only when it changes, so that a key that all workers read stays in all their caches.
    fn touch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    fn stored(&self, now: u64) -> Stored {
        Stored {
            value: self.value.bytes(),
            ttl: (self.expires != NEVER).then(|| Duration::from_millis(self.expires - now)),
        }
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl Value {
    fn size(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Number(_) => 0,
        }
    }

    fn bytes(&self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Number(number) => number.to_string().into(),
        }
    }

    /// Exactly the digits that [`bytes`](Self::bytes) writes: no sign of plus, no zeros before, no blanks.
    fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Bytes(bytes) => {
                let text = std::str::from_utf8(bytes).ok()?;
                let number: i64 = text.parse().ok()?;
                (number.to_string() == text).then_some(number)
            }
        }
    }
}

#[cfg(test)]
mod tests;
