//! Promise: an upstream behind `https` is spoken to only when its certificate says that it is the one that was meant,
//! unless the operator wants otherwise.

use std::fs;

use witgate_tests::nginx::Nginx;
use witgate_tests::tls::Certificates;
use witgate_tests::upstream::response;
use witgate_tests::websocket::{TEXT, masked, read, switching, unmasked, upgrade};
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate};

/// An upstream and the route to it, below `/NAME/`.
fn upstream(name: &str, keys: &str) -> String {
    format!(
        "[[route]]\nname = \"{name}\"\npath = \"/{name}/*\"\nupstream = \"{name}\"\n\n[upstream.{name}]\n{keys}\n\n"
    )
}

const HEAD: &str =
    "[server]\nworkers = 1\n[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n\n";

fn reason(witgate: &Witgate, route: &str) -> String {
    let line = witgate.log_line("a failed exchange", |line| {
        line.message() == "exchange failed" && line.text("route") == Some(route)
    });
    line.text("reason").unwrap_or_default().to_owned()
}

#[test]
fn a_server_has_to_show_that_it_is_the_one_that_was_meant() {
    let origin = Nginx::start(
        &["localhost", "origin.example"],
        "ssl_client_certificate CERTIFICATES/ca.pem; ssl_verify_client optional;\n\
         location / { return 200 \"$ssl_server_name $ssl_client_verify $connection_requests\"; }",
    );
    let stranger = Certificates::new(&["DNS:localhost"]);
    let plain = Upstream::start(|peer| {
        // As a server that finds no request in what it is sent.
        let read = peer.try_read_exact(100);
        let sent = peer.try_send(response("400 Bad Request", &[], "what?"));
        // Not closed before all was read, since that could take the answer back.
        drop((read, sent, peer.read_to_end()));
    });
    let file = |name: &str| fs::read(origin.certificates().join(name)).expect("openssl made it");
    let setup = Setup::new()
        .file("ca.pem", file("ca.pem"))
        .file("client.pem", file("certificate.pem"))
        .file("client.key", file("key.pem"))
        .file(
            "stranger.pem",
            fs::read(stranger.ca()).expect("openssl made it"),
        );
    let port = origin.port();
    let to = |host: &str, tls: &str| {
        format!("endpoints = [\"https://{host}:{port}\"]\ntls = {{ {tls} }}")
    };
    let config = [
        HEAD.to_owned(),
        upstream("trusted", &to("localhost", "ca = 'ca.pem'")),
        upstream("stranger", &to("localhost", "ca = 'stranger.pem'")),
        upstream("misnamed", &to("127.0.0.1", "ca = 'ca.pem'")),
        upstream(
            "renamed",
            &to("127.0.0.1", "ca = 'ca.pem', server-name = 'origin.example'"),
        ),
        upstream("any", &to("127.0.0.1", "verify = false")),
        upstream(
            "shown",
            &to(
                "localhost",
                "ca = 'ca.pem', certificate = 'client.pem', key = 'client.key'",
            ),
        ),
        upstream(
            "plain",
            &format!(
                "endpoints = [\"https://{}\"]\ntls.ca = 'ca.pem'",
                plain.address()
            ),
        ),
    ];
    let witgate = setup.start(&config.concat());
    let get = |path: &str| {
        let answer = witgate.get("main", path);
        (answer.status(), answer.text().to_owned())
    };

    assert_eq!(get("/trusted/"), (200, "localhost NONE 1".into()));
    assert_eq!(
        get("/trusted/"),
        (200, "localhost NONE 2".into()),
        "the connection is kept"
    );
    assert_eq!(get("/renamed/"), (200, "origin.example NONE 1".into()));
    assert_eq!(
        get("/any/"),
        (200, " NONE 1".into()),
        "an address is not asked for by name"
    );
    assert_eq!(get("/shown/"), (200, "localhost SUCCESS 1".into()));
    for (route, why) in [
        ("stranger", "its certificate is not accepted"),
        ("misnamed", "its certificate is not accepted"),
        ("plain", "it does not speak TLS"),
    ] {
        assert_eq!(get(&format!("/{route}/")), (502, "bad gateway\n".into()));
        let reason = reason(&witgate, route);
        assert!(reason.contains(why), "{reason}");
    }
    let warned = witgate.setup().run_to_end(&["check", "witgate.toml"]);
    assert!(warned.status.success(), "{}", warned.output());
    assert!(
        warned.output().contains("can read and change everything"),
        "{}",
        warned.output()
    );
}

#[test]
fn a_websocket_goes_through_tls() {
    let echo = Upstream::start(|peer| {
        if peer.next_request().is_none() {
            return;
        }
        peer.send(switching(&[]));
        let message = read(peer);
        peer.send(unmasked(message.first, &message.payload));
        peer.expect_close();
    });
    let origin = Nginx::start(
        &["localhost"],
        &format!(
            "location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
             proxy_set_header Connection $connection_upgrade; }}",
            echo.address()
        ),
    );
    let keys = format!(
        "endpoints = [\"https://localhost:{}\"]\ntls.ca = 'ca.pem'",
        origin.port()
    );
    let ca = fs::read(origin.ca()).expect("openssl made it");
    let witgate = Setup::new()
        .file("ca.pem", ca)
        .start(&format!("{HEAD}{}", upstream("ws", &keys)));

    let mut client = witgate.connect("main");
    client.send(upgrade("/ws/", &[]));
    assert_eq!(client.read_response().status(), 101);
    client.send(masked(TEXT, "hello"));
    assert_eq!(read(&mut client).payload, b"hello");
    drop(client);
    let line = witgate.log_line("the end of the tunnel", |line| {
        line.text("route") == Some("ws") && line.text("outcome").is_some()
    });
    assert_eq!(line.text("outcome"), Some("complete"));
}

#[test]
fn a_key_that_does_not_go_with_its_certificate_is_found_before_anything_starts() {
    let (one, other) = (Certificates::new(&["DNS:a"]), Certificates::new(&["DNS:b"]));
    let file =
        |from: &Certificates, name: &str| fs::read(from.directory().join(name)).expect("made");
    let keys = "endpoints = ['https://a']\ntls = { certificate = 'a.pem', key = 'b.key' }";
    let ended = Setup::new()
        .file("a.pem", file(&one, "certificate.pem"))
        .file("b.key", file(&other, "key.pem"))
        .run_and_fail(&format!("{HEAD}{}", upstream("a", keys)));
    let said = ended.output();
    assert!(
        said.contains("the key does not go with the certificate"),
        "{said}"
    );
    assert!(!said.contains("PRIVATE"), "{said}");
}
