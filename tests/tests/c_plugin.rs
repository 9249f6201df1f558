//! Promise: the example in C is built of its source, imports nothing of WASI, passes its test file, and is served as its page
//! says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use witgate_tests::process::Process;
use witgate_tests::witgate::{Setup, binary};

/// The first time, zig builds its C library; on a busy machine that takes minutes.
const BOUND: Duration = Duration::from_secs(400);

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/c-plugin")
        .join(name)
}

/// The component, built in the target directory, where zig's cache stays.
fn build() -> PathBuf {
    let wanted = fs::read(example("requirements.txt")).expect("the example is there");
    let installed = fs::read(example(".venv/installed")).unwrap_or_default();
    assert!(
        installed == wanted,
        "examples/c-plugin/.venv is not what requirements.txt lists: run `scripts/setup.sh test` first"
    );
    let bindings = binary().with_file_name("witgate-c-bindings");
    assert!(
        bindings.is_file(),
        "{} is missing: run `cargo build -p witgate-c-bindings` first",
        bindings.display()
    );
    let out = binary().with_file_name("c-plugin");
    let component = out.join("greeter.wasm");
    if component.exists() {
        fs::remove_file(&component).expect("the target directory can be written");
    }
    let mut command = Command::new(example("build.sh"));
    command.arg(&out).env("C_BINDINGS", bindings);
    let ended = Process::start("build.sh", command).wait(BOUND);
    assert!(ended.status.success(), "{}", ended.output());
    component
}

#[test]
fn the_plugin_in_c_is_built_of_its_source_passes_its_tests_and_is_served() {
    let component = build();
    let file = component.to_string_lossy();
    let config = fs::read_to_string(example("witgate.toml")).expect("the example is there");
    let config = config.replace("127.0.0.1:8080", "127.0.0.1:0");
    let bytes = fs::read(&component).expect("it was built");
    assert!(bytes.len() < 20_000, "{} bytes", bytes.len());
    let setup = Setup::new().file("target/greeter.wasm", bytes);

    let inspected = setup.run_to_end(&["plugin", "inspect", &file, "--json"]);
    let facts: Value = serde_json::from_str(&inspected.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", inspected.output()));
    let imports = facts["imports"].as_array().expect("a list");
    let of_the_contract = |import: &Value| {
        import["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("witgate:plugin/"))
    };
    assert!(
        !imports.is_empty() && imports.iter().all(of_the_contract),
        "{facts:#}"
    );
    let greeting = &facts["config-schema"]["properties"]["greeting"];
    assert_eq!(greeting["description"], "The greeting.", "{facts:#}");

    let tests = example("tests/greeter.test.toml");
    let tests = tests.to_string_lossy();
    let tested = setup.run_to_end(&["plugin", "test", "--component", &file, &tests]);
    assert!(tested.status.success(), "{}", tested.output());
    assert!(
        tested.stdout.contains("9 tests passed"),
        "{}",
        tested.output()
    );

    let witgate = setup.start(&config);
    assert_eq!(witgate.get("web", "/greeting").text(), "hello\n");
    let behind = witgate.get("web", "/");
    assert_eq!(behind.text(), "behind the plugin\n");
    assert_eq!(behind.header("x-greeting"), Some("hello"));
}
