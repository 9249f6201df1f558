//! Promise: every configuration in the documentation is one that `witgate check` takes, and every link leads somewhere.

#[path = "docs/contract.rs"]
mod contract;

use std::fs;
use std::path::{Path, PathBuf};

use witgate_tests::generated::as_written;
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
fn every_page_of_the_book_is_in_its_summary() {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).expect("it is there");
    for entry in fs::read_dir(&docs).expect("the folder is there") {
        let name = entry.expect("the folder can be read").file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".md") && name != "SUMMARY.md" {
            let link = format!("]({name})");
            assert_eq!(
                summary.matches(&link).count(),
                1,
                "docs/SUMMARY.md names {name} once"
            );
        }
    }
}

#[test]
fn the_page_of_the_contract_says_what_the_contract_says() {
    let wit = root().join("wit");
    let read = |name: &&str| fs::read_to_string(wit.join(format!("{name}.wit")));
    let texts: Vec<_> = contract::FILES
        .iter()
        .map(|name| read(name).expect(name))
        .collect();
    let files = fs::read_dir(&wit)
        .expect("the folder is there")
        .filter_map(Result::ok);
    let files = files.filter(|file| {
        file.path()
            .extension()
            .is_some_and(|extension| extension == "wit")
    });
    assert_eq!(
        files.count(),
        contract::FILES.len(),
        "each file of wit/ has its place on the page"
    );
    as_written("docs/contract.md", &contract::page(&texts));
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
