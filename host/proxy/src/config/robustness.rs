//! Whatever is done to a configuration, reading it ends in a value or a report, and never in a panic.

use super::fuzzed::{read, survives};

const VALID: &str = r#"
[server]
workers = 2
trusted-proxies = ["10.0.0.0/8"]

[[listener]]
name = "main"
bind = "127.0.0.1:8080"
limits = { header-timeout = "10s", header-size = "64KiB", body-size = "none" }

[[route]]
host = ["example.com", "*.example.org"]
path = "/api/*"
strip-prefix = "/api"
headers = { x-tenant = "ä" }
plugins = ["token"]
upstream = "app"
websocket = { ping-interval = "10s", ping-timeout = "5s" }
limits = { upgrades = 64, upgrades-per-client = 16 }

[[route]]
methods = ["GET"]
reply = { status = 200, body = """a
b""" }

[upstream.app]
endpoints = ["http://127.0.0.1:3000"]

[plugin.token]
component = "builtin:bearer-auth"
grant.files = [{ path = ".", as = "/s" }]
config.tokens = [{ name = "box", value = "${env:WITGATE_TEST_SECRET}" }]
"#;

#[test]
fn a_configuration_cut_off_anywhere_is_read_or_reported() {
    assert!(
        survives(VALID),
        "{}",
        read(VALID).expect_err("it was refused")
    );
    for (end, _) in VALID.char_indices() {
        survives(&VALID[..end]);
    }
}

#[test]
fn a_configuration_without_any_one_line_is_read_or_reported() {
    let lines: Vec<&str> = VALID.lines().collect();
    for left_out in 0..lines.len() {
        let kept = lines
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != left_out);
        survives(
            &kept
                .map(|(_, line)| format!("{line}\n"))
                .collect::<String>(),
        );
    }
}

#[test]
fn a_configuration_with_any_value_replaced_is_read_or_reported() {
    const VALUES: [&str; 9] = [
        "0",
        "-1",
        "nan",
        "true",
        "''",
        "[]",
        "{}",
        "2020-01-01",
        "'${env:WITGATE_TEST_SECRET}'",
    ];
    let mut refused = 0;
    for (number, line) in VALID.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else {
            continue;
        };
        for value in VALUES {
            let replace = |(index, line): (usize, &str)| match index == number {
                true => format!("{key} = {value}\n"),
                false => format!("{line}\n"),
            };
            let text: String = VALID.lines().enumerate().map(replace).collect();
            refused += usize::from(!survives(&text));
        }
    }
    assert!(refused > 100, "only {refused} were refused");
}

#[test]
fn a_configuration_with_any_byte_replaced_is_read_or_reported() {
    for (at, character) in VALID.char_indices() {
        for replacement in ["\"", "[", "}", "\n", "\u{0}", "é", "$", "="] {
            let end = at + character.len_utf8();
            survives(&format!("{}{replacement}{}", &VALID[..at], &VALID[end..]));
        }
    }
}
