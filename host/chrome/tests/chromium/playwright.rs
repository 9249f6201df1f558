//! Snapshots in the hands of the real Playwright: it loads them, and then has what the shared browser had.

use std::path::Path;
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::network::{
    CookieParam, CookiePartitionKey, CookieSameSite, TimeSinceEpoch,
};
use chromiumoxide::cdp::browser_protocol::storage::SetCookiesParams;
use chromiumoxide::cdp::browser_protocol::target::CloseTargetParams;
use witgate_chrome::cdp::{CdpError, Client};
use witgate_chrome::{StorageState, harvest};
use witgate_tests::{chromium, clients};

use crate::support::{Chrome, PATIENCE, Site, Tab};

/// What Playwright has after loading each file, or its words of refusal.
pub(crate) async fn loaded_by_playwright(files: &[&Path]) -> Vec<Result<StorageState, String>> {
    let browser = chromium::binary().to_string_lossy().into_owned();
    let paths: Vec<_> = files
        .iter()
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    let run = {
        let paths = paths.clone();
        move || {
            let mut arguments = vec![browser.as_str()];
            arguments.extend(paths.iter().map(String::as_str));
            clients::node("playwright_storage_state.mjs", &arguments)
        }
    };
    let answer = tokio::task::spawn_blocking(run).await.unwrap();
    let errors = answer["errors"].as_array().unwrap().iter();
    errors
        .zip(paths)
        .map(|(error, path)| match error.as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(snapshot(Path::new(&format!("{path}.loaded")))),
        })
        .collect()
}

/// The document in a file, in the order of a harvest.
fn snapshot(file: &Path) -> StorageState {
    let mut state = StorageState::parse(&std::fs::read(file).unwrap()).unwrap();
    state.sort();
    state
}

/// Runs a script in a page of the origin and closes the page again.
async fn visit(client: &mut Client, origin: &str, script: &str) {
    let tab = Tab::open(client, &format!("{origin}/")).await;
    tab.evaluate(client, script).await;
    client
        .call(None, CloseTargetParams::new(tab.target))
        .await
        .unwrap();
}

#[tokio::test]
async fn playwright_has_the_local_storage_of_ten_origins_of_which_none_is_open() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    for name in names {
        let script = format!("localStorage.setItem('who', 'stored-by-{name}')");
        visit(&mut client, &site.origin(name), &script).await;
    }
    for name in names {
        chrome
            .on_disk("Local Storage/leveldb", &format!("stored-by-{name}"))
            .await;
    }

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    harvest(&chrome.harvest_into(&file)).await.unwrap();

    let states = loaded_by_playwright(&[&file]).await;
    let loaded = states[0].as_ref().unwrap();
    assert_eq!(loaded, &snapshot(&file));
    let stored: Vec<_> = loaded
        .origins
        .iter()
        .map(|storage| {
            (
                storage.origin.clone(),
                storage.local_storage[0].value.clone(),
            )
        })
        .collect();
    let expected = names.map(|name| (site.origin(name), format!("stored-by-{name}")));
    assert_eq!(stored, expected);
    chrome.stop().await;
}

