//! Promise: `witgate snapshot pull` replaces the file by a whole and valid one, or says why not and leaves it alone.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use witgate_tests::Upstream;
use witgate_tests::process::Ended;
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;

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
    let gone = Upstream::answering(|_| Vec::new()).address();
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

    pull(&dev_box(), upstream.address(), &["--token-file", "token"]);

    for received in elsewhere.received() {
        assert_eq!(received.request.header("authorization"), None);
    }
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
