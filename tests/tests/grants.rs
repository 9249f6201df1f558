//! Promise: what a plugin keeps in a store outlives its instances and is shared by all workers, what it counts is in the
//! metrics, and what it may not have it does not get.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use witgate_build::Build;
use witgate_tests::config::through;
use witgate_tests::http::{self, Connection};
use witgate_tests::redis::Redis;
use witgate_tests::tls::Certificates;
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, eventually};

const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/granted-guest");

/// The component, built once for all tests.
fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let test = env::current_exe().expect("a test knows its own file");
        let target: PathBuf = test.ancestors().nth(3).expect("target/PROFILE/deps").into();
        let built = Build::new(GUEST, target.join("plugins")).package("granted-guest");
        let mut components = built.run().unwrap_or_else(|error| panic!("{error}"));
        components.remove(0).bytes
    })
}

/// Two workers, the guest as `one` below `/` and as `two` below `/two`, and the admin listener.
fn config(tables: &str) -> String {
    format!(
        r#"
[server]
workers = 2

[admin]
bind = "127.0.0.1:0"

[[listener]]
name = "main"
bind = "127.0.0.1:0"

[[route]]
plugins = ["one"]
reply = {{ body = "passed" }}

[[route]]
path = "/two/*"
plugins = ["two"]
reply = {{ body = "passed" }}

[plugin.one]
component = "guest.wasm"
limits.deadline = "5s"

[plugin.two]
component = "guest.wasm"
limits.deadline = "5s"

{tables}
"#
    )
}

/// `plugin.NAME.grant.…` for both.
fn both(grant: &str) -> String {
    ["one", "two"]
        .map(|name| format!("[plugin.{name}.grant]\n{grant}\n"))
        .concat()
}

fn setup() -> Setup {
    Setup::new().file("guest.wasm", component())
}

/// Replaces the configuration and waits for it to be served.
#[track_caller]
fn reload(witgate: &mut Witgate, config: &str, number: u64) {
    let file = witgate.setup().path().join("witgate.toml");
    std::fs::write(file, config).expect("the test's directory can be written");
    witgate.process().signal(Signal::HUP);
    witgate.log_line(&format!("generation {number}"), |line| {
        let generation = line.field("generation").and_then(|n| n.as_u64());
        line.message() == "reloaded" && generation == Some(number)
    });
}

#[track_caller]
fn order_on(witgate: &Witgate, path: &str, order: &str) -> String {
    let mut client = witgate.connect("main");
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nx-do: {order}\r\n\r\n"
    ));
    let answer = client.read_response();
    assert_eq!(answer.status(), 200, "{order}: {}", answer.text());
    answer.text().to_owned()
}

#[track_caller]
fn order(witgate: &Witgate, order: &str) -> String {
    order_on(witgate, "/", order)
}

fn admin(witgate: &Witgate) -> SocketAddr {
    let line = witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    line.text("address")
        .and_then(|text| text.parse().ok())
        .expect("an address")
}

/// Has many connections, which the kernel gives to both workers, count side by side.
fn count(witgate: &Witgate, key: &str) {
    const CONNECTIONS: usize = 8;
    const REQUESTS: usize = 25;
    let address = witgate.address("main");
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(move || {
                let mut client = Connection::open(address);
                for _ in 0..REQUESTS {
                    client.send(format!(
                        "GET / HTTP/1.1\r\nHost: a\r\nx-do: add {key} 1 3600000\r\n\r\n"
                    ));
                    assert_eq!(client.read_response().status(), 200);
                }
            });
        }
    });
    assert_eq!(order(witgate, &format!("get {key}")), "=200");
}

#[test]
fn counts_of_two_workers_add_up_and_outlast_a_reload() {
    let text = config(&both(
        "keyvalue = {}\nmetrics = {}\nsecrets = { a = \"b\" }",
    ));
    let mut witgate = setup().start(&text);

    count(&witgate, "requests");

    // One plugin is another now and the other the same; the store is the same for both.
    let changed = text.replacen("limits.deadline = \"5s\"", "limits.deadline = \"6s\"", 1);
    reload(&mut witgate, &changed, 2);
    assert_eq!(order(&witgate, "get requests"), "=200");
    assert_eq!(
        order_on(&witgate, "/two", "get requests"),
        "none",
        "keys of another plugin"
    );
}

