//! Promise: `witgate snapshot show`, `diff` and `list` tell what snapshots hold by counts and names and never a value,
//! and `[chrome.snapshot]` is checked at its lines.

use serde_json::{Value, json};
use witgate_tests::process::Ended;
use witgate_tests::witgate::Setup;

const SECRET: &str = "hunter2";

fn state(cookies: &[(&str, &str, i64)], items: &[(&str, &str)]) -> String {
    let cookies: Vec<_> = cookies
        .iter()
        .map(|(name, value, expires)| {
            json!({"name": name, "value": format!("{SECRET}{value}"), "domain": ".example.com", "path": "/",
                "expires": expires, "httpOnly": true, "secure": true, "sameSite": "Lax"})
        })
        .collect();
    let items: Vec<_> = items
        .iter()
        .map(|(name, value)| json!({"name": name, "value": format!("{SECRET}{value}")}))
        .collect();
    json!({"cookies": cookies, "origins": [{"origin": "https://example.com", "localStorage": items}]}).to_string()
}

/// Old, new, and new again in another order.
fn setup() -> Setup {
    let late = 4_000_000_000;
    let new = state(&[("sid", "2", -1), ("kept", "1", late)], &[("theme", "1")]);
    let mut other: Value = serde_json::from_str(&new).expect("JSON");
    other["cookies"].as_array_mut().expect("a list").reverse();
    Setup::new()
        .file(
            "old.json",
            state(
                &[
                    ("sid", "1", late - 1),
                    ("kept", "1", late),
                    ("gone", "1", 1_000),
                ],
                &[("theme", "1"), ("draft", "1")],
            ),
        )
        .file("new.json", new)
        .file("same.json", other.to_string())
        .file("page.html", format!("<html>{SECRET}"))
        .file("other.json", format!(r#"{{"cookies":"{SECRET}"}}"#))
        .file(
            "sealed.json.age",
            format!("age-encryption.org/v1\n{SECRET}"),
        )
}

fn run(setup: &Setup, arguments: &[&str], code: i32) -> Ended {
    let arguments = [&["snapshot"], arguments].concat();
    let ended = setup.run_to_end(&arguments);
    assert_eq!(
        ended.status.code(),
        Some(code),
        "{arguments:?}: {}",
        ended.output()
    );
    let output = ended.output();
    assert!(
        !output.contains(SECRET) && !output.contains("panicked"),
        "{output}"
    );
    ended
}

#[test]
fn show_counts_and_names() {
    let setup = setup();
    let text = run(&setup, &["show", "old.json"], 0).stdout;
    for said in [
        "cookies: 3, of which 0 end with the session and 1 have expired",
        "the next to expire: sid of .example.com, 2096-10-02T07:06:39Z",
        "3  .example.com",
        "https://example.com: 2 localStorage",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    let document = run(&setup, &["show", "old.json", "--format", "json"], 0).stdout;
    let document: Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(document["cookies"]["total"], 3);
    assert_eq!(document["cookies"]["next_to_expire"]["name"], "sid");
    assert_eq!(
        document["origins"]["https://example.com"]["local_storage"],
        2
    );
}

#[test]
fn diff_names_what_changed_and_its_exit_code_is_that_of_diff() {
    let setup = setup();
    let text = run(&setup, &["diff", "old.json", "new.json"], 1).stdout;
    assert_eq!(
        text,
        "- cookie .example.com / gone\n\
         ~ cookie .example.com / sid (expires, value)\n\
         - localStorage https://example.com draft\n"
    );
    let same = run(&setup, &["diff", "new.json", "same.json"], 0);
    assert_eq!(same.output(), "");
    let json = run(
        &setup,
        &["diff", "new.json", "old.json", "--format", "json"],
        1,
    )
    .stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["change"], "added");
    assert_eq!(json[0]["name"], "/ gone");
    run(&setup, &["diff", "new.json", "missing.json"], 2);
    run(&setup, &["diff", "new.json", "page.html"], 2);
    run(&setup, &["diff", "new.json"], 2);
}

#[test]
fn what_is_no_snapshot_is_said_without_being_quoted() {
    let setup = setup();
    for (file, said) in [
        ("page.html", "not JSON"),
        ("other.json", "`cookies` is missing"),
        ("missing.json", "No such file"),
        ("sealed.json.age", "--identity"),
    ] {
        let ended = run(&setup, &["show", file], 1);
        assert!(
            ended.stderr.contains(said) && ended.stderr.contains(file),
            "{}",
            ended.stderr
        );
    }
    let ended = run(
        &setup,
        &["show", "sealed.json.age", "--identity", "page.html"],
        1,
    );
    assert!(ended.stderr.contains("age-keygen"), "{}", ended.stderr);
}

#[test]
fn list_tells_the_generations_and_which_is_current() {
    let setup = Setup::new();
    let nothing = run(&setup, &["list", "state.json"], 0).stdout;
    assert!(nothing.contains("no generations"), "{nothing}");

    let old = "20260101T000000Z-0123456789abcdef.json";
    let current = "20260102T000000Z-0123456789abcdef.json";
    let suspicious = "20260103T000000Z-fedcba9876543210.suspicious.json";
    let setup = [old, current, suspicious]
        .iter()
        .fold(setup, |setup, name| {
            setup.file(&format!("state.json.history/{name}"), SECRET)
        })
        .file(
            "state.json.status.json",
            r#"{"generation":"2026-01-02T00:00:00Z"}"#,
        );
    let text = run(&setup, &["list", "state.json"], 0).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[0].contains(" suspicious ") && lines[0].ends_with(suspicious),
        "{text}"
    );
    assert!(
        lines[1].contains(" current ") && lines[1].ends_with(current),
        "{text}"
    );
    assert!(
        lines[2].starts_with("2026-01-01T00:00:00Z") && lines[2].ends_with(old),
        "{text}"
    );
    let json = run(&setup, &["list", "state.json", "--format", "json"], 0).stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json[1]["current"], &json[0]["suspicious"]),
        (&json!(true), &json!(true))
    );
}

