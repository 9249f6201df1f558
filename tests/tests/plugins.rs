//! Promise: each built-in plugin does through the proxy what its README says.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use witgate_tests::http::{Message, exchange};
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config};

fn hello() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

fn ask(witgate: &Witgate, method: &str, fields: &[&str]) -> Message {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let mut client = witgate.connect("main");
    client.send(format!(
        "{method} /state HTTP/1.1\r\nHost: a\r\n{fields}\r\n"
    ));
    if method == "HEAD" {
        client.read_response_to_head()
    } else {
        client.read_response()
    }
}

mod host_rewrite {
    use super::*;

    fn host_sent_upstream(plugin_config: &str) -> (String, Upstream) {
        let upstream = hello();
        let table =
            format!("\n[plugin.host]\ncomponent = \"builtin:host-rewrite\"\n{plugin_config}\n");
        let witgate = Witgate::start(&(config::through(&["host"], upstream.address()) + &table));
        let answer = exchange(
            witgate.address("main"),
            "GET / HTTP/1.1\r\nHost: chrome.example:9222\r\n\r\n",
        );
        assert_eq!(answer.text(), "hello");
        let request = upstream.only_request();
        let hosts: Vec<_> = request.head.header_values("host").collect();
        assert_eq!(hosts.len(), 1, "{hosts:?}");
        (hosts[0].to_owned(), upstream)
    }

    #[test]
    fn the_upstream_sees_the_configured_host_and_no_other() {
        assert_eq!(
            host_sent_upstream("config.host = \"localhost:9222\"").0,
            "localhost:9222"
        );
    }

    #[test]
    fn the_upstream_can_see_its_own_authority() {
        let (host, upstream) = host_sent_upstream("config.upstream = true");
        assert_eq!(host, upstream.address().to_string());
    }
}

mod connection_close {
    use super::*;

    const TABLE: &str = "\n[plugin.close]\ncomponent = \"builtin:connection-close\"\n";

    #[test]
    fn every_ordinary_response_ends_its_connection() {
        let upstream = hello();
        let witgate = Witgate::start(&(config::through(&["close"], upstream.address()) + TABLE));
        let mut client = witgate.connect("main");

        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.read_response();

        assert_eq!(answer.text(), "hello");
        assert!(
            answer.head.has_token("connection", "close"),
            "{:?}",
            answer.head
        );
        client.expect_close();
    }

    #[test]
    fn an_upgrade_is_left_alone() {
        let upstream = Upstream::start(|peer| {
            peer.next_request();
            peer.send("HTTP/1.1 101 Fine\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n");
            assert_eq!(peer.read_exact(4), b"ping");
            peer.send("pong");
        });
        let witgate = Witgate::start(&(config::through(&["close"], upstream.address()) + TABLE));
        let mut client = witgate.connect("main");

        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
        let head = client.read_head();

        assert_eq!(head.status(), 101);
        assert!(
            head.has_token("connection", "upgrade") && !head.has_token("connection", "close"),
            "{head:?}"
        );
        client.send("ping");
        assert_eq!(client.read_exact(4), b"pong");
    }
}

mod bearer_auth {
    use super::*;

    fn table(plugin_config: &str) -> String {
        format!("\n[plugin.token]\ncomponent = \"builtin:bearer-auth\"\n{plugin_config}\n")
    }

    fn guarded(upstream: &Upstream, plugin_config: &str) -> Witgate {
        let config = config::through(&["token"], upstream.address()) + &table(plugin_config);
        let setup = Setup::new()
            .file("token", "from-the-file\n")
            .file("empty", "\n")
            .env("OTHER_TOKEN", "from-the-env");
        setup.start(&config)
    }

