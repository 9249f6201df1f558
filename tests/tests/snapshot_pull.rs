//! Promise: `witgate snapshot pull` replaces the file by a whole and valid one, or says why not and leaves it alone.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use witgate_chrome::{keys, snapshot::encryption};
use witgate_tests::process::Ended;
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, port};

const OLD: &str = r#"{"cookies":[],"origins":[],"old":true}"#;
const NEW: &str = r#"{"cookies":[{"name":"a","value":"b","domain":"example.com","path":"/","expires":-1,"httpOnly":true,"secure":false,"sameSite":"Lax"}],"origins":[{"origin":"https://example.com","localStorage":[{"name":"k","value":"v"}]}]}"#;

fn dev_box() -> Setup {
    Setup::new()
        .file("state.json", OLD)
        .file("token", "s3cret-from-file\n")
        .env("PULL_TOKEN", "s3cret-from-env")
}

fn pull(setup: &Setup, address: SocketAddr, token: &[&str]) -> Ended {
    let url = format!("http://{address}/api/snapshot");
    let arguments = [
        &["snapshot", "pull", "--url", &url, "--file", "state.json"][..],
        token,
    ]
    .concat();
    setup.run_to_end(&arguments)
}

#[test]
fn a_valid_snapshot_replaces_the_file_which_only_its_owner_can_read() {
    for (token, sent) in [
        (["--token-file", "token"], "Bearer s3cret-from-file"),
        (["--token-env", "PULL_TOKEN"], "Bearer s3cret-from-env"),
    ] {
        let upstream =
            Upstream::answering(|_| response("200 OK", &["Content-Type: application/json"], NEW));
        let setup = dev_box();

        let ended = pull(&setup, upstream.address(), &token);

        assert!(ended.status.success(), "{}", ended.output());
        assert!(!ended.output().contains("s3cret"), "{}", ended.output());
        let file = setup.path().join("state.json");
        assert_eq!(fs::read_to_string(&file).expect("the file"), NEW);
        assert_eq!(
            fs::metadata(&file).expect("the file").permissions().mode() & 0o777,
            0o600
        );
        let request = upstream.only_request();
        assert_eq!(request.head.start_line, "GET /api/snapshot HTTP/1.1");
        assert_eq!(request.header("authorization"), Some(sent));
    }
}