/// Databases with every kind of key and value that Playwright's format knows.
const DATABASES: &str = r#"(async () => {
  const make = (name, version, shape) => new Promise((resolve, reject) => {
    const request = indexedDB.open(name, version);
    request.onupgradeneeded = () => shape(request.result);
    request.onsuccess = () => { request.result.close(); resolve(); };
    request.onerror = () => reject(request.error);
  });
  const cyclic = { when: new Date(0), list: [] };
  cyclic.list.push(cyclic, undefined, null, NaN, Infinity, 12345678901234567890n);
  await make('firebaseLocalStorageDb', 1, db => {
    const users = db.createObjectStore('firebaseLocalStorage', { keyPath: 'fbase_key' });
    users.put({ fbase_key: 'firebase:authUser', value: { uid: 'ada', z: 1, a: 0.1 + 0.2, n: null, s: 'a\ud800b \0 \u2028 \ud83d\ude00' } });
  });
  await make('every kind', 7, db => {
    const values = db.createObjectStore('values');
    values.put(cyclic, 'cyclic');
    values.put(new Map([['k', new Set([1, 'two'])], [null, /a+/gi]]), ['a', 1, ['b']]);
    values.put(new Error('oh'), new Date(1e12));
    values.put(new Uint8Array([0, 255, 7]).buffer, new Uint8Array([1, 2]).buffer);
    values.put([new Int16Array([-1, 300]), new Float64Array([0.5]), new BigInt64Array([-5n]), new Uint8ClampedArray(3)], -Infinity);
    values.put(undefined, 1.5);
    values.put(null, 2);
    values.put('x'.repeat(5 * 1024 * 1024), 3);
    const people = db.createObjectStore('people', { keyPath: ['name', 'born'], autoIncrement: false });
    people.createIndex('by tag', 'tags', { multiEntry: true });
    people.createIndex('by both', ['name', 'mail'], { unique: true });
    people.put({ name: 'Ada', born: 1815, tags: ['a', 'b'], mail: 'ada@a.example' });
    const counted = db.createObjectStore('counted', { autoIncrement: true });
    for (let n = 0; n < 120; n++) counted.put({ n });
    db.createObjectStore('generated', { keyPath: 'id', autoIncrement: true }).put({ v: 1 });
    db.createObjectStore('empty');
  });
  await make('no stores', 2, () => {});
  const root = await navigator.storage.getDirectory();
  const write = async (directory, name, content) => {
    const writable = await (await directory.getFileHandle(name, { create: true })).createWritable();
    await writable.write(content);
    await writable.close();
  };
  await write(root, 'hello ü.txt', 'hello');
  await write(root, 'empty', '');
  const deep = await (await root.getDirectoryHandle('a', { create: true })).getDirectoryHandle('b', { create: true });
  await write(deep, 'bytes', new Uint8Array([0, 1, 254, 255]));
  return 'made';
})()"#;

#[tokio::test]
async fn playwright_gives_back_the_databases_and_files_that_it_was_given() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    let origin = site.origin("app");
    visit(&mut client, &origin, DATABASES).await;

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let mut config = chrome.harvest_into(&file);
    config.opfs = true;
    config.step_timeout = PATIENCE;
    let harvested = harvest(&config).await.unwrap();
    assert_eq!(
        (
            harvested.origins,
            harvested.databases,
            harvested.files,
            harvested.left_out
        ),
        (1, 3, 3, 0)
    );
    let given = snapshot(&file);
    let every_kind = &given.origins[0].indexed_db[0];
    assert_eq!(
        (every_kind.name.as_str(), every_kind.version),
        ("every kind", 7)
    );
    let records = every_kind.stores.iter().map(|store| store.records.len());
    assert_eq!(Vec::from_iter(records), [120, 0, 1, 1, 8]);

    let states = loaded_by_playwright(&[&file]).await;
    let back = states[0].as_ref().unwrap();
    for (given, back) in given.origins[0]
        .indexed_db
        .iter()
        .zip(&back.origins[0].indexed_db)
    {
        for (given, back) in given.stores.iter().zip(&back.stores) {
            assert_eq!(given, back);
        }
    }
    assert!(given == *back, "letter for letter");

    config.indexed_db = false;
    config.opfs = false;
    let harvested = harvest(&config).await.unwrap();
    assert_eq!((harvested.databases, harvested.files), (0, 0));
    chrome.stop().await;
}

/// What the format has no word for, and what is too large; around it, what must come along all the same.
const INEXPRESSIBLE: &str = r#"(async () => {
  const make = (name, shape) => new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => shape(request.result);
    request.onsuccess = () => { request.result.close(); resolve(); };
    request.onerror = () => reject(request.error);
  });
  const key = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 128 }, false, ['encrypt']);
  await make('a large', db => {
    const mails = db.createObjectStore('mails');
    for (let n = 0; n < 60; n++) mails.put('x'.repeat(10000), n);
  });
  await make('b mixed', db => {
    db.createObjectStore('blobs').put(new Blob(['x']), 1);
    const keys = db.createObjectStore('keys');
    keys.put('fine', 1);
    keys.put({ key }, 2);
    let deep = 1;
    for (let n = 0; n < 60; n++) deep = [deep];
    db.createObjectStore('nested').put(deep, 1);
    const holes = db.createObjectStore('holes');
    const list = []; list[4294967290] = 1;
    holes.put(list, 1);
    db.createObjectStore('tokens').put('token', 'k');
  });
  await make('', db => db.createObjectStore('s').put(1, 1));
  await make('half \ud800', db => db.createObjectStore('s').put(1, 1));
  return 'made';
})()"#;

