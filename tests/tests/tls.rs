//! Promise: a listener with TLS shows each client the certificate for the name that it asks for, takes up new files while
//! it serves, and lets in whom it should; what is behind TLS is the same proxy.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use witgate_tests::curl::{Curled, curl};
use witgate_tests::process::{Ended, Process};
use witgate_tests::tls::{Certificates, expired};
use witgate_tests::upstream::response;
use witgate_tests::wait::PATIENCE;
use witgate_tests::websocket::{self, TEXT};
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config, eventually};

/// As [`config::relay`], with this `tls` on its listener and these more keys.
fn relay(upstream: SocketAddr, tls: &str, keys: &str) -> String {
    let bind = "bind = \"127.0.0.1:0\"\n";
    config::relay(upstream).replace(bind, &format!("{bind}tls = {{ {tls} }}\n{keys}\n"))
}

fn hello() -> Upstream {
    Upstream::answering(|_| response("200 OK", &[], "hello"))
}

/// The files of a pair, under this name.
fn with(setup: Setup, name: &str, of: &Certificates) -> Setup {
    let read = |file: &str| fs::read(of.directory().join(file)).expect("openssl made it");
    setup
        .file(&format!("{name}.pem"), read("certificate.pem"))
        .secret(&format!("{name}.key"), read("key.pem"))
}

/// `https://NAME:PORT/` as this certificate's authority vouches for it.
fn get(witgate: &Witgate, name: &str, ca: &Path, more: &[&str]) -> Curled {
    let port = witgate.address("main").port();
    let resolve = format!("{name}:{port}:127.0.0.1");
    let url = format!("https://{name}:{port}/");
    let ca = ca.display().to_string();
    let arguments = ["--cacert", &ca, "--resolve", &resolve];
    curl(&[&arguments[..], more, &[&url]].concat())
}

fn openssl(arguments: &[&str]) -> Ended {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::null());
    Process::start("openssl", command).wait(PATIENCE)
}

#[test]
fn each_name_gets_its_certificate_and_any_other_the_first() {
    let upstream = hello();
    let [first, second, below] = [
        &["DNS:first.example"][..],
        &["DNS:second.example"],
        &["DNS:*.wild.example"],
    ]
    .map(Certificates::new);
    let setup = with(
        with(with(Setup::new(), "a", &first), "b", &second),
        "c",
        &below,
    );
    let tls = "certificates = [{ cert = \"a.pem\", key = \"a.key\" }, { cert = \"b.pem\", key = \"b.key\" }, { cert = \"c.pem\", key = \"c.key\" }]";
    let witgate = setup.start(&relay(upstream.address(), tls, ""));

    for (name, of) in [
        ("first.example", &first),
        ("second.example", &second),
        ("a.wild.example", &below),
    ] {
        for (version, outcome) in [("--http1.1", "HTTP/1.1 200"), ("--http2", "HTTP/2 200")] {
            let got = get(&witgate, name, &of.ca(), &[version]);
            assert_eq!(
                (got.outcome.as_str(), got.body.as_str()),
                (outcome, "hello"),
                "{name}: {}",
                got.said
            );
        }
        let line = witgate.log_line(name, |line| {
            line.text("host").is_some_and(|host| host.starts_with(name))
        });
        let attributes = line.text("attributes").expect("it has some");
        assert_eq!(
            attributes,
            format!("tls.version=1.3 tls.server-name={name}")
        );
    }
    // Its certificate is the first, which is not for that name.
    assert_eq!(get(&witgate, "other.example", &first.ca(), &[]).code, 60);
    assert_eq!(
        get(&witgate, "other.example", &first.ca(), &["--insecure"]).body,
        "hello"
    );
    let received = upstream.received();
    let schemes = received
        .iter()
        .map(|received| received.request.header("x-forwarded-proto"));
    assert!(schemes.eq([Some("https"); 7]), "{received:?}");
}

