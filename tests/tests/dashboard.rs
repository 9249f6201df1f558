//! Promise: the dashboard shows in a browser what goes through, and what is wrong; it can be used by keyboard and read
//! aloud (axe finds nothing), and asks nobody but its own listener.

use std::path::Path;

use serde_json::{Value, json};
use witgate_tests::upstream::response;
use witgate_tests::witgate::Setup;
use witgate_tests::{Upstream, chromium, clients, config};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_person_finds_on_it_what_happens_and_what_is_wrong() {
    let upstream = Upstream::answering(|request| {
        let missing = request.head.start_line.contains("/missing");
        let status = if missing { "404 Not Found" } else { "200 OK" };
        response(status, &[], "hello")
    });
    let relay = config::through(&["token"], upstream.address());
    let witgate = Setup::new().start(&format!(
        "{relay}\n[plugin.token]\ncomponent = \"builtin:bearer-auth\"\n\
         config.tokens = [{{ name = \"me\", value = \"{TOKEN}\" }}]\n\
         [admin]\ntoken = \"{TOKEN}\"\nbind = \"127.0.0.1:0\"\n"
    ));
    let line = witgate.log_line("the admin listener", |line| {
        line.message() == "admin listening"
    });
    let admin = line.text("address").expect("the line has the address");
    // They stay, to be looked at.
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard");
    std::fs::create_dir_all(&screenshots).expect("the target directory can be written");

    let found = clients::node(
        "dashboard.mjs",
        &[
            &chromium::binary().to_string_lossy(),
            &format!("http://{admin}"),
            &format!("http://{}", witgate.address("main")),
            TOKEN,
            &witgate
                .setup()
                .path()
                .join("witgate.toml")
                .to_string_lossy(),
            &screenshots.to_string_lossy(),
        ],
    );

    for nothing in ["foreign", "errors", "violations"] {
        assert_eq!(found[nothing], json!([]), "{nothing}: {found:#}");
    }
    let seen = |what: &str| found["seen"][what].as_str().unwrap_or_default();
    assert!(seen("route").contains("origin"), "{found:#}");
    assert!(seen("steps").contains("on-request: answer"), "{found:#}");
    assert!(seen("plugin").contains("builtin:bearer-auth"), "{found:#}");
    assert!(seen("problem").contains("admin.bnid"), "{found:#}");
    assert!(!Value::to_string(&found).contains(TOKEN), "{found:#}");
}
