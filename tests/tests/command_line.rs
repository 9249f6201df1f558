//! Promise: the command line explains itself, and `witgate demo` shows what it says with nothing else installed.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use witgate_tests::process::Process;
use witgate_tests::wait::PATIENCE;
use witgate_tests::witgate::Setup;

#[test]
fn help_names_every_command_and_every_command_has_help() {
    let setup = Setup::new();
    let help = setup.run_to_end(&["--help"]);
    assert!(help.status.success(), "{}", help.output());

    for command in [
        &["run"][..],
        &["check"],
        &["schema"],
        &["fmt"],
        &["doctor"],
        &["harvest"],
        &["snapshot", "pull"],
        &["profile", "backup"],
        &["profile", "restore"],
        &["plugin", "new"],
        &["plugin", "test"],
        &["demo"],
        &["completions"],
        &["man"],
    ] {
        assert!(
            help.stdout.contains(command[0]),
            "--help does not name {command:?}:\n{}",
            help.stdout
        );
        let own = setup.run_to_end(&[command, &["--help"]].concat());
        assert!(own.status.success(), "{}", own.output());
        assert!(
            own.stdout.contains("Usage: witgate"),
            "{command:?}:\n{}",
            own.stdout
        );
    }
    let version = setup.run_to_end(&["--version"]);
    let known = concat!("witgate ", env!("CARGO_PKG_VERSION"), " (");
    assert!(version.stdout.starts_with(known), "{}", version.stdout);
    assert!(version.stdout.contains("wasmtime 4"), "{}", version.stdout);
}

#[test]
fn who_stops_reading_has_seen_enough_and_what_cannot_be_written_is_said() {
    let setup = Setup::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let full = OpenOptions::new().write(true).open("/dev/full");
    let full = full.expect("every Linux has it");
    for (output, code, told) in [
        (Stdio::from(writer), 0, ""),
        (
            full.into(),
            1,
            "witgate: standard output: No space left on device",
        ),
    ] {
        let ended = setup.command(&["schema"]).stdout(output).output();
        let ended = ended.expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert!(
            said.starts_with(told) && !said.contains("panicked"),
            "{said}"
        );
    }
}

#[test]
fn shells_and_man_know_the_commands() {
    let setup = Setup::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = setup.run_to_end(&["completions", shell]);
        assert!(script.status.success(), "{}", script.output());
        assert!(
            script.stdout.contains("harvest"),
            "{shell}: {}",
            script.stdout
        );
    }
    let written = setup.run_to_end(&["man", "."]);
    assert!(written.status.success(), "{}", written.output());
    for (page, word) in [("witgate", "harvest"), ("witgate-snapshot-pull", "token")] {
        let file = setup.path().join(format!("{page}.1"));
        let text = std::fs::read_to_string(&file).expect("the page was written");
        assert!(text.contains(word), "{page}: {text}");
    }
}

#[test]
fn check_tells_programs_what_is_wrong_and_where() {
    let good = "[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n\
                [[route]]\nreply = { body = \"hello\" }\n";
    let setup = Setup::new()
        .file("good.toml", good)
        .file("bad.toml", format!("{good}uptsream = 1\n"));
    let check = |file: &str| {
        let ended = setup.run_to_end(&["check", "--format", "json", file]);
        let document: Value = serde_json::from_str(&ended.stdout).expect("it prints JSON");
        (ended.status.code(), document)
    };
    let (code, document) = check("good.toml");
    assert_eq!((code, &document["valid"]), (Some(0), &true.into()));
    let (code, document) = check("bad.toml");
    assert_eq!((code, &document["valid"]), (Some(1), &false.into()));
    let problem = &document["problems"][0];
    assert_eq!(problem["key"], "route.0.uptsream");
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&6.into(), &1.into())
    );
    assert_eq!(problem["severity"], "error");
    let text = document["text"].as_str().expect("the report");
    assert!(text.contains("bad.toml:6:1"), "{text}");
}

#[test]
fn a_command_that_does_not_exist_is_said_on_standard_error() {
    let ended = Setup::new().run_to_end(&["rnu"]);

    assert_eq!(ended.status.code(), Some(2));
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("rnu"), "{}", ended.stderr);
}

#[test]
fn every_curl_line_that_the_demo_prints_works() {
    let setup = Setup::new();
    let demo = Process::start("witgate demo", setup.command(&["demo"]));
    let mut lines = Vec::new();
    // It may have to compile its plugins first.
    demo.find_line(Duration::from_secs(90), |line| {
        let line = line.trim().trim_start_matches("$ ");
        lines.extend(line.starts_with("curl ").then(|| line.to_owned()));
        (lines.len() >= 5).then_some(())
    })
    .expect("a curl line for each of the five plugins");

    for line in lines {
        // A name or a port that is wrong makes curl fail; what a plugin refuses is an answer as well.
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            &format!("{line} --silent --show-error --noproxy '*' --max-time 10"),
        ]);
        let ended = Process::start(&line, shell).wait(PATIENCE);
        assert!(ended.status.success(), "{line}:\n{}", ended.output());
    }
}
