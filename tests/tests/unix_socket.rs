//! Promise: a listener on a Unix socket serves what one on TCP does, its file is what the configuration says, and who
//! comes over it is told apart from who has an address.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use witgate_tests::curl::curl;
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config};

/// As [`config::relay`], on a socket in this directory.
fn relay(upstream: SocketAddr, directory: &Path, keys: &str) -> String {
    let socket = directory.join("main.sock");
    config::relay(upstream).replace(
        "bind = \"127.0.0.1:0\"",
        &format!("bind = \"unix:{}\"\n{keys}", socket.display()),
    )
}

fn hello() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

/// One that serves on a socket, and the path of that.
fn start(upstream: &Upstream, server: &str, keys: &str) -> (Witgate, String) {
    let setup = Setup::new();
    let config = relay(upstream.address(), setup.path(), keys)
        .replace("workers = 1", &format!("workers = 2\n{server}"));
    let path = setup.path().join("main.sock");
    (setup.start(&config), path.display().to_string())
}

#[test]
fn every_protocol_is_spoken_over_it() {
    let upstream = hello();
    let all = "protocols = [\"http/1.1\", \"h2\"]";
    let (_plain, plain) = start(&upstream, "", all);
    let (_secure, secure) = start(&upstream, "", "tls = { self-signed = true }");
    let (_told, told) = start(
        &upstream,
        "trusted-proxies = [\"unix:\"]",
        "proxy-protocol = \"require\"",
    );
    for (socket, options, outcome) in [
        (&plain, &["--http1.1", "http://a/"][..], "HTTP/1.1 200"),
        (
            &plain,
            &["--http2-prior-knowledge", "http://a/"],
            "HTTP/2 200",
        ),
        (&secure, &["--insecure", "https://localhost/"], "HTTP/2 200"),
        (&told, &["--haproxy-protocol", "http://a/"], "HTTP/1.1 200"),
    ] {
        let got = curl(&[&["--unix-socket", socket.as_str()][..], options].concat());
        assert_eq!(
            (&*got.outcome, &*got.body),
            (outcome, "hello"),
            "{}",
            got.said
        );
    }
}

#[test]
fn the_file_has_its_mode_and_goes_with_the_process() {
    let upstream = hello();
    for (keys, mode) in [("", 0o660), ("mode = \"0600\"\ngroup = \"0\"", 0o600)] {
        if !keys.is_empty() && !rustix::process::geteuid().is_root() {
            continue; // Who is nobody special may not give files to any group.
        }
        let (witgate, path) = start(&upstream, "", keys);
        assert_eq!(
            fs::metadata(&path).expect("it is there").mode() & 0o777,
            mode
        );
        assert!(witgate.stop().status.success());
        assert!(!Path::new(&path).exists());
    }
}

#[test]
fn who_comes_over_it_has_no_address_and_is_believed_if_the_configuration_says_so() {
    let upstream = hello();
    let told = ["-H", "X-Forwarded-For: 192.0.2.7", "http://a/"];
    for (server, client, forwarded) in [
        ("forwarded = true", "unix:", "for=unknown;host=a;proto=http"),
        (
            "forwarded = true\ntrusted-proxies = [\"unix:\"]",
            "192.0.2.7, unix:",
            "for=unknown;host=a;proto=http",
        ),
    ] {
        let (witgate, path) = start(&upstream, server, "");
        let got = curl(&[&["--unix-socket", path.as_str()][..], &told].concat());
        assert_eq!(got.outcome, "HTTP/1.1 200", "{}", got.said);
        let received = upstream.received();
        let received = &received.last().expect("it was asked").request;
        assert_eq!(received.header("x-forwarded-for"), Some(client));
        assert_eq!(received.header("forwarded"), Some(forwarded));
        let logged = client.split(',').next();
        witgate.log_line("the exchange", |line| line.text("client") == logged);
    }
}

#[test]
fn an_abandoned_socket_is_replaced_and_what_is_in_use_or_no_socket_is_not() {
    let upstream = hello();
    let setup = Setup::new();
    let path = setup.path().join("main.sock");
    drop(UnixListener::bind(&path).expect("it is free"));
    let config = relay(upstream.address(), setup.path(), "");
    let mut witgate = setup.start(&config);
    let other = Setup::new().run_and_fail(&config);
    let said = other.output();
    let who = format!("process {} (witgate) listens on it", witgate.process().id());
    assert!(said.contains(&who), "{said}");
    assert_eq!(
        curl(&["--unix-socket", &path.display().to_string(), "http://a/"]).body,
        "hello"
    );
    drop(witgate);

    let setup = Setup::new().file("kept", "kept");
    let path = setup.path().join("main.sock");
    symlink(setup.path().join("kept"), &path).expect("a link");
    let kept = setup.path().to_owned();
    let config = relay(upstream.address(), &kept, "");
    let said = Setup::new().run_and_fail(&config).output();
    assert!(said.contains("is no socket, and is left alone"), "{said}");
    assert!(path.is_symlink());
}

#[test]
fn a_listener_that_a_reload_removes_takes_its_file_along_and_another_comes() {
    let upstream = hello();
    let setup = Setup::new();
    let config = relay(upstream.address(), setup.path(), "");
    let (first, second) = (
        setup.path().join("main.sock"),
        setup.path().join("other.sock"),
    );
    let witgate = setup.start(&config);
    let moved = config.replace("main.sock", "other.sock");
    fs::write(witgate.setup().path().join("witgate.toml"), moved).expect("it can be written");
    let mut witgate = witgate;
    witgate.process().signal(rustix::process::Signal::HUP);
    witgate.log_line("the reload", |line| line.message() == "reloaded");
    witgate_tests::eventually("the file to go", || (!first.exists()).then_some(()));
    let path = second.display().to_string();
    assert_eq!(curl(&["--unix-socket", &path, "http://a/"]).body, "hello");
}

#[test]
fn operators_may_look_by_a_socket() {
    let upstream = hello();
    let setup = Setup::new();
    let admin = setup.path().join("admin.sock");
    let config = config::relay(upstream.address())
        + &format!(
            "\n[admin]\nbind = \"unix:{}\"\nmode = \"0600\"\n",
            admin.display()
        );
    let witgate = setup.start(&config);
    witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    let path = admin.display().to_string();
    let got = curl(&["--unix-socket", &path, "http://localhost/config"]);
    assert_eq!(got.outcome, "HTTP/1.1 200", "{}", got.said);
    assert!(witgate.stop().status.success());
    assert!(!admin.exists());
}
