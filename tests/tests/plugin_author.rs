//! Promise: `witgate plugin new`, `build` and `test`, in the order that `new` prints, make a plugin of each language that
//! passes its tests; and what is wrong is said where it is wrong.

#[path = "plugin_author/catalogue.rs"]
mod catalogue;

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use witgate_tests::clients;
use witgate_tests::generated::as_written;
use witgate_tests::http::get;
use witgate_tests::process::{Ended, Process};
use witgate_tests::wait::within;
use witgate_tests::witgate::Setup;

/// A toolchain that starts from nothing on a busy machine takes minutes.
const BOUND: Duration = Duration::from_secs(400);

/// `target/PROFILE`.
fn built() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own file");
    let directory = test.ancestors().nth(2).expect("target/PROFILE/deps");
    directory.to_owned()
}

/// A directory in which `witgate`, `node` and cargo are found, and cargo asks no network: what the plugins of this
/// repository were built with is there, and a new project is locked to that.
fn workplace() -> Setup {
    Setup::new()
        .env("PATH", path(&[]))
        .env("CARGO_NET_OFFLINE", "true")
        // Where the testkit builds plugins: the dependencies are compiled once for all.
        .env(
            "CARGO_TARGET_DIR",
            OsString::from(built().join("witgate-plugins")),
        )
}

/// Where programs are looked for: there first, then where `witgate` and `node` are, then where everybody looks.
fn path(first: &[PathBuf]) -> OsString {
    let node = PathBuf::from(clients::interpreter("node").get_program());
    let node = node.parent().expect("a program is in a directory");
    let mut directories = first.to_vec();
    directories.extend([built(), node.to_owned()]);
    let everybody = env::var_os("PATH").unwrap_or_default();
    directories.extend(env::split_paths(&everybody));
    env::join_paths(directories).expect("no directory has a colon in it")
}

/// The same, with a program in the way of the real one that would ask the network: what it installs is linked instead.
fn workplace_with(program: &str, script: &str) -> Setup {
    let script = format!("#!/bin/sh\nset -e\n{script}\n");
    let setup = workplace().file(&format!("bin/{program}"), &script);
    let bin = setup.path().join("bin");
    fs::set_permissions(bin.join(program), Permissions::from_mode(0o755)).expect("it is ours");
    setup.env("PATH", path(&[bin]))
}

fn in_directory(setup: &Setup, directory: &Path, arguments: &[&str]) -> Ended {
    let mut command = setup.command(arguments);
    command.current_dir(directory);
    Process::start(&format!("witgate {}", arguments.join(" ")), command).wait(BOUND)
}

