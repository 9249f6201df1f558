//! One behaviour, three stores.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::IntoConnectionInfo;
use bytes::Bytes;
use witgate_runtime::{Answer, KeyValueError};
use witgate_tests::redis::Redis;
use witgate_tests::wait::{PATIENCE, within};

use super::*;

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));
const MOMENT: Option<Duration> = Some(Duration::from_millis(1));

async fn ask<T>(answer: Answer<T>) -> Result<T, KeyValueError> {
    match answer {
        Answer::Now(answer) => answer,
        Answer::Later(answer) => answer.await,
    }
}

async fn value(store: &dyn KeyValue, key: &str) -> Option<Bytes> {
    ask(store.get(key)).await.expect("the store is there")
}

/// Waits until a key has expired.
async fn gone(store: &dyn KeyValue, key: &str) {
    let since = Instant::now();
    while value(store, key).await.is_some() {
        assert!(since.elapsed() < PATIENCE, "{key} lives on");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn values_are_set_and_deleted(store: &dyn KeyValue) {
    assert_eq!(value(store, "a").await, None);
    ask(store.set("a", bytes("1\0\u{7f}"), None))
        .await
        .expect("set");
    ask(store.set("b", bytes(""), HOUR)).await.expect("set");
    assert_eq!(value(store, "a").await, Some(bytes("1\0\u{7f}")));
    assert_eq!(value(store, "b").await, Some(bytes("")));
    ask(store.set("a", bytes("2"), HOUR)).await.expect("set");
    assert_eq!(value(store, "a").await, Some(bytes("2")));
    assert_eq!(ask(store.delete("a")).await, Ok(true));
    assert_eq!(ask(store.delete("a")).await, Ok(false));
    assert_eq!(value(store, "a").await, None);
}

async fn own_keys_are_listed_part_by_part(store: &dyn KeyValue) {
    let own: Vec<String> = (0..1200).map(|n| format!("mine*:{n}")).collect();
    for key in &own {
        ask(store.set(key, bytes("x"), None)).await.expect("set");
        let other = format!("other{key}");
        ask(store.set(&other, bytes("x"), None)).await.expect("set");
    }
    let (mut listed, mut cursor, mut answers) = (Vec::new(), None, 0);
    loop {
        let some = ask(store.keys("mine*:", cursor)).await.expect("listed");
        listed.extend(some.keys);
        (cursor, answers) = (some.cursor, answers + 1);
        if cursor.is_none() {
            break;
        }
    }
    assert!(answers > 2, "each answer is bounded");
    // One that moves meanwhile may be told twice.
    listed.sort();
    listed.dedup();
    let mut expected: Vec<String> = (0..1200).map(|n| n.to_string()).collect();
    expected.sort();
    assert!(listed == expected, "{} keys were listed", listed.len());
    for key in &own {
        ask(store.delete(key)).await.expect("delete");
        ask(store.delete(&format!("other{key}")))
            .await
            .expect("delete");
    }
}

async fn values_expire(store: &dyn KeyValue) {
    ask(store.set("short", bytes("x"), MOMENT))
        .await
        .expect("set");
    ask(store.set("long", bytes("x"), HOUR)).await.expect("set");
    ask(store.increment("short-number", 5, MOMENT))
        .await
        .expect("added");
    gone(store, "short").await;
    gone(store, "short-number").await;
    assert_eq!(ask(store.increment("short-number", 5, None)).await, Ok(5));
    assert_eq!(ask(store.delete("short")).await, Ok(false));
    assert_eq!(value(store, "long").await, Some(bytes("x")));
    // Set anew without a time to live, it has none.
    ask(store.set("kept", bytes("x"), MOMENT))
        .await
        .expect("set");
    ask(store.set("kept", bytes("y"), None)).await.expect("set");
    ask(store.set("later", bytes("x"), MOMENT))
        .await
        .expect("set");
    gone(store, "later").await;
    assert_eq!(value(store, "kept").await, Some(bytes("y")));
}

async fn numbers_add_up_and_keep_their_time(store: &dyn KeyValue) {
    assert_eq!(ask(store.increment("n", 1, HOUR)).await, Ok(1));
    assert_eq!(ask(store.increment("n", -3, MOMENT)).await, Ok(-2));
    ask(store.set("after", bytes("x"), MOMENT))
        .await
        .expect("set");
    gone(store, "after").await;
    assert_eq!(value(store, "n").await, Some(bytes("-2")));
    // Beyond what a float can count.
    let large = 1 << 53;
    assert_eq!(ask(store.increment("large", large, HOUR)).await, Ok(large));
    assert_eq!(ask(store.increment("large", 1, HOUR)).await, Ok(large + 1));
    ask(store.set("set", bytes("41"), None)).await.expect("set");
    assert_eq!(ask(store.increment("set", 1, None)).await, Ok(42));
    for text in ["x", "1.5", " 1", "+1", "01", "", "9223372036854775808"] {
        ask(store.set("no", text.into(), None)).await.expect("set");
        let refused = ask(store.increment("no", 1, None)).await;
        assert_eq!(refused, Err(KeyValueError::NotANumber), "{text:?}");
        assert_eq!(value(store, "no").await, Some(text.into()));
    }
    ask(store.set("most", i64::MAX.to_string().into(), None))
        .await
        .expect("set");
    for ttl in [None, HOUR] {
        let refused = ask(store.increment("most", 1, ttl)).await;
        assert_eq!(refused, Err(KeyValueError::NotANumber));
    }
}

async fn values_are_swapped_if_they_are_the_expected_ones(store: &dyn KeyValue) {
    let swap = |expected: Option<&'static str>, new| {
        store.compare_and_set("s", expected.map(bytes), bytes(new), None)
    };
    assert_eq!(ask(swap(Some("x"), "0")).await, Ok(false));
    assert_eq!(ask(swap(None, "1")).await, Ok(true));
    assert_eq!(ask(swap(None, "2")).await, Ok(false));
    assert_eq!(ask(swap(Some(""), "2")).await, Ok(false));
    assert_eq!(ask(swap(Some("1"), "")).await, Ok(true));
    assert_eq!(ask(swap(Some(""), "3")).await, Ok(true));
    assert_eq!(value(store, "s").await, Some(bytes("3")));
    let short = store.compare_and_set("s", Some(bytes("3")), bytes("4"), MOMENT);
    assert_eq!(ask(short).await, Ok(true));
    gone(store, "s").await;
}

/// Each of some threads with an event loop of its own, as workers have.
fn sums_are_exact_over_threads(store: &Arc<dyn KeyValue>) {
    const THREADS: i64 = 4;
    const TIMES: i64 = 250;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                runtime().block_on(async {
                    for _ in 0..TIMES {
                        ask(store.increment("sum", 1, HOUR)).await.expect("added");
                    }
                });
            });
        }
    });
    let sum = runtime().block_on(ask(store.increment("sum", 0, None)));
    assert_eq!(sum, Ok(THREADS * TIMES));
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("an event loop")
}

