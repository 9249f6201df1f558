//! Promise: a configuration that cannot work ends in one report that names file, line and remedy, before anything
//! listens; `witgate check` and `witgate run` say the same.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use witgate_tests::witgate::Setup;

const SOUND: &str = r#"[[listener]]
name = "main"
bind = "127.0.0.1:0"

[[route]]
plugins = ["it"]
upstream = "origin"

[upstream.origin]
endpoints = ["http://127.0.0.1:9"]

[plugin.it]
component = "builtin:host-rewrite"
config.host = "localhost:9222"
"#;

/// A component of nothing: magic number, version 13, layer 1.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// A core module, which is what a compiler gives before it is made a component.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Checks and runs `SOUND` with `from` replaced by `to`. Both have to fail and name the line of `to`, and `said`.
#[track_caller]
fn refused(setup: Setup, from: &str, to: &str, said: &[&str]) {
    assert!(SOUND.contains(from));
    let config = SOUND.replace(from, to);
    let line = 1 + config
        .lines()
        .position(|line| line.contains(to.lines().next_back().unwrap_or(to)))
        .expect("a line");
    let setup = setup.file("witgate.toml", &config);
    for arguments in [
        &["check", "witgate.toml"][..],
        &["run", "--config", "witgate.toml"],
    ] {
        let ended = setup.run_to_end(arguments);
        let output = ended.output();
        assert!(
            !ended.status.success(),
            "{arguments:?} ended well:\n{output}"
        );
        assert!(
            !output.contains("panicked") && !output.contains("listening"),
            "{arguments:?}:\n{output}"
        );
        for said in [&[format!("witgate.toml:{line}").as_str()], said].concat() {
            assert!(
                output.contains(said),
                "{arguments:?} does not say {said:?}:\n{output}"
            );
        }
    }
}

#[test]
fn the_sound_configuration_is_sound() {
    let setup = Setup::new().file("witgate.toml", SOUND);

    let ended = setup.run_to_end(&["check", "witgate.toml"]);

    assert!(ended.status.success(), "{}", ended.output());
}

#[test]
fn an_unknown_key() {
    refused(
        Setup::new(),
        "bind = \"127.0.0.1:0\"",
        "bind = \"127.0.0.1:0\"\nbnid = \"a\"",
        &["bind"],
    );
    refused(
        Setup::new(),
        "upstream = \"origin\"",
        "upstream = \"origin\"\ntimeuot = \"5s\"",
        &["timeuot"],
    );
}

#[test]
fn a_component_file_that_is_missing() {
    refused(
        Setup::new(),
        "\"builtin:host-rewrite\"",
        "\"missing.wasm\"",
        &["missing.wasm"],
    );
}

#[test]
fn a_built_in_plugin_that_does_not_exist() {
    refused(
        Setup::new(),
        "\"builtin:host-rewrite\"",
        "\"builtin:host-rewite\"",
        &["host-rewrite"],
    );
}

#[test]
fn a_component_that_is_no_plugin() {
    for bytes in [
        EMPTY_COMPONENT,
        CORE_MODULE,
        b"MZ\x90\0 not wasm at all",
        b"",
        &EMPTY_COMPONENT[..5],
    ] {
        let setup = Setup::new().file("my.wasm", bytes);
        refused(
            setup,
            "\"builtin:host-rewrite\"",
            "\"my.wasm\"",
            &["my.wasm"],
        );
    }
}

/// A component that exports an empty instance of this name.
fn exporting(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a short name");
    let instances = [0x05, 0x03, 0x01, 0x01, 0x00]; // section 5: one instance, made of no exports
    let exports = [
        &[0x01, 0x00, length][..],
        name.as_bytes(),
        &[0x05, 0x00, 0x00],
    ]
    .concat(); // instance 0 by its name
    [EMPTY_COMPONENT, &instances, &[0x0b, length + 6], &exports].concat()
}

#[test]
fn a_component_made_for_another_version_of_the_contract() {
    let component = exporting("witgate:plugin/lifecycle@9.0.0");
    let setup = Setup::new().file("my.wasm", component);
    refused(
        setup,
        "\"builtin:host-rewrite\"",
        "\"my.wasm\"",
        &["my.wasm", "9.0.0", "0.1"],
    );
}

#[test]
fn a_plugin_that_refuses_its_configuration() {
    refused(
        Setup::new(),
        "\"localhost:9222\"",
        "\"not a host\"",
        &["it", "host"],
    );
    refused(
        Setup::new(),
        "config.host = \"localhost:9222\"",
        "config.hots = \"localhost\"",
        &["hots"],
    );
}

#[test]
fn a_secret_that_cannot_be_read_is_named_and_not_shown() {
    refused(
        Setup::new(),
        "\"localhost:9222\"",
        "\"${env:WITGATE_TEST_UNSET}\"",
        &["WITGATE_TEST_UNSET"],
    );
    refused(
        Setup::new(),
        "\"localhost:9222\"",
        "\"${file:no-such-secret}\"",
        &["no-such-secret"],
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    let config = SOUND
        .replace("bind = ", "bnid = 1\nbind = ")
        .replace("upstream = \"origin\"", "upstream = \"orgin\"");
    let setup = Setup::new().file("witgate.toml", config);

    let output = setup.run_to_end(&["check", "witgate.toml"]).output();

    assert!(
        output.contains("witgate.toml:3") && output.contains("witgate.toml:8"),
        "{output}"
    );
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let setup = Setup::new();

    let output = setup
        .run_and_fail(&SOUND.replace("127.0.0.1:0", &address))
        .output();

    assert!(
        output.contains("witgate.toml:3") && output.contains(&address),
        "{output}"
    );
    assert!(output.to_lowercase().contains("in use"), "{output}");
    assert!(!output.contains("panicked"), "{output}");
}

#[test]
fn a_configuration_that_is_not_there_or_is_no_text() {
    let setup = Setup::new()
        .file("binary.toml", b"\xff\xfe[[listener]]")
        .file("directory/keep", "");
    for name in ["missing.toml", "binary.toml", "directory"] {
        for arguments in [&["check", name][..], &["run", "--config", name]] {
            let ended = setup.run_to_end(arguments);
            assert!(!ended.status.success(), "{arguments:?} ended well");
            assert!(
                ended.output().contains(name),
                "{arguments:?}:\n{}",
                ended.output()
            );
            assert!(
                !ended.output().contains("panicked"),
                "{arguments:?}:\n{}",
                ended.output()
            );
        }
    }
}

#[test]
fn every_broken_configuration_of_the_corpus_is_reported() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("broken-configs");
    let mut checked = 0;
    for file in fs::read_dir(&corpus).expect("the corpus is there") {
        let path = file.expect("the corpus can be read").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let path = path.to_string_lossy();
        let ended = Setup::new().run_to_end(&["check", &path]);
        let output = ended.output();
        let expected = fs::read_to_string(Path::new(&*path).with_extension("expected"));
        let only_warned = !expected.expect("a report beside it").contains("error");
        assert_eq!(
            ended.status.success(),
            only_warned,
            "{path} ended with {}:\n{output}",
            ended.status
        );
        assert!(
            output.contains(&format!("--> {path}")),
            "{path}: no place is named:\n{output}"
        );
        assert!(!output.contains("panicked"), "{path}:\n{output}");
        checked += 1;
    }
    assert!(checked >= 10, "the corpus has only {checked} files");
}