/// Makes a project called `hello` and does what `new` says comes next, but for what `rustup` installs.
fn follow_the_steps(language: &str, setup: Setup) -> (Setup, PathBuf) {
    let made = setup.run_to_end(&["plugin", "new", "hello", "--lang", language]);
    assert!(made.status.success(), "{}", made.output());
    let steps: Vec<&str> = made
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .collect();
    assert_eq!(steps[0], "cd hello");
    let steps: Vec<&&str> = steps[1..]
        .iter()
        .filter(|step| !step.starts_with("rustup target add "))
        .collect();
    assert_eq!(steps.len(), 2, "{}", made.stdout);
    let directory = setup.path().join("hello");
    for step in steps {
        let arguments: Vec<&str> = step.split(' ').skip(1).collect();
        assert!(step.starts_with("witgate plugin "), "{step}");
        let ended = in_directory(&setup, &directory, &arguments);
        assert!(ended.status.success(), "{step}:\n{}", ended.output());
        if step.ends_with(" test") {
            assert!(
                ended.stdout.contains("5 tests passed"),
                "{}",
                ended.output()
            );
        }
    }
    (setup, directory)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn a_new_plugin_in_rust_builds_passes_its_tests_and_is_built_anew_while_it_is_served() {
    let (setup, directory) = follow_the_steps("rust", workplace());
    let component = fs::read(directory.join("hello.wasm")).expect("it was built");

    let inspected = in_directory(
        &setup,
        &directory,
        &["plugin", "inspect", "hello.wasm", "--json"],
    );
    let facts: Value = serde_json::from_str(&inspected.stdout).expect("it is JSON");
    assert_eq!(facts["name"], "hello");
    assert_eq!(facts["version"], "0.1.0");
    assert_eq!(facts["contract"], "0.1.0");
    assert_eq!(facts["bytes"], component.len());
    let greeting = &facts["config-schema"]["properties"]["greeting"];
    assert_eq!(greeting["type"], "string", "{facts:#}");
    assert_eq!(greeting["description"], "The greeting.", "{facts:#}");

    is_served_and_built_anew(&setup, &directory);
}

/// `witgate plugin run`: what is changed is served, and what does not compile leaves what was there.
fn is_served_and_built_anew(setup: &Setup, directory: &Path) {
    let mut command = setup.command(&[
        "plugin",
        "run",
        "--bind",
        "127.0.0.1:0",
        "--log-format",
        "json",
        "--config",
        "greeting = 'good morning'",
    ]);
    command.current_dir(directory);
    let run = Process::start("witgate plugin run", command);
    let address = run.find_line(BOUND, |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["address"].as_str()?.parse::<SocketAddr>().ok()
    });
    let address = address.expect("it listens");
    assert_eq!(get(address, "/greeting").text(), "good morning\n");
    let echoed = get(address, "/a").text().to_owned();
    assert!(
        echoed.contains("\"x-greeting\": \"good morning\""),
        "{echoed}"
    );

    let source = directory.join("src/lib.rs");
    let text = fs::read_to_string(&source).expect("it is there");
    let change = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        fs::write(&source, text.replace(from, to)).expect("it can be written");
    };
    change("RequestVerdict::Next", "RequestVerdict::Nxet");
    let told = |words: &str| run.find_line(BOUND, |line| line.contains(words).then_some(()));
    told("no variant or associated item named `Nxet`").expect("the compiler's error");
    told("goes on serving").expect("what follows from it");
    assert_eq!(get(address, "/greeting").text(), "good morning\n");

    change("\"/greeting\"", "\"/hello\"");
    let changed = within(BOUND, || {
        (get(address, "/hello").text() == "good morning\n").then_some(())
    });
    assert!(changed.is_some(), "the change is not served");
}

#[test]
fn a_new_plugin_in_javascript_installs_its_toolchain_builds_and_passes_its_tests() {
    let modules = repository().join("tests/wasi-http/javascript/node_modules");
    let script = format!(
        "test \"$*\" = 'install --ignore-scripts --no-fund'\ntest -f package.json\nln -s '{}' node_modules",
        modules.display()
    );
    let (setup, directory) = follow_the_steps("js", workplace_with("npm", &script));
    fs::remove_file(directory.join("node_modules")).expect("it is a link");
    fs::remove_file(directory.join("hello.wasm")).expect("it was built");
    let failed = in_directory(&setup, &directory, &["plugin", "build", "--offline"]);
    assert_eq!(failed.status.code(), Some(1));
    let told = "run `npm install --ignore-scripts --no-fund`";
    assert!(failed.stderr.contains(told), "{}", failed.stderr);
}

#[test]
fn a_new_plugin_in_python_installs_its_toolchain_builds_and_passes_its_tests() {
    let environment = repository().join("tests/wasi-http/python/.venv");
    // pip finds there what the project lists, and asks no network.
    let script = format!(
        "test \"$*\" = '-m venv .venv'\nln -s '{}' .venv",
        environment.display()
    );
    follow_the_steps("python", workplace_with("python3", &script));
}

#[test]
fn an_installation_that_fails_or_installs_something_else_is_said() {
    for (script, told) in [
        (
            "echo no such package >&2; exit 3",
            "`npm install --ignore-scripts --no-fund` failed (exit status: 3)",
        ),
        ("exit 0", "did not install jco"),
    ] {
        let setup = workplace_with("npm", script);
        let made = setup.run_to_end(&["plugin", "new", "hello", "--lang", "js"]);
        assert!(made.status.success(), "{}", made.output());
        let directory = setup.path().join("hello");
        let failed = in_directory(&setup, &directory, &["plugin", "build"]);
        assert_eq!(failed.status.code(), Some(1), "{}", failed.output());
        assert!(failed.stderr.contains(told), "{}", failed.stderr);
    }
}