fn behaves(store: Arc<dyn KeyValue>) {
    runtime().block_on(async {
        values_are_set_and_deleted(&*store).await;
        own_keys_are_listed_part_by_part(&*store).await;
        values_expire(&*store).await;
        numbers_add_up_and_keep_their_time(&*store).await;
        values_are_swapped_if_they_are_the_expected_ones(&*store).await;
    });
    sums_are_exact_over_threads(&store);
}

fn redis_store(redis: &Redis, password: Option<&str>) -> Arc<RedisStore> {
    let info = redis.url().into_connection_info().expect("a URL");
    let mut settings = info.redis_settings().clone();
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    let settings = crate::config::RedisStore {
        connection: info.set_redis_settings(settings),
        ca: None,
        // Only a test that fails waits for it.
        timeout: PATIENCE,
        prefix: "witgate".into(),
    };
    let store = Arc::new(RedisStore::new("remote".into(), settings));
    store.open().expect("there is a thread for it");
    store
}

/// Waits for whoever still writes the file.
fn on_file(path: &Path) -> Arc<FileStore> {
    let store = FileStore::new(path.into(), 4 << 20);
    let opened = within(PATIENCE, || store.open().ok());
    opened.expect("the file can be opened");
    Arc::new(store)
}

#[test]
fn the_store_in_memory() {
    behaves(Arc::new(MemoryStore::new(4 << 20, Clock::default())));
}

#[test]
fn the_store_in_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    behaves(on_file(&directory.path().join("store")));
}

