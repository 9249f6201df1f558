//! What the real Playwright refuses, and whether we refuse the same.

use serde_json::{Value, json};
use witgate_chrome::StorageState;

use crate::playwright::loaded_by_playwright;

#[tokio::test]
async fn playwright_refuses_the_origins_that_we_refuse_and_no_other() {
    let origin =
        |origin: &str| json!({"origin": origin, "localStorage": [{"name": "k", "value": "v"}]});
    let cases = [
        ("an IPv6 address", true, origin("http://[::1]:8080")),
        ("punycode", true, origin("https://xn--mnchen-3ya.example")),
        (
            "a port that browsers block",
            true,
            origin("http://a.example:6667"),
        ),
        ("an HSTS host", true, origin("http://google.com")),
        ("an underscore", true, origin("http://under_score.example")),
        (
            "a port beyond 65535",
            false,
            origin("http://a.example:65536"),
        ),
        ("no IPv4 address", false, origin("http://256.1.1.1")),
        (
            "an extension",
            false,
            origin("chrome-extension://abcdefghijklmnopabcdefghijklmnop"),
        ),
        ("files", false, origin("file:///")),
        ("an opaque origin", false, origin("null")),
        ("no host", false, origin("http://")),
        (
            "files without a file system",
            false,
            json!({"origin": "http://a.example", "localStorage": [], "opfs": [{"path": "a", "type": "directory"}]}),
        ),
        (
            "a database of version 0",
            false,
            json!({"origin": "http://a.example", "localStorage": [],
                   "indexedDB": [{"name": "d", "version": 0, "stores": []}]}),
        ),
        (
            "a record without key",
            false,
            json!({"origin": "http://a.example", "localStorage": [],
                   "indexedDB": [{"name": "d", "version": 1, "stores": [
                       {"name": "s", "autoIncrement": false, "indexes": [], "records": [{"value": 1}]}]}]}),
        ),
        (
            "a record with two keys",
            false,
            json!({"origin": "http://a.example", "localStorage": [],
                   "indexedDB": [{"name": "d", "version": 1, "stores": [
                       {"name": "s", "autoIncrement": false, "keyPath": "id", "indexes": [],
                        "records": [{"key": 1, "value": {"id": 1}}]}]}]}),
        ),
    ];
    let cases = cases.map(|(what, good, origin)| {
        (
            what.to_owned(),
            good,
            json!({"cookies": [], "origins": [origin]}),
        )
    });
    agrees_with_playwright(cases.into()).await;
}

/// Checks that we take each document exactly if Playwright does: the good ones joined in one, each bad one alone.
async fn agrees_with_playwright(cases: Vec<(String, bool, Value)>) {
    let mut joined = json!({"cookies": [], "origins": []});
    let mut documents = Vec::new();
    for (what, good, state) in cases {
        let bytes = serde_json::to_vec(&state).unwrap();
        assert_eq!(StorageState::parse(&bytes).is_ok(), good, "{what}");
        if !good {
            documents.push((what, state));
            continue;
        }
        for list in ["cookies", "origins"] {
            let items = state[list].as_array().cloned().unwrap_or_default();
            joined[list].as_array_mut().unwrap().extend(items);
        }
    }
    documents.push(("the good ones".into(), joined));
    let directory = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (number, (_, state)) in documents.iter().enumerate() {
        let file = directory.path().join(number.to_string());
        std::fs::write(&file, serde_json::to_vec(state).unwrap()).unwrap();
        files.push(file);
    }
    let files: Vec<_> = files.iter().map(AsRef::as_ref).collect();
    let mut loaded = loaded_by_playwright(&files).await;
    let good = loaded.pop().unwrap();
    assert!(good.is_ok(), "{good:?}");
    for ((what, _), loaded) in documents.iter().zip(loaded) {
        assert!(loaded.is_err(), "{what}: {loaded:?}");
    }
}

#[tokio::test]
async fn playwright_refuses_the_cookies_that_we_refuse_and_no_other() {
    let (name, value, path) = ("name", "value", "path");
    let cases = [
        (true, json!({"expires": 0})),
        (true, json!({"expires": 1})),
        (false, json!({"expires": -2})),
        (false, json!({"expires": -0.5})),
        (true, json!({"expires": 253_402_300_799.0})),
        (false, json!({"expires": 253_402_300_799.5})),
        (true, json!({"sameSite": "None", "secure": false})),
        (false, json!({name: "__Host-a", path: "/a"})),
        (false, json!({name: "__Host-a", "domain": ".a.example"})),
        (false, json!({name: "__Host-a", "secure": false})),
        (false, json!({name: "__secure-a", "secure": false})),
        (false, json!({name: "__Http-a"})),
        (false, json!({name: "__Host-Http-a"})),
        (true, json!({name: "__Host-Http-a", "httpOnly": true})),
        (true, json!({name: ""})),
        (false, json!({name: "", value: ""})),
        (false, json!({name: "", value: "a=b"})),
        (false, json!({name: "", value: "__Host-a"})),
        (false, json!({name: "", value: "__Secure-a"})),
        (false, json!({name: "a=b"})),
        (false, json!({name: "a\tb"})),
        (false, json!({value: "a\tb"})),
        (false, json!({value: "a\u{7f}"})),
        (false, json!({value: " a"})),
        (true, json!({value: "\"a, b\" \u{1F600}"})),
        (true, json!({value: "x".repeat(4095)})),
        (false, json!({value: "x".repeat(4096)})),
        (false, json!({path: "/a;b"})),
        (false, json!({path: "/a\nb"})),
        (true, json!({path: "/a b?c#d/.."})),
        (true, json!({path: format!("/{}", "p".repeat(1023))})),
        (false, json!({path: format!("/{}", "p".repeat(1024))})),
        (false, json!({"domain": "."})),
        (false, json!({"domain": "..a.example"})),
        (false, json!({"domain": "256.1.1.1"})),
        (false, json!({"domain": "a<b"})),
        (true, json!({"domain": ".127.0.0.1"})),
        (true, json!({"domain": "[::1]"})),
        (true, json!({"domain": ".com"})),
        (true, json!({"domain": "m\u{fc}nchen.example"})),
        (true, json!({"partitionKey": "https://top.example"})),
        (
            false,
            json!({"partitionKey": "https://top.example", "secure": false}),
        ),
        (false, json!({"partitionKey": "x"})),
        (false, json!({"partitionKey": "http://256.1.1.1"})),
    ];
    let cases = cases.into_iter().map(|(good, changes)| {
        let mut cookie = json!({"name": "n", "value": "v", "domain": "a.example", "path": "/", "expires": -1,
                                "httpOnly": false, "secure": true, "sameSite": "Lax"});
        for (key, value) in changes.as_object().unwrap() {
            cookie[key] = value.clone();
        }
        (format!("{changes:.60}"), good, json!({"cookies": [cookie]}))
    });
    agrees_with_playwright(cases.collect()).await;
}