#[test]
fn a_client_that_speaks_no_tls_is_told_so_and_one_that_stops_is_cut_off() {
    let upstream = hello();
    let tls = "self-signed = true";
    let witgate = Setup::new().start(&relay(
        upstream.address(),
        tls,
        "limits.header-timeout = \"300ms\"\n[admin]\nbind = \"127.0.0.1:0\"\n",
    ));
    let plain = curl(&[&format!("http://{}/", witgate.address("main"))]);
    assert_eq!(plain.outcome, "HTTP/1.1 400", "{}", plain.said);
    assert_eq!(
        plain.body.trim_end(),
        "this port speaks HTTPS: write https://"
    );

    let mut mute = witgate.connect("main");
    mute.expect_close();
    let mut half = witgate.connect("main");
    half.try_send([22, 3, 1, 2, 0, 1]).ok();
    half.expect_close();
    let mut nonsense = witgate.connect("main");
    nonsense.try_send([22, 3, 1, 0, 4, 9, 9, 9, 9]).ok();
    while nonsense.try_read_exact(1).is_ok() {}
    assert_eq!(upstream.received(), []);

    let admin = witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    let admin: SocketAddr = admin
        .text("address")
        .expect("it has one")
        .parse()
        .expect("an address");
    let failed = "witgate_tls_handshakes_failed_total{listener=\"main\"} 4";
    eventually("four failed handshakes", || {
        let metrics = witgate_tests::http::get(admin, "/metrics");
        metrics
            .text()
            .lines()
            .any(|line| line == failed)
            .then_some(())
    });
}

#[test]
fn versions_and_protocols_are_those_that_are_safe() {
    let upstream = hello();
    let start = |tls: &str, keys: &str| Setup::new().start(&relay(upstream.address(), tls, keys));
    let shake = |witgate: &Witgate, arguments: &[&str]| {
        let address = witgate.address("main").to_string();
        openssl(&[&["s_client", "-connect", &address, "-brief"], arguments].concat())
    };
    let witgate = start("self-signed = true", "");
    for (version, agreed) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let shaken = shake(&witgate, &[version, "-alpn", "h2,http/1.1"]);
        assert!(shaken.status.success(), "{}", shaken.output());
        assert!(
            shaken
                .output()
                .contains(&format!("Protocol version: {agreed}")),
            "{}",
            shaken.output()
        );
    }
    for refused in [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
        &["-alpn", "smtp"],
    ] {
        let shaken = shake(&witgate, refused);
        assert!(!shaken.status.success(), "{refused:?}: {}", shaken.output());
    }

    let newer = start(
        "self-signed = true, min-version = \"1.3\"",
        "protocols = [\"http/1.1\"]",
    );
    assert!(!shake(&newer, &["-tls1_2"]).status.success());
    assert!(
        shake(&newer, &["-tls1_3", "-alpn", "http/1.1"])
            .status
            .success()
    );
    assert!(!shake(&newer, &["-tls1_3", "-alpn", "h2"]).status.success());
}

/// The suites of TLS 1.2 and before that openssl knows, forward-secret AEADs left out.
fn weak_suites() -> Vec<String> {
    let listed = openssl(&[
        "ciphers",
        "-s",
        "-tls1_2",
        "ALL:COMPLEMENTOFALL:@SECLEVEL=0",
    ]);
    assert!(listed.status.success(), "{}", listed.output());
    let is_sound = |name: &&str| {
        name.starts_with("ECDHE-")
            && (name.contains("-GCM-") || name.ends_with("-CHACHA20-POLY1305"))
    };
    let suites = listed.stdout.trim().split(':');
    suites
        .filter(|name| !is_sound(name))
        .map(str::to_owned)
        .collect()
}