#[test]
fn a_file_that_was_not_there_is_made() {
    let upstream = Upstream::answering(|_| response("200 OK", &[], NEW));
    let setup = Setup::new().file("token", "t");

    let ended = pull(&setup, upstream.address(), &["--token-file", "token"]);

    assert!(ended.status.success(), "{}", ended.output());
    let file = setup.path().join("state.json");
    assert_eq!(
        fs::metadata(&file).expect("the file").permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn whatever_goes_wrong_leaves_the_file_as_it_was_and_is_said() {
    let cut_off = [response("200 OK", &[], NEW)[..150].to_vec(), Vec::new()].concat();
    let cases: [(&str, Vec<u8>, &str); 9] = [
        (
            "a wrong token",
            response("401 Unauthorized", &[], r#"{"error":"invalid bearer"}"#),
            "401",
        ),
        (
            "no token over there",
            response(
                "503 Service Unavailable",
                &[],
                r#"{"error":"token not configured"}"#,
            ),
            "503",
        ),
        (
            "no snapshot yet",
            response(
                "404 Not Found",
                &[],
                r#"{"error":"snapshot not yet available"}"#,
            ),
            "404",
        ),
        (
            "no JSON",
            response("200 OK", &[], "<html>sign in</html>"),
            "json",
        ),
        ("half the JSON", response("200 OK", &[], &NEW[..60]), "json"),
        (
            "JSON of another shape",
            response("200 OK", &[], r#"{"cookies":{}}"#),
            "cookies",
        ),
        ("an empty body", response("200 OK", &[], ""), ""),
        ("a body that is cut off", cut_off, ""),
        ("no HTTP", b"hello\r\n\r\n".to_vec(), ""),
    ];
    for (what, answer, said) in cases {
        let upstream = Upstream::start(move |peer| {
            peer.next_request();
            peer.try_send(&answer).ok();
        });
        let setup = dev_box();

        let ended = pull(&setup, upstream.address(), &["--token-file", "token"]);

        assert_untouched(&setup, &ended, what);
        assert!(
            ended.stderr.to_lowercase().contains(said),
            "{what}: {}",
            ended.stderr
        );
    }
}

#[test]
fn nobody_there_no_token_and_no_directory_leave_the_file_as_it_was_and_are_said() {
    let gone = SocketAddr::from((Ipv4Addr::LOCALHOST, port::unused()));
    let setup = dev_box();
    assert_untouched(
        &setup,
        &pull(&setup, gone, &["--token-file", "token"]),
        "nobody there",
    );
    assert_untouched(
        &setup,
        &pull(&setup, gone, &["--token-file", "missing"]),
        "a missing token file",
    );
    assert_untouched(
        &setup,
        &pull(&setup, gone, &["--token-env", "UNSET_VARIABLE"]),
        "a variable that is not set",
    );

    let upstream = Upstream::answering(|_| response("200 OK", &[], NEW));
    let url = format!("http://{}/", upstream.address());
    let arguments = [
        "snapshot",
        "pull",
        "--url",
        &url,
        "--file",
        "token/state.json",
        "--token-file",
        "token",
    ];
    assert_untouched(
        &setup,
        &setup.run_to_end(&arguments),
        "a file where the directory should be",
    );
}

#[test]
fn a_token_is_not_sent_on_to_where_a_redirect_points() {
    let elsewhere = Upstream::answering(|_| response("200 OK", &[], NEW));
    let location = format!("Location: http://localhost:{}/", elsewhere.address().port());
    let upstream = Upstream::answering(move |_| response("302 Found", &[&location], ""));

    let setup = dev_box();
    let ended = pull(&setup, upstream.address(), &["--token-file", "token"]);

    assert_untouched(&setup, &ended, "a redirect");
    assert!(
        ended.stderr.contains("redirects are not followed"),
        "{}",
        ended.stderr
    );
    for received in elsewhere.received() {
        assert_eq!(received.request.header("authorization"), None);
    }
}

#[test]
fn what_is_there_already_is_not_transferred_again() {
    let answer = |request: &witgate_tests::http::Message| {
        if request.header("if-none-match") == Some("\"1\"") {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n".to_vec()
        } else {
            response("200 OK", &["ETag: \"1\""], NEW)
        }
    };
    let upstream = Upstream::answering(answer);
    let elsewhere = Upstream::answering(answer);
    let setup = dev_box();
    let file = setup.path().join("state.json");
    let inode = || fs::metadata(&file).expect("the file").ino();
    let mut sent = Vec::new();
    let mut pull_from = |upstream: &Upstream| {
        let ended = pull(&setup, upstream.address(), &["--token-file", "token"]);
        assert!(ended.status.success(), "{}", ended.output());
        assert_eq!(fs::read_to_string(&file).expect("the file"), NEW);
        let received = upstream.received();
        let last = received.last().expect("a request");
        sent.push(last.request.header("if-none-match").map(str::to_owned));
        ended.stdout
    };

    pull_from(&upstream);
    let first = inode();
    assert!(pull_from(&upstream).contains("unchanged"));
    assert_eq!(inode(), first, "the file was replaced");
    pull_from(&elsewhere);
    fs::write(&file, OLD).expect("our own file");
    pull_from(&elsewhere);

    let known = Some("\"1\"".to_owned());
    assert_eq!(
        sent,
        [None, known, None, None],
        "asked without and with the ETag"
    );
    let kept = setup.path().join(".state.json.pulled");
    let mode = fs::metadata(&kept).expect("the ETag").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = fs::read_to_string(&kept).expect("the ETag");
    assert!(!kept.contains("s3cret"), "{kept}");
}

#[test]
fn a_304_that_was_not_asked_for_is_no_success() {
    let upstream =
        Upstream::answering(|_| b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n".to_vec());
    let setup = dev_box();
    let ended = pull(&setup, upstream.address(), &["--token-file", "token"]);
    assert_untouched(&setup, &ended, "a 304 out of the blue");
}

#[test]
fn a_server_that_is_silent_or_drips_is_given_up_in_time() {
    let silent = Upstream::start(|peer| {
        peer.next_request();
        peer.next_request();
    });
    let dripping = Upstream::start(|peer| {
        peer.next_request();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", NEW.len());
        let mut left = peer.try_send(head);
        // Longer than any bound of the test, unless the client goes away.
        for byte in NEW.bytes().cycle() {
            if left.is_err() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(300));
            left = peer.try_send([byte]);
        }
    });
    for (what, upstream) in [("silent", silent), ("dripping", dripping)] {
        let setup = dev_box();
        let token = ["--token-file", "token", "--timeout", "1"];
        let ended = pull(&setup, upstream.address(), &token);
        assert_untouched(&setup, &ended, what);
        assert!(ended.stderr.contains("timeout"), "{what}: {}", ended.stderr);
    }
}

#[test]
fn what_is_too_large_is_not_taken_whether_its_length_is_said_or_not() {
    let bytes = vec![b' '; (1 << 20) + 1];
    let with_length = response("200 OK", &[], &bytes);
    let without = [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &*bytes].concat();
    for answer in [with_length, without] {
        let upstream = Upstream::start(move |peer| {
            peer.next_request();
            peer.try_send(&answer).ok();
        });
        let setup = dev_box();
        let arguments = ["--token-file", "token", "--max-size", "1"];
        let ended = pull(&setup, upstream.address(), &arguments);
        assert_untouched(&setup, &ended, "too large");
        assert!(ended.stderr.contains("--max-size"), "{}", ended.stderr);
    }
}

#[test]
fn an_encrypted_snapshot_is_written_plain_for_who_has_the_key() {
    let (identity, recipient) = keys::generate();
    let (stranger, _) = keys::generate();
    let recipient = recipient.parse().expect("a recipient");
    let sealed = encryption::encrypt(NEW.as_bytes(), &[recipient]).expect("randomness");
    let half = sealed[..sealed.len() - 20].to_vec();
    let answering = |body: Vec<u8>| Upstream::answering(move |_| response("200 OK", &[], &body));
    let (whole, half) = (answering(sealed), answering(half));

    for (upstream, key, said) in [
        (&whole, None, "--identity"),
        (&whole, Some(&stranger), "recipients"),
        (&half, Some(&identity), "damaged"),
    ] {
        let keys = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(keys.path(), key.unwrap_or(&String::new())).expect("a written key");
        let keys = keys.path().to_string_lossy();
        let mut arguments = vec!["--token-file", "token"];
        if key.is_some() {
            arguments.extend(["--identity", &*keys]);
        }
        let setup = dev_box();
        let ended = pull(&setup, upstream.address(), &arguments);
        assert_untouched(&setup, &ended, said);
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }

    let setup = dev_box().file("key", &identity);
    let arguments = ["--token-file", "token", "--identity", "key"];
    let ended = pull(&setup, whole.address(), &arguments);
    assert!(ended.status.success(), "{}", ended.output());
    let file = setup.path().join("state.json");
    assert_eq!(fs::read_to_string(&file).expect("the file"), NEW);
    let mode = fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[track_caller]
fn assert_untouched(setup: &Setup, ended: &Ended, what: &str) {
    assert!(
        !ended.status.success(),
        "{what}: it ended well: {}",
        ended.output()
    );
    assert!(!ended.stderr.trim().is_empty(), "{what}: nothing is said");
    assert!(
        !ended.output().contains("panicked") && !ended.output().contains("s3cret"),
        "{what}: {}",
        ended.output()
    );
    assert_eq!(
        fs::read_to_string(setup.path().join("state.json")).expect("the file"),
        OLD,
        "{what}"
    );
    let mut left: Vec<_> = fs::read_dir(setup.path())
        .expect("the directory")
        .filter_map(Result::ok)
        .collect();
    left.sort_by_key(fs::DirEntry::file_name);
    let left: Vec<_> = left.iter().map(fs::DirEntry::file_name).collect();
    assert_eq!(
        left,
        ["state.json", "token"],
        "{what}: something was left behind"
    );
}
