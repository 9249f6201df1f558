//! Every key that is read is in `docs/configuration.md`, in the section of its table.

use std::path::Path;

use super::{Config, Document};

/// Has every table that a key can lie in. What is not there is asked for as well, as long as its table is.
const EVERY_TABLE: &str = r#"
[server]
trace-context = {}

[admin]
bind = "127.0.0.1:1"

[[listener]]
name = "main"
bind = "127.0.0.1:0"
limits = {}

[[route]]
path = "/a/{id}"
headers = { a = { regex = "b" } }
rewrite = { path = "/{id}" }
upstream = [{ name = "origin", weight = 1 }]
sticky = { cookie = "a" }
plugins = ["hooks"]
websocket = { ping-interval = "1s" }
limits = {}
compress = {}

[[route]]
path = "/b"
reply = {}

[[route]]
path = "/c"
redirect = { to = "/a" }

[upstream.origin]
endpoints = ["http://127.0.0.1:1"]
health = { path = "/" }

[plugin.hooks]
component = "builtin:hooks"
limits = {}

[plugin.hooks.grant]
http-client = { origins = ["http://127.0.0.1:1"] }
keyvalue = {}
metrics = {}
wasi = {}

[keyvalue.memory]
kind = "memory"

[keyvalue.redis]
kind = "redis"
url = "redis://127.0.0.1"
"#;

/// The text of each section of the page, by the table that its heading names.
fn sections(page: &str) -> Vec<(&str, &str)> {
    let sections = page.split("\n## `[").skip(1);
    sections
        .map(|section| {
            let (heading, text) = section.split_once('\n').unwrap_or((section, ""));
            let name = heading.trim_matches(['[', ']', '`']);
            (name.split('.').next().unwrap_or(name), text)
        })
        .collect()
}

fn is_word(text: &str, word: &str) -> bool {
    let part = |character: char| character.is_ascii_alphanumeric() || character == '-';
    text.match_indices(word).any(|(at, _)| {
        let (before, behind) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(part) && !behind.starts_with(part)
    })
}

#[test]
fn every_key_that_is_read_is_in_the_reference() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = std::fs::read_to_string(page).expect("the reference is there");
    let sections = sections(&page);
    let document = Document::parse("every-table.toml", EVERY_TABLE).expect("this is TOML");
    let reader = document.reader();
    let mut root = reader.root();
    let config = Config::read(&mut root);
    root.finish();
    let asked = reader.asked();
    let (_, _warnings) = reader.finish(config).expect("the configuration is valid");
    assert!(asked.len() > 100, "only {} keys were read", asked.len());
    let missing: Vec<_> = asked
        .iter()
        .filter(|path| {
            let mut parts = path.split('.');
            let table = parts.next().unwrap_or_default();
            let Some(key) = parts.next_back() else {
                return !sections.iter().any(|(name, _)| name == &table);
            };
            let mut of_table = sections.iter().filter(|(name, _)| *name == table);
            !of_table.any(|(_, text)| is_word(text, key))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "not in docs/configuration.md: {missing:#?}"
    );
}