#[tokio::test]
async fn what_the_format_cannot_hold_is_left_out_and_the_rest_still_loads() {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    visit(&mut client, &site.origin("app"), INEXPRESSIBLE).await;

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let mut config = chrome.harvest_into(&file);
    config.limits.origin_size = 500_000;
    config.step_timeout = PATIENCE;
    let harvested = harvest(&config).await.unwrap();
    // The large, the nameless and the half one, and the records of four stores.
    assert_eq!((harvested.databases, harvested.left_out), (1, 7));
    let state = snapshot(&file);
    let stores = state.origins[0].indexed_db[0].stores.iter();
    let stores: Vec<_> = stores
        .map(|store| (store.name.as_str(), store.records.len()))
        .collect();
    assert_eq!(
        stores,
        [
            ("blobs", 0),
            ("holes", 0),
            ("keys", 0),
            ("nested", 0),
            ("tokens", 1)
        ]
    );
    let states = loaded_by_playwright(&[&file]).await;
    assert_eq!(states[0].as_ref(), Ok(&state));

    config.limits.total_size = 100;
    let harvested = harvest(&config).await.unwrap();
    assert_eq!(harvested.databases, 0);
    chrome.stop().await;
}

#[tokio::test]
async fn an_origin_without_databases_is_not_asked_for_them_and_one_with_a_locked_database_does_not_hold_up_the_rest()
 {
    let site = Site::serve().await;
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    visit(
        &mut client,
        &site.origin("plain"),
        "localStorage.setItem('k', 'v')",
    )
    .await;
    let put = "new Promise(done => { const request = indexedDB.open('db', 1);
        request.onupgradeneeded = () => request.result.createObjectStore('s').put('v', 'k');
        request.onsuccess = () => { request.result.close(); done(); } })";
    visit(&mut client, &site.origin("z"), put).await;
    visit(&mut client, &site.origin("locked"), put).await;
    let locked = Tab::open(&mut client, &format!("{}/", site.origin("locked"))).await;
    // An upgrade that waits for a connection that stays open keeps everybody else waiting.
    let lock = "new Promise(done => { const one = indexedDB.open('db'); one.onsuccess = () => {
        window.one = one.result; const two = indexedDB.open('db', 2); two.onblocked = () => done('blocked'); } })";
    assert_eq!(locked.evaluate(&mut client, lock).await, "blocked");
    chrome
        .on_disk("Local Storage/leveldb", "plain.localhost")
        .await;

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let mut config = chrome.harvest_into(&file);
    config.step_timeout = Duration::from_secs(12);
    let harvested = harvest(&config).await.unwrap();
    assert_eq!(
        (harvested.databases, harvested.left_out),
        (1, 1),
        "{harvested:?}"
    );
    let state = snapshot(&file);
    let with_database = state
        .origins
        .iter()
        .filter(|storage| !storage.indexed_db.is_empty());
    let with_database: Vec<_> = with_database.map(|storage| &storage.origin).collect();
    assert_eq!(with_database, [&site.origin("z")]);
    let buckets = Tab::open(&mut client, "chrome://quota-internals/").await;
    let listed = buckets
        .evaluate(
            &mut client,
            "import('chrome://quota-internals/quota_internals_browser_proxy.js')
                .then(module => module.QuotaInternalsBrowserProxy.getInstance().retrieveBucketsTable())
                .then(table => table.entries.map(entry => entry.storageKey).join())",
        )
        .await;
    let listed = listed.as_str().unwrap();
    assert!(listed.contains("z.localhost"), "{listed}");
    assert!(!listed.contains("plain.localhost"), "{listed}");
    chrome.stop().await;
}