#[test]
fn what_is_no_project_and_what_is_no_name_is_said() {
    let setup = workplace().file("taken/file", "");
    for (arguments, told) in [
        (&["plugin", "build"][..], "witgate plugin new NAME"),
        (&["plugin", "new", "Hello"], "lower-case letters"),
        (&["plugin", "new", "taken"], "is there already"),
        (
            &["plugin", "test", "--component", "builtin:headres"],
            "no tests",
        ),
        (&["plugin", "inspect", "builtin:headres"], "there are"),
        (&["plugin", "inspect", "taken/file"], "not a WebAssembly"),
    ] {
        let ended = setup.run_to_end(arguments);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}");
        assert!(ended.stderr.contains(told), "{}", ended.output());
    }
}

#[test]
fn every_built_in_plugin_says_what_its_configuration_may_hold_and_stands_in_the_catalogue() {
    let setup = Setup::new();
    let mut plugins = Vec::new();
    for builtin in witgate_builtin::all() {
        let name = format!("builtin:{}", builtin.name);
        let inspected = setup.run_to_end(&["plugin", "inspect", &name, "--json"]);
        assert!(inspected.status.success(), "{}", inspected.output());
        let facts: Value = serde_json::from_str(&inspected.stdout).expect("it is JSON");
        let schema = &facts["config-schema"];
        assert_eq!(schema["type"], "object", "{name}: {facts:#}");
        assert_eq!(schema["additionalProperties"], false, "{name}: {facts:#}");
        assert_eq!(facts["name"], builtin.name);
        plugins.push(facts);
    }
    as_written("docs/plugin-catalogue.md", &catalogue::page(&plugins));
}

/// The files `plugins/NAME/tests/*.test.toml`.
fn test_files(name: &str) -> Vec<PathBuf> {
    let folder = repository().join("plugins").join(name).join("tests");
    let entries = fs::read_dir(folder).expect("every plugin has tests");
    let files = entries.map(|entry| entry.expect("the folder can be read").path());
    files
        .filter(|file| file.to_string_lossy().ends_with(".test.toml"))
        .collect()
}

#[test]
fn the_built_in_plugins_pass_their_test_files() {
    let setup = Setup::new();
    let mut passed = 0;
    for builtin in witgate_builtin::all() {
        let files = test_files(builtin.name);
        if files.is_empty() {
            continue;
        }
        let mut command = setup.command(&["plugin", "test", "--component"]);
        command.arg(format!("builtin:{}", builtin.name)).args(files);
        let ended = Process::start(builtin.name, command).wait(BOUND);
        assert!(ended.status.success(), "{}", ended.output());
        passed += 1;
    }
    assert!(passed >= 10, "only {passed} plugins have test files");
}

/// Tests of a built-in plugin: one that passes, and one for each way to fail.
const TESTS: &str = r#"
[[test]]
name = "the host is sent"
config = { host = "localhost:9222" }
request = { authority = "box:1" }
expect.request.authority = "localhost:9222"
expect.attributes = { original-host = "box:1" }
expect.cost = 100000

[[test]]
name = "another host"
config = { host = "localhost:9222" }
expect.request = { authority = "localhost:9223", headers = { x-none = "1" } }
expect.cost = 1

[[test]]
name = "a configuration that is refused"
config = { hots = "a" }
"#;

#[test]
fn a_failing_test_shows_the_exchange_as_a_difference_and_is_in_the_report() {
    let setup = Setup::new().file("host.test.toml", TESTS);

    let ended = setup.run_to_end(&[
        "plugin",
        "test",
        "host.test.toml",
        "--component",
        "builtin:host-rewrite",
        "--junit",
        "report.xml",
    ]);

    assert_eq!(ended.status.code(), Some(1));
    for words in [
        "pass  the host is sent (fuel ",
        "FAIL  another host (host.test.toml:10)",
        "      - host: localhost:9223\n      - x-none: 1\n      + host: localhost:9222\n",
        "`expect.cost` allows 1\n",
        "hots: unknown key",
        "2 of 3 tests failed",
    ] {
        assert!(ended.stdout.contains(words), "{words}:\n{}", ended.output());
    }
    let report = fs::read_to_string(setup.path().join("report.xml")).expect("it was written");
    assert!(report.contains("tests=\"3\" failures=\"2\""), "{report}");
}

