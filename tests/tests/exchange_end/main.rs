//! Promise: bodies end with their trailers, held heads with what plugins make of them, and exchanges with their
//! completion hooks.

use std::env;
use std::path::PathBuf;
use std::sync::OnceLock;

use witgate_build::Build;
use witgate_tests::witgate::{LogLine, Setup};
use witgate_tests::{Upstream, Witgate, config};

mod completion;
mod held;
mod trailers;

const GUEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bodies-guest");

/// The component, built once for all tests.
fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let test = env::current_exe().expect("a test knows its own file");
        let target: PathBuf = test.ancestors().nth(3).expect("target/PROFILE/deps").into();
        let built = Build::new(GUEST, target.join("plugins")).package("bodies-guest");
        let mut components = built.run().unwrap_or_else(|error| panic!("{error}"));
        components.remove(0).bytes
    })
}

/// The guest in front of an upstream, with more keys of its table.
fn through_guest(upstream: &Upstream, more: &str) -> Witgate {
    let table = format!("\n[plugin.guest]\ncomponent = \"guest.wasm\"\n{more}\n");
    let text = config::through(&["guest"], upstream.address()) + &table;
    Setup::new().file("guest.wasm", component()).start(&text)
}

/// The guest twice: `outer`, then `inner`.
fn through_two(upstream: &Upstream) -> Witgate {
    let table = |name: &str| {
        format!("\n[plugin.{name}]\ncomponent = \"guest.wasm\"\nconfig.name = {name:?}\n")
    };
    let text = config::through(&["outer", "inner"], upstream.address())
        + &table("outer")
        + &table("inner");
    Setup::new().file("guest.wasm", component()).start(&text)
}

/// What the guest tells of the exchange for this path.
fn told(witgate: &Witgate, path: &str) -> LogLine {
    let start = format!("over: {path} ");
    witgate.log_line(&format!("the end of {path}"), |line| {
        line.message().starts_with(&start)
    })
}