fn check(snapshot: &str) -> Ended {
    let config = format!(
        "[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n\n[[route]]\nreply = {{ body = \"\" }}\n\n\
         [chrome]\nprofile = \"profile\"\nbinary = \"/bin/true\"\nsandbox = false\n\n\
         [chrome.snapshot]\n{snapshot}\n"
    );
    Setup::new()
        .file("witgate.toml", config)
        .run_to_end(&["check", "witgate.toml"])
}

/// The line of the first key below `[chrome.snapshot]`.
const FIRST: usize = 14;

#[test]
fn every_mistake_in_the_configuration_is_found_at_its_line() {
    for (snapshot, line, said) in [
        ("file = \"s.json\"\nhistory = -1", FIRST + 1, "out of range"),
        ("file = \"s.json\"\nmax-loss = 80", FIRST + 1, "string"),
        ("file = \"s.json\"\nmax-loss = \"80\"", FIRST + 1, "percent"),
        ("file = \"s.json\"\nmax-loss = \"0%\"", FIRST + 1, "80%"),
        ("file = \"s.json\"\naccept-after = 2", FIRST + 1, "duration"),
        (
            "file = \"s.json.age\"\nencrypt-to = [\"age1no\"]",
            FIRST + 1,
            "age-keygen",
        ),
        (
            "file = \"s.json\"\nschedule = \"sometimes\"",
            FIRST + 1,
            "never",
        ),
        (
            "file = \"s.json\"\nmax-lost = \"1%\"",
            FIRST + 1,
            "max-loss",
        ),
        ("file = \"s.json.age\"", FIRST, "encrypt-to"),
    ] {
        let ended = check(snapshot);
        let output = ended.output();
        assert_eq!(ended.status.code(), Some(1), "{snapshot}: {output}");
        assert!(
            output.contains(&format!("witgate.toml:{line}:")),
            "{snapshot}: {output}"
        );
        assert!(output.contains(said), "{snapshot}: {output}");
    }
    let fine = "file = \"s.json\"\nhistory = 0\nmax-loss = \"100%\"\naccept-after = \"0s\"\nencrypt-to = []\n\
        schedule = \"never\"";
    let ended = check(fine);
    assert!(ended.status.success(), "{}", ended.output());
}