/// Every cookie of the list that Chromium can be brought to take.
async fn set(client: &mut Client, cookies: Vec<CookieParam>) -> usize {
    let mut taken = 0;
    for cookie in cookies {
        match client.call(None, SetCookiesParams::new(vec![cookie])).await {
            Ok(_) => taken += 1,
            Err(CdpError::Refused { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    taken
}

/// Cookies at the edges of what a browser takes.
fn odd_cookies() -> Vec<CookieParam> {
    type Change = fn(&mut CookieParam);
    let changes: [Change; 34] = [
        |c| c.name = "__Host-a".into(),
        |c| c.name = "__Secure-a".into(),
        |c| c.name = "__secure-b".into(),
        |c| (c.name, c.http_only) = ("__Http-a".into(), Some(true)),
        |c| (c.name, c.http_only) = ("__Host-Http-a".into(), Some(true)),
        |c| c.domain = Some(".wide.example".into()),
        |c| c.domain = Some("127.0.0.1".into()),
        |c| c.domain = Some("[::1]".into()),
        |c| c.domain = Some("localhost".into()),
        |c| c.domain = Some(".localhost".into()),
        |c| c.domain = Some("co.uk".into()),
        |c| c.domain = Some(".co.uk".into()),
        |c| c.domain = Some("com".into()),
        |c| c.domain = Some("xn--mnchen-3ya.example".into()),
        |c| c.domain = Some("trailing.example.".into()),
        |c| c.domain = Some("under_score.example".into()),
        |c| c.domain = Some(format!("{}.example", "a".repeat(63))),
        |c| c.name = String::new(),
        |c| (c.name, c.value) = (String::new(), "a=b".into()),
        |c| c.value = String::new(),
        |c| c.value = "x".repeat(4095),
        |c| c.value = "x".repeat(4096),
        |c| c.value = "\"quoted, with blanks\" and \\".into(),
        |c| c.value = "ünïcödé \u{1F600}".into(),
        |c| c.value = "a\tb".into(),
        |c| c.value = "a\u{7f}b".into(),
        |c| c.name = "ü".into(),
        |c| c.path = Some("/a/b%20c;d=e/".into()),
        |c| c.path = Some("/ü ?#".into()),
        |c| c.path = Some(format!("/{}", "p".repeat(1023))),
        |c| c.expires = Some(TimeSinceEpoch::new(4e9 + 0.123_456)),
        |c| c.expires = Some(TimeSinceEpoch::new(1e15)),
        |c| (c.secure, c.same_site) = (Some(false), Some(CookieSameSite::None)),
        |c| (c.secure, c.same_site) = (Some(false), Some(CookieSameSite::Strict)),
    ];
    let numbered = changes.iter().enumerate().map(|(number, change)| {
        let mut cookie = CookieParam::new(format!("c{number}"), "v");
        cookie.domain = Some("a.example".into());
        cookie.path = Some("/".into());
        cookie.secure = Some(true);
        change(&mut cookie);
        cookie
    });
    numbered.collect()
}

fn partitioned(name: &str, top: &str, cross_site_ancestor: bool) -> CookieParam {
    let mut cookie = CookieParam::new(name, "v");
    cookie.domain = Some("widget.example".into());
    cookie.path = Some("/".into());
    cookie.secure = Some(true);
    cookie.same_site = Some(CookieSameSite::None);
    cookie.partition_key = Some(CookiePartitionKey::new(top, cross_site_ancestor));
    cookie
}

#[tokio::test]
async fn playwright_gives_back_every_cookie_that_it_was_given_partitions_included() {
    let mut chrome = Chrome::start().await;
    let mut client = chrome.client().await;
    let odd = set(&mut client, odd_cookies()).await;
    let in_partitions = [
        partitioned("chips", "https://top.example", true),
        partitioned("chips", "https://top.example", false),
        partitioned("chips", "https://other.example", true),
        partitioned("local", "http://localhost", true),
    ];
    assert_eq!(set(&mut client, in_partitions.into()).await, 4);
    assert!(odd >= 20, "only {odd} odd cookies were taken");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let harvested = harvest(&chrome.harvest_into(&file)).await.unwrap();
    let given = snapshot(&file);
    let partitions = given.cookies.iter();
    let partitions = partitions.filter(|cookie| cookie.partition_key.is_some());
    assert_eq!(partitions.count(), 4, "{harvested:?}");
    let states = loaded_by_playwright(&[&file]).await;
    assert_eq!(states[0].as_ref().unwrap().cookies, given.cookies);
    chrome.stop().await;
}