#[test]
fn a_store_in_a_file_outlasts_the_process_and_can_be_checked_beside_it() {
    let directory = TempDir::new().expect("the temporary directory can be written");
    let path = directory.path().join("kept.redb");
    let text = config(&format!(
        "[plugin.one.grant]\nkeyvalue.store = \"disk\"\n\
         [keyvalue.disk]\nkind = \"file\"\npath = {path:?}\n"
    ));
    let witgate = setup().start(&text);
    count(&witgate, "requests");

    let checked = witgate.setup().run_to_end(&["check", "witgate.toml"]);
    assert!(checked.status.success(), "{}", checked.output());
    let second = setup().run_and_fail(&text);
    assert!(
        second.output().contains("is open already"),
        "{}",
        second.output()
    );
    let ended = witgate.stop();
    assert!(ended.status.success(), "{}", ended.output());

    let witgate = setup().start(&text);
    assert_eq!(order(&witgate, "get requests"), "=200");
}

#[test]
fn a_store_on_another_machine_that_goes_is_an_error_value_and_comes_back() {
    let mut redis = Redis::asking_for("s3cret");
    let url = redis.url();
    let table = format!(
        "[keyvalue.default]\nkind = \"redis\"\nurl = {url:?}\npassword = \"${{file:password}}\"\ntimeout = \"20s\"\n"
    );
    let text = config(&(both("keyvalue = {}") + &table));
    let witgate = setup().file("password", "s3cret\n").start(&text);
    count(&witgate, "requests");

    redis.kill();
    let outcome = order(&witgate, "add requests 1");
    assert!(outcome.starts_with("Unavailable: "), "{outcome}");
    assert_eq!(witgate.get("main", "/").text(), "passed");

    redis.begin();
    eventually("the store is used again", || {
        (order(&witgate, "add again 1 3600000") != outcome).then_some(())?;
        (order(&witgate, "get again").starts_with('=')).then_some(())
    });
    let ended = witgate.stop();
    assert!(!ended.output().contains("s3cret"), "{}", ended.output());
}

#[test]
fn a_store_on_another_machine_by_tls_has_to_show_its_certificate() {
    let certificates = Certificates::new(&["IP:127.0.0.1"]);
    let ca = certificates.ca();
    let others = Certificates::new(&["IP:127.0.0.1"]);
    let redis = Redis::by_tls(certificates);
    let url = redis.url();
    let table = |ca: &str| {
        let store = format!("kind = \"redis\"\nurl = {url:?}\n{ca}\ntimeout = \"20s\"\n");
        config(&(both("keyvalue = {}") + "[keyvalue.default]\n" + &store))
    };

    let text = table(&format!("ca = {ca:?}"));
    let witgate = setup().start(&text);
    count(&witgate, "requests");

    let setup = setup().env("SSL_CERT_DIR", "");
    let witgate = setup.env("SSL_CERT_FILE", others.ca()).start(&table(""));
    let outcome = order(&witgate, "get requests");
    assert!(outcome.starts_with("Unavailable: "), "{outcome}");
}

#[test]
fn a_store_that_does_not_answer_holds_up_nobody() {
    // Accepts, and says nothing.
    let silent = Upstream::start(|peer| {
        peer.read_to_end().ok();
    });
    let address = silent.address();
    let table = format!(
        "[keyvalue.default]\nkind = \"redis\"\nurl = \"redis://{address}\"\ntimeout = \"60s\"\n"
    );
    let text = config(&(both("keyvalue = {}") + &table)).replace("workers = 2", "workers = 1");
    let text = text.replace("limits.deadline = \"5s\"", "limits.deadline = \"300ms\"");
    let witgate = setup().start(&text);
    let mut waiting = witgate.connect("main");
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\nx-do: get a\r\n\r\n");
    eventually("the store is asked", || {
        (silent.accepted() > 0).then_some(())
    });

    // By the one worker there is, for longer than a hook may run.
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(600) {
        assert_eq!(witgate.get("main", "/").text(), "passed");
    }
    drop(waiting);
    assert_eq!(witgate.get("main", "/").text(), "passed");
}

#[test]
fn plugins_share_keys_only_if_they_are_told_to() {
    let text = config(&both(
        "keyvalue = { shared = \"both\", operations = \"read\" }",
    ));
    let text = text.replacen("operations = \"read\"", "value-size = \"5B\"", 1);
    let witgate = setup().start(&text);

    assert_eq!(order(&witgate, "set a here"), "set");
    assert_eq!(order_on(&witgate, "/two", "get a"), "=here");
    assert_eq!(
        order(&witgate, "set a longer"),
        "TooLarge: a value is over the 5 bytes of `grant.keyvalue.value-size`"
    );
    for write in ["set a x", "delete a", "add a 1", "swap a - x"] {
        let outcome = order_on(&witgate, "/two", write);
        assert!(outcome.starts_with("NotGranted: "), "{write}: {outcome}");
    }
    let long = "k".repeat(257);
    assert!(order(&witgate, &format!("get {long}")).starts_with("InvalidKey: "));
    assert_eq!(order(&witgate, "swap a here there"), "true");
    assert_eq!(order(&witgate, "get a"), "=there");
    assert!(order(&witgate, "add a 1").starts_with("NotANumber: "));
}

