//! Promise: a plugin that misbehaves with messages ends its own WebSockets, says why in the log, and harms nobody else.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fs};

use witgate_build::Build;
use witgate_tests::http::Connection;
use witgate_tests::websocket::{
    CLOSE, TEXT, closing, masked, read, switching, try_read, unmasked, upgrade,
};
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, Witgate, config, eventually};

const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/message-guest");

/// The component, built once for all tests.
fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let test = env::current_exe().expect("a test knows its own file");
        let target: PathBuf = test.ancestors().nth(3).expect("target/PROFILE/deps").into();
        let built = Build::new(GUEST, target.join("plugins")).package("message-guest");
        let mut components = built.run().unwrap_or_else(|error| panic!("{error}"));
        components.remove(0).bytes
    })
}

struct Proxy {
    witgate: Witgate,
    upstream: Upstream,
}

/// The guest in front of an upstream that echoes.
fn misbehaving(behaviour: &str, more: &str) -> Proxy {
    let upstream = Upstream::start(|peer| {
        if peer.next_request().is_none() {
            return;
        }
        peer.send(switching(&[]));
        while let Ok(frame) = try_read(peer) {
            if peer.try_send(unmasked(frame.first, frame.payload)).is_err() {
                return;
            }
        }
    });
    let text = format!(
        "{}\n[plugin.guest]\ncomponent = \"guest.wasm\"\nconfig.behaviour = {behaviour:?}\n{more}\n",
        config::through(&["guest"], upstream.address())
    );
    let witgate = Setup::new().file("guest.wasm", component()).start(&text);
    Proxy { witgate, upstream }
}

impl Proxy {
    #[track_caller]
    fn open(&self) -> Connection {
        let mut client = self.witgate.connect("main");
        client.send(upgrade("/", &[]));
        assert_eq!(client.read_head().status(), 101);
        assert_serves(&mut client);
        client
    }

    /// This WebSocket ends with 1011 and no more, the log has the reason, new ones are served.
    #[track_caller]
    fn assert_failed(&self, mut client: Connection, said: &str) {
        let close = read(&mut client);
        assert_eq!(
            close.payload,
            closing(1011, ""),
            "the client learns no more"
        );
        assert!(try_read(&mut client).is_err(), "it ends");
        drop(client);
        let line = self
            .witgate
            .log_line(&format!("an end that says {said:?}"), |line| {
                line.text("reason")
                    .is_some_and(|reason| reason.contains(said))
            });
        assert_eq!(line.text("fault"), Some("plugin"), "{line:?}");
        drop(self.open());
    }
}

#[track_caller]
fn assert_serves(client: &mut Connection) {
    client.send(masked(TEXT, "good"));
    assert_eq!(read(client).text(), (TEXT, "good"));
}

/// A failure that costs the instance.
#[track_caller]
fn assert_lost_with_its_neighbours(proxy: &Proxy, said: &str) {
    let (mut client, mut neighbour) = (proxy.open(), proxy.open());

    client.send(masked(TEXT, "bad"));

    assert_eq!(read(&mut neighbour).close_code(), 1011, "its state is lost");
    proxy.assert_failed(client, said);
    drop(neighbour);
    eventually("both connections to the upstream to be closed", || {
        (proxy.upstream.open() == 0).then_some(())
    });
}

#[test]
fn panic() {
    let proxy = misbehaving("panic", "");
    assert_lost_with_its_neighbours(&proxy, "trapped in messages.on-message");
    proxy
        .witgate
        .log_line("the words of the neighbour's end", |line| {
            line.text("reason")
                .is_some_and(|reason| reason.contains("lost the body or WebSocket"))
        });
}

#[test]
fn spin() {
    let proxy = misbehaving("spin", "limits.deadline = \"20ms\"");
    assert_lost_with_its_neighbours(&proxy, "deadline of 20ms");
}

#[test]
fn give_up() {
    let proxy = misbehaving("give-up", "");
    let (mut client, mut neighbour) = (proxy.open(), proxy.open());
    client.send(masked(TEXT, "bad"));
    proxy.assert_failed(client, "the moon is in the wrong place");
    assert_serves(&mut neighbour);
}