#[test]
fn the_store_on_another_machine() {
    let redis = Redis::asking_for("s3cret");
    behaves(redis_store(&redis, Some("s3cret")));
}

#[test]
fn a_wrong_password_is_an_error_and_shows_none() {
    let redis = Redis::asking_for("s3cret");
    let store = redis_store(&redis, Some("wr0ng"));
    let refused = runtime().block_on(ask(store.get("a")));
    let Err(KeyValueError::Unavailable(why)) = refused else {
        panic!("{refused:?}");
    };
    assert!(!why.contains("wr0ng"), "{why}");
    assert!(!format!("{store:?}").contains("wr0ng"), "{store:?}");
}

#[test]
fn a_server_that_goes_is_an_error_and_one_that_comes_back_is_used_again() {
    let mut redis = Redis::start();
    let store = redis_store(&redis, None);
    runtime().block_on(async {
        assert_eq!(ask(store.increment("n", 1, None)).await, Ok(1));
        redis.kill();
        let refused = ask(store.increment("n", 1, None)).await;
        assert!(
            matches!(refused, Err(KeyValueError::Unavailable(_))),
            "{refused:?}"
        );
        // Left alone for a moment, without being asked. Where the moment is over by now, that was one more try.
        let since = Instant::now();
        while let Answer::Later(answer) = store.get("n") {
            let refused = answer.await;
            assert!(
                matches!(refused, Err(KeyValueError::Unavailable(_))),
                "{refused:?}"
            );
            assert!(since.elapsed() < PATIENCE, "it is asked all the time");
        }
        redis.begin();
        let since = Instant::now();
        while ask(store.increment("n", 1, None)).await != Ok(1) {
            assert!(since.elapsed() < PATIENCE, "it was not tried again");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_file_is_private_and_holds_what_was_set_when_it_is_opened_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let store = on_file(&path);
    runtime().block_on(async {
        ask(store.set("kept", bytes("x"), None)).await.expect("set");
        ask(store.set("timed", bytes("x"), HOUR))
            .await
            .expect("set");
        ask(store.set("short", bytes("x"), MOMENT))
            .await
            .expect("set");
        ask(store.set("deleted", bytes("x"), None))
            .await
            .expect("set");
        ask(store.increment("count", 7, None)).await.expect("added");
        store.flush();
        ask(store.delete("deleted")).await.expect("deleted");
        gone(&*store, "short").await;
    });
    let mode = std::fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = FileStore::new(path.clone(), 4 << 20);
    let refused = second.open().expect_err("it is open already");
    assert!(refused.contains("open already"), "{refused}");
    // Dropped, it writes what is left.
    drop(store);

    let store = on_file(&path);
    runtime().block_on(async {
        assert_eq!(value(&*store, "kept").await, Some(bytes("x")));
        assert_eq!(value(&*store, "timed").await, Some(bytes("x")));
        assert_eq!(value(&*store, "short").await, None);
        assert_eq!(value(&*store, "deleted").await, None);
        assert_eq!(ask(store.increment("count", 1, None)).await, Ok(8));
    });
}

#[test]
fn a_file_that_is_full_refuses_and_forgets_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = on_file(&directory.path().join("store"));
    let large = Bytes::from(vec![0; 512 << 10]);
    runtime().block_on(async {
        let mut set = 0;
        let full = loop {
            match ask(store.set(&format!("k{set}"), large.clone(), None)).await {
                Ok(()) => set += 1,
                Err(error) => break error,
            }
            assert!(set < 100, "4 MiB take a hundred times 512 KiB");
        };
        assert_eq!(full, KeyValueError::Full);
        for at in 0..set {
            assert!(value(&*store, &format!("k{at}")).await.is_some());
        }
        ask(store.delete("k0")).await.expect("deleted");
        ask(store.set("again", large, None))
            .await
            .expect("there is room");
    });
}

#[test]
fn what_is_no_store_is_not_opened_and_left_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notes.txt");
    std::fs::write(&path, "my notes").expect("the directory is ours");
    let refused = FileStore::new(path.clone(), 4 << 20).open();
    assert!(
        refused
            .expect_err("it is none")
            .contains("cannot be opened")
    );
    assert_eq!(std::fs::read(&path).expect("it is there"), b"my notes");
}
