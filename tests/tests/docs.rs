//! Promise: every configuration in the documentation is one that `witgate check` takes, and every link leads somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use witgate_tests::witgate::Setup;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every page of the repository, by its path from the top.
fn pages() -> Vec<(String, String)> {
    let folders = ["", "docs", "wit", "examples/*", "plugins/*"];
    let folders = folders
        .iter()
        .flat_map(|folder| match folder.strip_suffix("/*") {
            Some(parent) => subfolders(parent),
            None => vec![(*folder).to_owned()],
        });
    let mut pages = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(root().join(&folder)).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path
                    .file_name()
                    .expect("a file has a name")
                    .to_string_lossy();
                let text = fs::read_to_string(&path).expect("a page is text");
                pages.push((format!("{folder}/{name}"), text));
            }
        }
    }
    pages
}

fn subfolders(parent: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(parent)).expect("the folder is there");
    let folders = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir());
    folders
        .map(|folder| format!("{parent}/{}", folder.file_name().to_string_lossy()))
        .collect()
}

/// What stands between "```toml" and "```". A block marked otherwise, such as `toml,no-check`, is none.
fn configurations(page: &str) -> Vec<String> {
    let blocks = page.split("\n```toml\n").skip(1);
    blocks
        .map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned() + "\n")
        .collect()
}

/// A part that shows plugins alone, put where it could stand.
fn completed(part: &str) -> String {
    if part.contains("[[listener]]") {
        return part.to_owned();
    }
    let names = part
        .lines()
        .filter_map(|line| line.strip_prefix("[plugin.")?.strip_suffix(']'));
    let names: Vec<&str> = names.collect();
    assert!(
        !names.is_empty(),
        "neither a whole configuration nor a plugin:\n{part}"
    );
    format!(
        "[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n\n\
         [[route]]\nplugins = {names:?}\nreply = {{ status = 200 }}\n\n{part}"
    )
}

/// Stands for what a machine would have: variables, secrets, directories.
fn machine(config: &str) -> (Setup, String) {
    let setup = Setup::new()
        .file("devbox", "a-secret-of-some-length")
        .file("snapshots/keep", "");
    let variables = config
        .split("${env:")
        .skip(1)
        .filter_map(|rest| rest.split(['}', ':']).next());
    let setup = variables.fold(setup, |setup, name| {
        setup.env(name, "a-value-of-some-length")
    });
    let config = config
        .replace("/run/secrets/devbox", "devbox")
        .replace("/var/lib/witgate/snapshots", "snapshots");
    (setup.file("witgate.toml", &config), config)
}

#[test]
fn every_configuration_in_the_documentation_is_valid() {
    let mut checked = 0;
    for (name, text) in pages() {
        for part in configurations(&text) {
            let (setup, config) = machine(&completed(&part));

            let ended = setup.run_to_end(&["check", "witgate.toml"]);

            assert!(
                ended.status.success(),
                "{name}:\n{config}\n{}",
                ended.output()
            );
            checked += 1;
        }
    }
    assert!(checked >= 6, "only {checked} configurations were found");
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    for (name, text) in pages() {
        let page = root().join(name.trim_start_matches('/'));
        let folder = page.parent().expect("a page lies in a folder");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next())
        {
            if !link.is_empty() && !link.contains("://") {
                assert!(folder.join(link).exists(), "{name}: {link} leads nowhere");
            }
        }
    }
}