#[test]
fn forge_close_code() {
    let proxy = misbehaving("forge-close-code", "");
    let (mut client, mut neighbour) = (proxy.open(), proxy.open());
    client.send(masked(TEXT, "bad"));
    proxy.assert_failed(client, "a close code of 1006");
    assert_serves(&mut neighbour);
}

#[test]
fn outgrow_message() {
    let proxy = misbehaving("outgrow-message", "limits.message = \"1MiB\"");
    let mut client = proxy.open();
    client.send(masked(TEXT, "bad"));
    proxy.assert_failed(client, "a message of 2097152 bytes");
}

#[test]
fn drop_close() {
    let proxy = misbehaving("drop-close", "config.control = true");
    let mut client = proxy.open();
    client.send(masked(CLOSE, closing(1000, "")));
    proxy.assert_failed(client, "for a close");
}

#[test]
fn reply_to_all() {
    let upstream = Upstream::start(|peer| {
        if peer.next_request().is_some() {
            peer.send(switching(&[]));
            peer.read_to_end().ok();
        }
    });
    // The second answers the client; the first would answer the answer, and the second that, for ever.
    let storm = |name: &str, wants: &str| {
        format!(
            "\n[plugin.{name}]\ncomponent = \"guest.wasm\"\nconfig = {{ behaviour = \"reply-to-all\", wants = {wants:?} }}\n"
        )
    };
    let text = config::through(&["first", "second"], upstream.address())
        + &storm("first", "to-client")
        + &storm("second", "to-upstream");
    let witgate = Setup::new().file("guest.wasm", component()).start(&text);
    let mut client = witgate.connect("main");
    client.send(upgrade("/", &[]));
    assert_eq!(client.read_head().status(), 101);

    client.send(masked(TEXT, "hello"));

    assert_eq!(read(&mut client).close_code(), 1011);
    drop(client);
    witgate.log_line("who is to blame", |line| {
        (line.text("reason")).is_some_and(|reason| {
            reason.contains("plugin `first`") && reason.contains("a reply to a reply")
        })
    });
}

#[test]
fn panic_at_upgrade() {
    let proxy = misbehaving("panic-at-upgrade", "");
    let mut client = proxy.witgate.connect("main");
    client.send(upgrade("/bad", &[]));
    let answer = client.read_response();
    assert_eq!(
        (answer.status(), answer.text()),
        (500, "internal server error\n")
    );
    eventually("the upstream's connection to be closed", || {
        (proxy.upstream.open() == 0).then_some(())
    });
    proxy.witgate.log_line("the reason", |line| {
        (line.text("reason")).is_some_and(|reason| reason.contains("trapped in on-upgrade"))
    });
    drop(proxy.open());
}

#[test]
fn obey() {
    // One that may fail: the messages go on without it.
    let proxy = misbehaving("panic", "on-failure = \"open\"");
    let (mut client, mut neighbour) = (proxy.open(), proxy.open());
    client.send([masked(TEXT, "bad"), masked(TEXT, "drop it")].concat());
    assert_eq!(read(&mut client).text(), (TEXT, "bad"));
    assert_eq!(
        read(&mut client).text(),
        (TEXT, "drop it"),
        "it is not asked again"
    );
    assert_serves(&mut neighbour);
    // A new WebSocket has a new instance.
    let mut next = proxy.open();
    next.send([masked(TEXT, "drop it"), masked(TEXT, "keep it")].concat());
    assert_eq!(read(&mut next).text(), (TEXT, "keep it"));
}

#[test]
fn every_guest_has_its_test() {
    let tests = include_str!("message_guests.rs");
    for file in fs::read_dir(Path::new(GUEST).join("src")).expect("the guest is there") {
        let path = file.expect("its files can be read").path();
        let name = path
            .file_stem()
            .expect("a file has a name")
            .to_string_lossy()
            .into_owned();
        if name != "lib" {
            assert!(
                tests.contains(&format!("\nfn {name}() {{")),
                "{name} has no test"
            );
        }
    }
}
