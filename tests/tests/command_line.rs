//! Promise: the command line explains itself, and `witgate demo` shows what it says with nothing else installed.

use std::process::Command;
use std::time::Duration;

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
        &["harvest"],
        &["snapshot", "pull"],
        &["profile", "backup"],
        &["profile", "restore"],
        &["plugin", "new"],
        &["plugin", "test"],
        &["demo"],
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
    assert_eq!(
        version.stdout.trim(),
        concat!("witgate ", env!("CARGO_PKG_VERSION"))
    );
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