#[test]
fn a_transform_may_use_a_store() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], "taken"));
    let table = "[plugin.one]\ncomponent = \"guest.wasm\"\ngrant.keyvalue = {}\n";
    let text = through(&["one"], upstream.address()) + table;
    let witgate = setup().start(&text);
    let mut client = witgate.connect("main");
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nx-do: transform body\r\nContent-Length: 4\r\n\r\ndata",
    );
    assert_eq!(client.read_response().status(), 200);
    eventually("the body is stored", || {
        (order(&witgate, "get body") == "=data").then_some(())
    });
}

#[test]
fn without_grants_the_operator_is_warned_and_the_plugin_refused() {
    let witgate = setup().start(&config(""));
    for (words, expected) in [
        ("get a", "NotGranted: "),
        ("add a 1", "NotGranted: "),
        ("count seen x", "metrics are not granted"),
        ("secret a", "the secret `a` is not granted"),
    ] {
        let outcome = order(&witgate, words);
        assert!(outcome.starts_with(expected), "{words}: {outcome}");
    }
    let checked = witgate.setup().run_to_end(&["check", "witgate.toml"]);
    assert!(checked.status.success(), "{}", checked.output());
    for grant in ["grant.keyvalue", "grant.metrics", "grant.secrets"] {
        assert!(checked.output().contains(grant), "{}", checked.output());
    }
}

#[test]
fn what_plugins_count_is_in_the_metrics_and_never_goes_back() {
    let text = config(&both("metrics = {}"));
    let mut witgate = setup().start(&text);
    let admin = admin(&witgate);
    for _ in 0..20 {
        order(&witgate, "count seen fox");
    }
    assert_eq!(order_on(&witgate, "/two", "count seen fox"), "counted");
    assert_eq!(order(&witgate, "gauge depth 2.5"), "counted");
    for value in ["0.5", "5", "50"] {
        order(&witgate, &format!("observe size {value}"));
    }
    let refused = order(&witgate, "gauge seen 1");
    assert_eq!(refused, "there is a metric of this name and another kind");

    let shown = [
        "# TYPE witgate_plugin_custom_seen_total counter\n",
        "witgate_plugin_custom_seen_total{plugin=\"one\",kind=\"fox\"} 20\n",
        "witgate_plugin_custom_seen_total{plugin=\"two\",kind=\"fox\"} 1\n",
        "witgate_plugin_custom_depth{plugin=\"one\"} 2.5\n",
        "witgate_plugin_custom_size_sum{plugin=\"one\"} 55.5\n",
        "witgate_plugin_custom_size_count{plugin=\"one\"} 3\n",
        "witgate_plugin_custom_size_bucket{le=\"10.0\",plugin=\"one\"} 2\n",
    ];
    let metrics = http::get(admin, "/metrics");
    for series in shown {
        assert!(
            metrics.text().contains(series),
            "no {series} in {}",
            metrics.text()
        );
    }

    // `one` is another plugin now and goes on counting; `two` is gone.
    let without = text
        .replace("plugins = [\"two\"]", "")
        .replacen("\"5s\"", "\"6s\"", 1);
    let from = without.find("[plugin.two]").expect("it is there");
    let without = without[..from].to_owned() + "[plugin.one.grant]\nmetrics = {}\n";
    reload(&mut witgate, &without, 2);
    order(&witgate, "count seen fox");
    let metrics = http::get(admin, "/metrics");
    let series = "witgate_plugin_custom_seen_total{plugin=\"one\",kind=\"fox\"} 21\n";
    assert!(metrics.text().contains(series), "{}", metrics.text());
    assert!(
        !metrics.text().contains("plugin=\"two\",kind"),
        "{}",
        metrics.text()
    );
}

#[test]
fn a_secret_is_the_one_in_its_file_also_after_that_has_changed() {
    let text = config("[plugin.one.grant]\nsecrets = { key = \"${file:key}\" }");
    let mut witgate = setup().file("key", "s3cret").start(&text);
    assert_eq!(order(&witgate, "secret key"), "6");
    assert_eq!(
        order(&witgate, "secret other"),
        "the secret `other` is not granted; add it to `grant.secrets`"
    );

    let file = witgate.setup().path().join("key");
    std::fs::write(file, "s3cret-too").expect("the test's directory can be written");
    reload(&mut witgate, &text, 2);
    assert_eq!(order(&witgate, "secret key"), "10");
    let ended = witgate.stop();
    assert!(!ended.output().contains("s3cret"), "{}", ended.output());
}