#[test]
fn a_typo_in_a_test_file_is_reported_at_its_place() {
    let setup = Setup::new().file(
        "a.test.toml",
        "[[test]]\nname = 'a'\nexpect.request.header = { x = '1' }\n",
    );

    let ended = setup.run_to_end(&[
        "plugin",
        "test",
        "a.test.toml",
        "--component",
        "builtin:headers",
    ]);

    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("a.test.toml:3:16")
            && ended.stderr.contains("did you mean `headers`?"),
        "{}",
        ended.output()
    );
}

#[test]
fn bodies_that_are_no_text_are_written_and_shown_in_hex() {
    let tests = "[[test]]\nname = 'as it is'\nconfig = { host = 'a' }\nrequest.body = ['a', { hex = 'ff 00' }]\n\
                 expect.request.body = { hex = '61ff00' }\n\
                 [[test]]\nname = 'another'\nconfig = { host = 'a' }\nrequest.body = { hex = 'ff' }\n\
                 expect.request.body = { hex = 'fe' }\n";
    let setup = Setup::new().file("a.test.toml", tests);

    let ended = setup.run_to_end(&[
        "plugin",
        "test",
        "a.test.toml",
        "--component",
        "builtin:host-rewrite",
    ]);

    for words in ["pass  as it is", "- fe\n", "+ ff\n", "1 of 2 tests failed"] {
        assert!(ended.stdout.contains(words), "{words}:\n{}", ended.output());
    }
}

#[test]
fn what_a_test_file_says_in_vain_is_a_mistake() {
    let tests = "[[test]]\nname = 'a'\n[[test.exchange]]\nexpect.config-errors = { host = 'x' }\n\
                 [[test]]\nname = 'b'\nrequest = { body = { hex = 'f' }, client = 'box' }\n";
    let setup = Setup::new().file("a.test.toml", tests);

    let ended = setup.run_to_end(&[
        "plugin",
        "test",
        "a.test.toml",
        "--component",
        "builtin:headers",
    ]);

    assert_eq!(ended.status.code(), Some(1));
    for words in [
        "refused before there is any exchange",
        "not in hex",
        "no IP address",
    ] {
        assert!(ended.stderr.contains(words), "{words}:\n{}", ended.output());
    }
}

#[test]
fn a_schema_is_printed_where_it_is_asked_for() {
    let setup = Setup::new();
    let inspect = |arguments: &[&str]| {
        let first = ["plugin", "inspect", "builtin:cors"];
        setup.run_to_end(&[&first, arguments].concat()).stdout
    };

    assert!(!inspect(&[]).contains("additionalProperties"));
    let schema: Value = serde_json::from_str(&inspect(&["--schema"])).expect("it is JSON");
    assert_eq!(schema["required"], serde_json::json!(["origins"]));
}

#[test]
fn costs_are_measured_and_compared_with_those_that_were_saved() {
    let setup = Setup::new();
    let bench = |arguments: &[&str]| {
        let first = ["plugin", "bench", "builtin:connection-close"];
        let ended = setup.run_to_end(&[&first, arguments].concat());
        assert!(ended.status.success(), "{}", ended.output());
        ended.stdout
    };

    bench(&["--baseline", "costs.json"]);
    let compared = bench(&["--baseline", "costs.json"]);
    let json = bench(&["--format", "json"]);

    // Time differs; what is counted does not.
    let fuel = compared
        .lines()
        .find(|line| line.starts_with("on-response") && line.contains("fuel"));
    assert!(
        fuel.is_some_and(|line| line.contains("+0.0 %")),
        "{compared}"
    );
    let costs: Value = serde_json::from_str(&json).expect("it is JSON");
    assert!(costs["response-fuel"].as_u64() > Some(0), "{costs}");
    assert_eq!(costs["request-fuel"], Value::Null);
    assert_eq!(costs["message-fuel"], Value::Null);
}

#[test]
fn messages_and_ends_of_exchanges_cost_something_too() {
    let setup = Setup::new();
    let config = r#"{"default":{}}"#;
    let ended = setup.run_to_end(&[
        "plugin",
        "bench",
        "builtin:cdp-guard",
        "--config",
        config,
        "--format",
        "json",
    ]);
    let costs: Value = serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", ended.output()));
    assert!(costs["message-fuel"].as_u64() > Some(0), "{costs}");
    assert!(costs["message-ns"].as_f64() > Some(0.0), "{costs}");
}