/// As `testssl.sh` looks at a server: what it takes that it should not.
#[test]
fn nothing_weak_is_taken_whatever_kind_of_key_there_is() {
    let upstream = hello();
    let keys = [
        ("ec", "ec_paramgen_curve:prime256v1"),
        ("rsa", "rsa_keygen_bits:2048"),
    ];
    let weak = weak_suites();
    assert!(
        weak.iter().any(|name| name == "AES128-SHA") && weak.len() > 20,
        "{weak:?}"
    );
    for (kind, option) in keys {
        let setup = Setup::new();
        let directory = setup.path().display().to_string();
        let [cert, key] = ["a.pem", "a.key"].map(|file| format!("{directory}/{file}"));
        let made = openssl(&[
            "req",
            "-x509",
            "-newkey",
            kind,
            "-pkeyopt",
            option,
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=a",
            "-addext",
            "subjectAltName=DNS:a.example",
            "-keyout",
            &key,
            "-out",
            &cert,
        ]);
        assert!(made.status.success(), "{}", made.output());
        let tls = "certificates = [{ cert = \"a.pem\", key = \"a.key\" }]";
        let witgate = setup.start(&relay(upstream.address(), tls, ""));
        let address = witgate.address("main").to_string();
        let shake = |arguments: &[&str]| {
            openssl(&[&["s_client", "-connect", &address], arguments].concat())
        };
        // All at once: it would choose one of them.
        let all = format!("{}:@SECLEVEL=0", weak.join(":"));
        for refused in [
            &["-tls1_2", "-cipher", &all][..],
            &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            &["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
            // Groups that it does not have.
            &["-tls1_3", "-groups", "ffdhe8192"],
            &["-tls1_3", "-groups", "secp521r1"],
        ] {
            let shaken = shake(refused);
            assert!(
                !shaken.status.success(),
                "{kind} {refused:?}: {}",
                shaken.output()
            );
        }
        let shaken = shake(&["-tls1_2", "-comp", "-status"]);
        for said in [
            "Secure Renegotiation IS supported",
            "Compression: NONE",
            "Extended master secret: yes",
        ] {
            assert!(shaken.stdout.contains(said), "{kind}: {}", shaken.output());
        }
        let unknown = shake(&["-servername", "unknown.example"]);
        assert!(unknown.stdout.contains("CN = a"), "{}", unknown.output());
    }
}

#[test]
fn clients_show_certificates_of_the_authority_where_they_have_to() {
    let upstream = hello();
    let (server, clients, strangers) = (
        Certificates::new(&["DNS:a.example"]),
        Certificates::new(&["DNS:client"]),
        Certificates::new(&["DNS:client"]),
    );
    let ca = fs::read(clients.ca()).expect("openssl made it");
    let identity = |of: &Certificates| {
        ["--cert", "certificate.pem", "--key", "key.pem"].map(|part| match part.starts_with("--") {
            true => part.to_owned(),
            false => of.directory().join(part).display().to_string(),
        })
    };
    for (auth, without) in [("require", None), ("request", Some("hello"))] {
        let setup = with(Setup::new(), "a", &server).file("clients.pem", &ca);
        let tls = format!(
            "certificates = [{{ cert = \"a.pem\", key = \"a.key\" }}], client-ca = \"clients.pem\", client-auth = \"{auth}\""
        );
        let witgate = setup.start(&relay(upstream.address(), &tls, ""));
        for version in ["--http1.1", "--http2"] {
            let ask = |identity: &[String]| {
                let more: Vec<&str> = [version]
                    .into_iter()
                    .chain(identity.iter().map(String::as_str))
                    .collect();
                let got = get(&witgate, "a.example", &server.ca(), &more);
                (got.code == 0).then_some(got.body)
            };
            assert_eq!(ask(&identity(&clients)).as_deref(), Some("hello"));
            assert_eq!(ask(&identity(&strangers)), None, "{auth}");
            assert_eq!(ask(&[]).as_deref(), without, "{auth}");
        }
        let line = witgate.log_line("the client", |line| line.message() == "exchange");
        let attributes = line.text("attributes").expect("it has some");
        assert!(
            attributes.ends_with("tls.client-subject=CN=witgate test"),
            "{attributes}"
        );
    }
}

#[test]
fn new_files_are_taken_up_and_broken_ones_are_not() {
    let upstream = hello();
    let (old, new) = (
        Certificates::new(&["DNS:a.example"]),
        Certificates::new(&["DNS:a.example"]),
    );
    let setup = with(Setup::new(), "a", &old);
    let tls = "certificates = [{ cert = \"a.pem\", key = \"a.key\" }]";
    let witgate = setup.start(&relay(upstream.address(), tls, ""));
    let trusts = |of: &Certificates| get(&witgate, "a.example", &of.ca(), &[]).code == 0;
    assert!(trusts(&old));

    // As they are when somebody is in the middle of copying them.
    let certificate = fs::read(new.directory().join("certificate.pem")).expect("openssl made it");
    let at = |name: &str| witgate.setup().path().join(name);
    fs::write(at("a.pem"), &certificate).expect("the directory can be written");
    let refused = witgate.log_line("the refusal", |line| {
        line.message().contains("nothing has changed")
    });
    assert!(
        refused
            .message()
            .contains("it is not the key of the certificate"),
        "{}",
        refused.message()
    );
    assert!(trusts(&old));

    fs::copy(new.directory().join("key.pem"), at("a.key")).expect("the directory can be written");
    eventually("the new certificate", || trusts(&new).then_some(()));
    assert!(!trusts(&old));
}

#[test]
fn a_websocket_passes_through_tls() {
    let upstream = Upstream::start(|peer| {
        if peer.next_request().is_some() {
            peer.send(websocket::switching(&[]));
            let frame = websocket::read(peer);
            peer.send(websocket::unmasked(
                TEXT,
                [b"got ", &frame.payload[..]].concat(),
            ));
        }
    });
    let keys = "[admin]\nbind = \"127.0.0.1:0\"\n";
    for route in ["", "websocket = { ping-interval = \"60s\" }\n"] {
        let config = relay(upstream.address(), "self-signed = true", keys);
        let config = config.replace("plugins = []\n", &format!("plugins = []\n{route}"));
        let witgate = Setup::new().start(&config);
        let address = witgate.address("main").to_string();
        let mut client = Command::new("timeout")
            .args(["20", "openssl", "s_client", "-quiet", "-connect", &address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is there");
        let mut stdin = client.stdin.take().expect("it is piped");
        let message = vec![b'x'; 100_000];
        let sent = [
            websocket::upgrade("/", &[]).into_bytes(),
            websocket::masked(TEXT, &message),
        ]
        .concat();
        stdin.write_all(&sent).expect("it reads");
        let mut came = Vec::new();
        client
            .stdout
            .take()
            .expect("it is piped")
            .read_to_end(&mut came)
            .expect("it writes");
        drop(stdin);
        client.wait().expect("it ends");
        assert!(
            came.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&came)
        );
        let answer = websocket::unmasked(TEXT, [b"got ", &message[..]].concat());
        assert!(
            came.windows(answer.len()).any(|part| part == answer),
            "{} bytes came",
            came.len()
        );
        let line = witgate.log_line("the end", |line| line.message() == "exchange");
        assert_eq!(line.text("outcome"), Some("complete"));
    }
}

#[test]
fn what_is_wrong_with_certificates_is_told_on_its_line() {
    let (one, other) = (
        Certificates::new(&["DNS:a.example"]),
        Certificates::new(&["DNS:a.example"]),
    );
    let setup = with(with(Setup::new(), "a", &one), "b", &other)
        .file("text.pem", "hello")
        .file(
            "open.key",
            fs::read(one.directory().join("key.pem")).expect("openssl made it"),
        );
    let check = |tls: &str| {
        let upstream = "127.0.0.1:1".parse().expect("an address");
        fs::write(setup.path().join("witgate.toml"), relay(upstream, tls, ""))
            .expect("the directory can be written");
        let ended = setup.run_to_end(&["check", "witgate.toml"]);
        (ended.status.success(), ended.output())
    };
    let pair = |cert: &str, key: &str| {
        format!("certificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]")
    };
    for (tls, told) in [
        (
            pair("a.pem", "b.key"),
            "it is not the key of the certificate",
        ),
        (pair("text.pem", "a.key"), "there is no certificate in it"),
        (pair("a.pem", "text.pem"), "there is no key in it"),
        (pair("none.pem", "a.key"), "cannot read \"none.pem\""),
        (
            "certificates = []".into(),
            "there is no certificate to show",
        ),
        (
            "min-version = \"1.2\"".into(),
            "there is no certificate to show",
        ),
        (
            "self-signed = true, min-version = \"1.1\"".into(),
            "expected one of `1.2` and `1.3`",
        ),
        (
            "self-signed = true, client-auth = \"require\"".into(),
            "there is nobody to vouch for clients",
        ),
        (
            format!("self-signed = true, {}", pair("a.pem", "a.key")),
            "there are certificates, so none has to be made",
        ),
        (
            "self-signed = true, client-ca = \"text.pem\"".into(),
            "there is no certificate in it",
        ),
    ] {
        let (fits, output) = check(&tls);
        assert!(!fits && output.contains(told), "{tls}: {output}");
        assert!(output.contains("witgate.toml:8:"), "{tls}: {output}");
    }
    let (fits, output) = check(&pair("a.pem", "open.key"));
    assert!(
        fits && output.contains("everybody on this machine can read the key"),
        "{output}"
    );
    let (fits, output) = check(&pair("a.pem", "a.key"));
    assert!(fits && !output.contains("warning"), "{output}");

    let (key, certificate) = expired("a.example");
    let damaged = certificate.replace("-----END", "!-----END");
    for (name, bytes) in [
        ("old.pem", &certificate),
        ("old.key", &key),
        ("empty.pem", &String::new()),
        ("damaged.pem", &damaged),
    ] {
        fs::write(setup.path().join(name), bytes).expect("the directory can be written");
    }
    // It is served: whoever has no other certificate yet is better off than with a listener that is not there.
    let doubt = "the certificate expired";
    eventually("its second is over", || {
        let (fits, output) = check(&pair("old.pem", "old.key"));
        assert!(fits, "{output}");
        output.contains(doubt).then_some(())
    });
    for (cert, told) in [
        ("empty.pem", "there is no certificate in it"),
        ("damaged.pem", "it is no PEM, or is damaged"),
        ("old.key", "there is no certificate in it"),
    ] {
        let (fits, output) = check(&pair(cert, "old.key"));
        assert!(!fits && output.contains(told), "{cert}: {output}");
    }
}
