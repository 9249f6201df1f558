//! Promise: a profile goes into an archive and comes out of it by two commands that say what they did, or why not.

use std::fs;
use std::path::PathBuf;

use witgate_tests::witgate::Setup;

/// A profile without a browser: what the commands do to files does not depend on one.
fn setup() -> Setup {
    Setup::new()
        .file("profile/Local State", "{}")
        .file("profile/Last Version", "156.0.8078.79")
        .file("profile/Default/Cookies", "signed in")
        .file("profile/Default/Cache/data_0", "fetched again at need")
        .file("witgate.toml", CONFIG)
}

const CONFIG: &str = "\
[[listener]]
name = \"main\"
bind = \"127.0.0.1:0\"

[[route]]
listener = \"main\"
reply = { status = 204 }

[chrome]
profile = \"profile\"
";

fn archives(setup: &Setup) -> Vec<PathBuf> {
    let entries = fs::read_dir(setup.path().join("backups")).expect("there is a directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

#[test]
fn a_profile_is_backed_up_lost_and_restored() {
    let setup = setup();
    let backup = ["profile", "backup", "--to", "backups", "--keep", "30d"];
    let taken = setup.run_to_end(&backup);
    assert!(taken.status.success(), "{}", taken.output());
    let archive = archives(&setup).pop().expect("one archive");
    let archive = archive.to_str().expect("an ASCII path");
    for said in ["3 files", "156.0.8078.79", ".tar.zst"] {
        assert!(taken.stdout.contains(said), "{said}:\n{}", taken.stdout);
    }

    let cookies = setup.path().join("profile/Default/Cookies");
    fs::write(&cookies, "signed out").expect("the profile can be written");
    let restored = setup.run_to_end(&["profile", "restore", archive]);
    assert!(restored.status.success(), "{}", restored.output());
    assert!(
        restored.stdout.contains("before-restore"),
        "{}",
        restored.stdout
    );
    assert_eq!(fs::read(&cookies).expect("restored"), b"signed in");
    assert!(!setup.path().join("profile/Default/Cache").exists());
}

#[test]
fn a_profile_is_named_without_a_configuration_too() {
    let setup = setup();
    fs::remove_file(setup.path().join("witgate.toml")).expect("it was written");
    let command = [
        "profile",
        "backup",
        "--profile",
        "profile",
        "--to",
        "backups",
    ];
    let taken = setup.run_to_end(&command);
    assert!(taken.status.success(), "{}", taken.output());
    assert_eq!(archives(&setup).len(), 1);
}

#[test]
fn what_cannot_be_backed_up_or_restored_is_said_and_nothing_is_left() {
    let setup = setup().file("notes.tar.zst", "no archive");
    for (command, reason) in [
        (
            &["profile", "backup", "--profile", "nowhere", "--to", "b"][..],
            "no profile of Chromium",
        ),
        (
            &["profile", "backup", "--to", "profile/backups"],
            "inside of the profile",
        ),
        (
            &["profile", "restore", "notes.tar.zst"],
            "cannot read notes.tar.zst",
        ),
        (&["profile", "restore", "nowhere"], "cannot read nowhere"),
    ] {
        let ended = setup.run_to_end(command);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.output());
        assert!(ended.stderr.contains(reason), "{reason}:\n{}", ended.stderr);
    }
    assert!(!setup.path().join("b").exists());
    assert!(!setup.path().join("profile/backups").exists());
    let keys = ["profile", "backup", "--to", "b", "--recipient", "mine"];
    let ended = setup.run_to_end(&keys);
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output());
    assert!(ended.stderr.contains("age-keygen"), "{}", ended.stderr);
}

#[test]
fn what_is_wrong_with_health_is_reported_at_its_place() {
    let config =
        format!("{CONFIG}health = {{ interval = \"0s\", failures = 0, intervall = \"1s\" }}\n");
    let ended = Setup::new().run_and_fail(&config);
    for said in [
        "chrome.health.interval",
        "chrome.health.failures",
        "intervall",
        "witgate.toml:11",
    ] {
        assert!(ended.stderr.contains(said), "{said}:\n{}", ended.stderr);
    }
}
