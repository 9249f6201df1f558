use super::*;

const LEAST: usize = 4 << 20;

fn now<T>(answer: Answer<T>) -> Result<T, KeyValueError> {
    match answer {
        Answer::Now(answer) => answer,
        Answer::Later(_) => unreachable!("nothing here waits"),
    }
}

fn set(store: &MemoryStore, key: &str, size: usize) -> Result<(), KeyValueError> {
    now(store.set(key, vec![0; size].into(), None))
}

fn has(store: &MemoryStore, key: &str) -> bool {
    now(store.get(key)).expect("it never fails").is_some()
}

#[test]
fn a_flood_of_keys_stays_within_the_bound_and_leaves_what_is_used() {
    let store = MemoryStore::new(LEAST, Clock::default());
    set(&store, "used", 10).expect("there is room");
    for key in 0..200_000 {
        set(&store, &format!("flood-{key}"), 10).expect("room is made");
        // Between two rounds of the hand there are thousands of these.
        if key % 100 == 0 {
            assert!(has(&store, "used"), "forgotten at {key}");
        }
    }
    assert!(store.used() <= LEAST, "{} bytes", store.used());
    assert!(store.used() > LEAST / 2, "{} bytes", store.used());
    assert!(!has(&store, "flood-0"));
}

#[test]
fn the_largest_entry_always_finds_room() {
    let store = MemoryStore::new(LEAST, Clock::default());
    for key in 0..20 {
        let key = format!("{key:0>width$}", width = MAX_KEY);
        set(&store, &key, MAX_VALUE).expect("room is made");
        assert!(has(&store, &key));
    }
    assert!(store.used() <= LEAST);
}

#[test]
fn bytes_are_counted_back_when_entries_shrink_expire_or_go() {
    let clock = Clock::standing();
    let store = MemoryStore::new(LEAST, clock.clone());
    set(&store, "a", 1000).expect("there is room");
    set(&store, "a", 10).expect("it shrinks");
    assert_eq!(store.used(), 10 + 1 + OVERHEAD);
    let second = Some(Duration::from_secs(1));
    now(store.set("b", Bytes::from_static(b"x"), second)).expect("there is room");
    clock.advance(Duration::from_millis(999));
    assert!(has(&store, "b"));
    clock.advance(Duration::from_millis(1));
    assert!(!has(&store, "b"));
    store.sweep();
    assert_eq!(store.used(), 10 + 1 + OVERHEAD);
    assert_eq!(now(store.delete("a")), Ok(true));
    assert_eq!(store.used(), 0);
}

#[test]
fn a_number_keeps_the_time_that_it_was_made_with() {
    let clock = Clock::standing();
    let store = MemoryStore::new(LEAST, clock.clone());
    let minute = Some(Duration::from_secs(60));
    assert_eq!(now(store.increment("n", 1, minute)), Ok(1));
    clock.advance(Duration::from_secs(59));
    assert_eq!(now(store.increment("n", 1, minute)), Ok(2));
    clock.advance(Duration::from_secs(1));
    assert_eq!(now(store.increment("n", 1, minute)), Ok(1));
}

#[test]
fn what_is_recorded_is_told_once_and_as_it_is() {
    let clock = Clock::standing();
    let store = MemoryStore::recorded(LEAST, clock.clone());
    now(store.increment("n", 1, Some(Duration::from_secs(60)))).expect("there is room");
    now(store.increment("n", 1, None)).expect("there is room");
    set(&store, "gone", 1).expect("there is room");
    now(store.delete("gone")).expect("it was there");
    clock.advance(Duration::from_secs(20));
    let mut changes = store.take_changes();
    changes.sort_by(|one, other| one.key.cmp(&other.key));
    let number = Stored {
        value: Bytes::from_static(b"2"),
        ttl: Some(Duration::from_secs(40)),
    };
    let told = |key: &str, now| Change {
        key: key.into(),
        now,
    };
    assert_eq!(
        changes,
        [told("gone", None), told("n", Some(number.clone()))]
    );
    assert_eq!(store.take_changes(), []);

    // What expires is told as well, and what could not be written down again.
    clock.advance(Duration::from_secs(40));
    store.sweep();
    let changes = store.take_changes();
    assert_eq!(changes, [told("n", None)]);
    store.put_back(changes);
    assert_eq!(store.take_changes(), [told("n", None)]);

    assert!(store.restore("n", number));
    assert_eq!(now(store.increment("n", 1, None)), Ok(3));
}

#[test]
fn changes_that_nobody_takes_are_bounded() {
    let store = MemoryStore::recorded(LEAST, Clock::default());
    let refused = (0..1_000_000).find_map(|key| {
        let key = format!("k{key}");
        set(&store, &key, 0)
            .and_then(|()| now(store.delete(&key)))
            .err()
    });
    assert!(
        matches!(refused, Some(KeyValueError::Unavailable(_))),
        "{refused:?}"
    );
    store.take_changes();
    set(&store, "again", 0).expect("they were taken");
}
