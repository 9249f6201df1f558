//! Promise: when some of an upstream's endpoints fail, clients see few errors, and each of them has its reason in the log.
//!
//! Three endpoints: one is killed, one hangs, one flaps between answers and 503. What clients see is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use witgate_tests::admin::{self, ADMIN, metric};
use witgate_tests::upstream::{Peer, response};
use witgate_tests::{Upstream, Witgate, eventually};

const CLIENTS: usize = 4;
const REQUESTS: usize = 40;

/// Answers as long as all is well; then does what `ill` does for each request. False ends the connection.
fn endpoint(
    well: &Arc<AtomicBool>,
    ill: impl Fn(&mut Peer) -> bool + Send + Sync + 'static,
) -> Upstream {
    let well = Arc::clone(well);
    Upstream::start(move |peer| {
        while peer.next_request().is_some() {
            let goes_on = match well.load(Ordering::SeqCst) {
                true => peer.try_send(response("200 OK", &[], "well")).is_ok(),
                false => ill(peer),
            };
            if !goes_on {
                return;
            }
        }
    })
}

/// Sends requests from several clients at once, and counts the answers by status.
fn load(witgate: &Witgate) -> BTreeMap<u16, usize> {
    let statuses = std::thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|_| {
            scope.spawn(|| -> Vec<u16> {
                (0..REQUESTS)
                    .map(|_| witgate.get("main", "/").status())
                    .collect()
            })
        });
        let clients: Vec<_> = clients.collect();
        let answers = clients
            .into_iter()
            .map(|client| client.join().expect("every request is answered"));
        answers.flatten().collect::<Vec<_>>()
    });
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

#[test]
fn what_clients_see_of_a_fail_over_is_little_and_explained() {
    let well = Arc::new(AtomicBool::new(true));
    let killed = endpoint(&well, |_| false);
    let hanging = endpoint(&well, |peer| {
        // Until the proxy has had enough.
        drop(peer.read_to_end());
        false
    });
    let turn = AtomicUsize::new(0);
    let flapping = endpoint(&well, move |peer| {
        let answer = match turn.fetch_add(1, Ordering::SeqCst) % 4 {
            0 => response("503 Service Unavailable", &[], "flapping"),
            _ => response("200 OK", &[], "well"),
        };
        peer.try_send(answer).is_ok()
    });
    let config = format!(
        "[server]\nworkers = 2\n[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\nupstream = \"origin\"\n{ADMIN}\n\
         [upstream.origin]\nendpoints = [\"http://{}\", \"http://{}\", \"http://{}\"]\n\
         response-timeout = \"500ms\"\nejection = {{ failures = 3, time = \"1s\", max = \"67%\" }}\n\
         retry = {{ attempts = 2, on = [\"connect\", \"reset\", \"timeout\", \"503\"], budget = \"100%\", back-off = \"1ms\" }}\n",
        killed.address(),
        hanging.address(),
        flapping.address()
    );
    let witgate = Witgate::start(&config);
    // The test's own machine may be slow: even a well endpoint can then be late.
    let all = CLIENTS * REQUESTS;
    let before = load(&witgate);
    assert_eq!(before.values().sum::<usize>(), all);

    well.store(false, Ordering::SeqCst);
    let killed_at = killed.address();
    drop(killed);
    let during = load(&witgate);
    assert_eq!(
        during.values().sum::<usize>(),
        all,
        "every request has an answer"
    );
    let known = |status: &u16| matches!(status, 200 | 502 | 503 | 504);
    assert!(during.keys().all(known), "{during:?}");
    assert!(during.contains_key(&200), "{during:?}");
    println!("answers before: {before:?}, during the fail-over: {during:?}");

    // Each error of a client is a line of the access log that names the endpoint, and what the proxy itself answered has
    // a reason.
    let errors: usize = (before.iter().chain(&during))
        .filter(|(status, _)| **status != 200)
        .map(|(_, count)| count)
        .sum();
    let lines = eventually("the lines of all requests", || {
        let lines = witgate.log();
        let access = lines
            .into_iter()
            .filter(|line| line.text("target") == Some("access"));
        let access: Vec<_> = access.collect();
        (access.len() == 2 * all).then_some(access)
    });
    let failed: Vec<_> = (lines.iter())
        .filter(|line| line.field("status").and_then(serde_json::Value::as_u64) != Some(200))
        .collect();
    assert_eq!(failed.len(), errors);
    for line in failed {
        let (reason, status) = (
            line.text("reason").unwrap_or_default(),
            line.field("status"),
        );
        assert!(
            line.text("upstream")
                .is_some_and(|endpoint| !endpoint.is_empty())
        );
        let explained = match status.and_then(serde_json::Value::as_u64) {
            Some(503) => line.text("upstream") == Some(&flapping.address().to_string()),
            Some(502) => reason.contains(&killed_at.to_string()),
            Some(504) => reason.contains(" within "),
            _ => false,
        };
        assert!(explained, "{status:?}: {reason}");
    }
    let admin = admin::address(&witgate);
    assert!(metric(admin, "witgate_upstream_retries_total{upstream=\"origin\"}") > 0.0);
    assert!(
        metric(
            admin,
            "witgate_upstream_connect_failures_total{upstream=\"origin\"}"
        ) > 0.0
    );

    // Those that are there are well again, and the one that is not is passed over.
    well.store(true, Ordering::SeqCst);
    eventually("nothing but answers", || {
        (load_once(&witgate) == 20).then_some(())
    });
}

/// How many of 20 requests are answered well.
fn load_once(witgate: &Witgate) -> usize {
    (0..20)
        .filter(|_| witgate.get("main", "/").status() == 200)
        .count()
}