    const TOKENS: &str = r#"config.tokens = [
        { name = "devbox", value = "${file:token}" },
        { name = "next", value = "${env:OTHER_TOKEN}" },
    ]"#;

    #[test]
    fn a_known_token_passes_is_named_in_the_log_and_goes_no_further() {
        let upstream = hello();
        let witgate = guarded(&upstream, TOKENS);

        for (field, name) in [
            ("Authorization: Bearer from-the-file", "devbox"),
            ("authorization: bearer from-the-env", "next"),
        ] {
            assert_eq!(ask(&witgate, "GET", &[field]).text(), "hello");
            witgate.log_line(&format!("an exchange by {name}"), |line| {
                line.message() == "exchange"
                    && line.text("attributes") == Some(&format!("token.token={name}"))
            });
        }

        for received in upstream.received() {
            assert_eq!(received.request.header("authorization"), None);
        }
        let log = witgate.stop().output();
        assert!(!log.contains("from-the-"), "the log holds a token:\n{log}");
    }

    #[test]
    fn the_header_is_kept_when_the_configuration_says_so() {
        let upstream = hello();
        let witgate = guarded(&upstream, &format!("{TOKENS}\nconfig.keep-header = true"));

        assert_eq!(
            ask(&witgate, "GET", &["Authorization: Bearer from-the-file"]).text(),
            "hello"
        );

        assert_eq!(
            upstream.only_request().header("authorization"),
            Some("Bearer from-the-file")
        );
    }

    #[test]
    fn anything_but_a_known_token_is_a_401_and_never_reaches_the_upstream() {
        let upstream = hello();
        let witgate = guarded(&upstream, TOKENS);
        let cases: [&[&str]; 10] = [
            &[],
            &["Authorization: Bearer wrong"],
            &["Authorization: Bearer "],
            &["Authorization: Bearer"],
            &["Authorization: "],
            &["Authorization: from-the-file"],
            &["Authorization: Basic from-the-file"],
            &["Authorization: Bearer from-the-fil"],
            &["Authorization: Bearer from-the-file2"],
            &[
                "Authorization: Bearer wrong",
                "Authorization: Bearer from-the-file",
            ],
        ];

        for fields in cases {
            let answer = ask(&witgate, "GET", fields);
            assert_eq!(answer.status(), 401, "{fields:?}");
            assert_eq!(answer.text(), r#"{"error":"invalid bearer"}"#);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("Bearer"), "{challenge:?}");
        }

        assert_eq!(upstream.received(), []);
    }

    #[test]
    fn without_a_configured_token_nobody_passes() {
        for tokens in [
            "config.tokens = []",
            r#"config.tokens = [{ name = "devbox", value = "${file:empty}" }]"#,
        ] {
            let upstream = hello();
            let witgate = guarded(&upstream, tokens);

            for fields in [
                &[][..],
                &["Authorization: Bearer "],
                &["Authorization: Bearer"],
            ] {
                let answer = ask(&witgate, "GET", fields);
                assert_eq!(
                    (answer.status(), answer.text()),
                    (503, r#"{"error":"token not configured"}"#)
                );
            }

            assert_eq!(upstream.received(), []);
        }
    }
}

mod snapshot_server {
    use super::*;

    const CONFIG: &str = r#"
[[listener]]
name = "main"
bind = "127.0.0.1:0"

[[route]]
path = "/state"
plugins = ["snapshot"]

[plugin.snapshot]
component = "builtin:snapshot-server"
config.file = "/snapshots/state.json"
grant.files = [{ path = "state", as = "/snapshots" }]
"#;

    const STATE: &str = r#"{"cookies":[],"origins":[]}"#;

    fn serving(setup: Setup) -> Witgate {
        setup.file("state/keep", "").start(CONFIG)
    }

    #[test]
    fn a_missing_file_is_a_404_until_it_is_there() {
        let witgate = serving(Setup::new());

        let missing = ask(&witgate, "GET", &[]);
        assert_eq!(
            (missing.status(), missing.text()),
            (404, r#"{"error":"snapshot not yet available"}"#)
        );
        assert_eq!(missing.header("content-type"), Some("application/json"));

        fs::write(witgate.setup().path().join("state/state.json"), STATE)
            .expect("a writable directory");
        assert_eq!(ask(&witgate, "GET", &[]).text(), STATE);
    }

    #[test]
    fn the_file_is_served_with_validators_and_is_not_to_be_reused_unasked() {
        let witgate = serving(Setup::new().file("state/state.json", STATE));

        let answer = ask(&witgate, "GET", &[]);

        assert_eq!((answer.status(), answer.text()), (200, STATE));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        assert!(
            answer
                .header("etag")
                .is_some_and(|etag| etag.starts_with('"') && etag.ends_with('"'))
        );
        assert!(
            answer
                .header("last-modified")
                .is_some_and(|date| date.ends_with(" GMT"))
        );
        assert_eq!(witgate.get("main", "/state?t=1").text(), STATE);
    }

    #[test]
    fn a_client_that_has_the_file_is_told_so() {
        let witgate = serving(Setup::new().file("state/state.json", STATE));
        let first = ask(&witgate, "GET", &[]);
        let (etag, date) = (
            first.header("etag").expect("an ETag"),
            first.header("last-modified").expect("a date"),
        );

        for field in [
            format!("If-None-Match: {etag}"),
            format!("If-Modified-Since: {date}"),
        ] {
            let answer = ask(&witgate, "GET", &[&field]);
            assert_eq!((answer.status(), answer.body.len()), (304, 0), "{field}");
            assert_eq!(answer.header("etag"), Some(etag));
        }
        assert_eq!(
            ask(&witgate, "GET", &["If-None-Match: \"other\""]).status(),
            200
        );

        let path = witgate.setup().path().join("state/state.json");
        fs::write(&path, r#"{"cookies":[],"origins":[],"more":1}"#).expect("a writable file");
        assert_eq!(
            ask(&witgate, "GET", &[&format!("If-None-Match: {etag}")]).status(),
            200
        );
    }

    #[test]
    fn head_gets_the_fields_and_other_methods_a_405() {
        let witgate = serving(Setup::new().file("state/state.json", STATE));

        let head = ask(&witgate, "HEAD", &[]);
        assert_eq!(head.status(), 200);
        assert_eq!(
            head.header("content-length"),
            Some(STATE.len().to_string().as_str())
        );
        assert!(head.header("etag").is_some());

        for method in ["POST", "PUT", "DELETE"] {
            let refused = ask(&witgate, method, &[]);
            assert_eq!(refused.status(), 405);
            assert!(
                refused.head.has_token("allow", "GET") && refused.head.has_token("allow", "HEAD")
            );
        }
    }

    #[test]
    fn a_file_that_is_replaced_while_it_is_read_is_never_served_torn() {
        // Each version is of one digit only, and of a length of its own.
        let version = |digit: usize| digit.to_string().repeat(200_000 + digit * 50_000);
        let witgate = serving(Setup::new().file("state/state.json", version(0)));
        let directory = witgate.setup().path().join("state");
        let done = AtomicBool::new(false);

        let served = thread::scope(|scope| {
            scope.spawn(|| {
                for round in (0..10).cycle() {
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    fs::write(directory.join("new"), version(round)).expect("a writable directory");
                    fs::rename(directory.join("new"), directory.join("state.json"))
                        .expect("a writable directory");
                }
            });
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..50)
                            .map(|_| ask(&witgate, "GET", &[]))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            let ended: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
            // Also when one of them failed, or the writer would never end.
            done.store(true, Ordering::SeqCst);
            ended
                .into_iter()
                .flat_map(|served| served.expect("a reader"))
                .collect::<Vec<_>>()
        });

        for answer in served {
            assert_eq!(answer.status(), 200);
            let digit = usize::from(answer.body[0] - b'0');
            assert!(
                answer.body == version(digit).into_bytes(),
                "a torn file of {} bytes",
                answer.body.len()
            );
        }
    }
}

mod gateway {
    use super::*;

    fn get(witgate: &Witgate, path: &str, fields: &str) -> Message {
        let request = format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n");
        exchange(witgate.address("main"), request)
    }

    #[test]
    fn a_limit_is_counted_once_for_all_workers() {
        // A bucket that fills again within a month does not do so during a test.
        let witgate = Witgate::start(
            "[server]\nworkers = 2\n[[listener]]\nname = 'main'\nbind = '127.0.0.1:0'\n\
             [[route]]\nplugins = ['limit']\nreply = { body = 'in' }\n\
             [plugin.limit]\ncomponent = 'builtin:rate-limit'\n\
             config = { limit = 20, per = '31d', key = 'all' }\ngrant.keyvalue = {}\n",
        );
        let ask = || (0..15).map(|_| get(&witgate, "/", "").status()).collect();
        let statuses: Vec<u16> = thread::scope(|scope| {
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            let answers = clients.into_iter().map(|client| client.join());
            answers
                .flat_map(|answers: thread::Result<Vec<u16>>| answers.expect("a client ends"))
                .collect()
        });
        let let_in = statuses.iter().filter(|status| **status == 200).count();
        let refused = statuses.iter().filter(|status| **status == 429).count();
        assert_eq!((let_in, refused), (20, 40), "{statuses:?}");
    }

    #[test]
    fn its_plugins_stand_in_one_chain() {
        let app = hello();
        let judge = Upstream::answering(|request| match request.head.header("authorization") {
            Some("Bearer ann") => response("204 No Content", &["X-User: ann"], ""),
            _ => response("401 Unauthorized", &["WWW-Authenticate: Bearer"], "who?"),
        });
        let (app_address, judge_address) = (app.address(), judge.address());
        let witgate = Witgate::start(&format!(
            "[[listener]]\nname = 'main'\nbind = '127.0.0.1:0'\n\
             [[route]]\nplugins = ['id', 'safe', 'pages', 'moved', 'who', 'paths']\nupstream = 'app'\n\
             [upstream.app]\nendpoints = ['http://{app_address}']\n\
             [plugin.id]\ncomponent = 'builtin:request-id'\nconfig.header = 'x-correlation-id'\n\
             [plugin.safe]\ncomponent = 'builtin:security-headers'\n\
             [plugin.pages]\ncomponent = 'builtin:cors'\nconfig.origins = ['https://app.example']\n\
             [plugin.moved]\ncomponent = 'builtin:redirect'\n\
             config.rules = [{{ from = '/old/{{rest*}}', to = '/api/{{rest}}' }}]\n\
             [plugin.who]\ncomponent = 'builtin:forward-auth'\n\
             config = {{ url = 'http://{judge_address}/verify', upstream-headers = ['x-user'] }}\n\
             grant.http-client = {{ origins = ['http://{judge_address}'], timeout = '30s' }}\n\
             [plugin.paths]\ncomponent = 'builtin:path-rewrite'\n\
             config.rules = [{{ from = '/api/{{rest*}}', to = '/{{rest}}' }}]\n"
        ));

        let page = "Origin: https://app.example\r\n";
        let let_in = get(
            &witgate,
            "/api/cart?n=1",
            &format!("{page}X-User: root\r\nAuthorization: Bearer ann\r\n"),
        );
        let refused = get(&witgate, "/api/cart", page);
        let moved = get(&witgate, "/old/cart?n=1", "");

        assert_eq!((let_in.status(), let_in.text()), (200, "hello"));
        let seen = app.only_request().head;
        assert!(seen.start_line.starts_with("GET /cart?n=1 "), "{seen:?}");
        assert_eq!(seen.header("x-user"), Some("ann"));
        assert_eq!((refused.status(), refused.text()), (401, "who?"));
        assert_eq!(refused.head.header("www-authenticate"), Some("Bearer"));
        for answer in [&let_in, &refused] {
            let head = &answer.head;
            assert_eq!(
                head.header("access-control-allow-origin"),
                Some("https://app.example")
            );
            assert_eq!(head.header("x-frame-options"), Some("DENY"));
            assert!(head.header("x-correlation-id").is_some(), "{head:?}");
        }
        assert_eq!(moved.status(), 308);
        assert_eq!(moved.head.header("location"), Some("/api/cart?n=1"));
    }
}
