//! Promise: every configuration in the documentation is one that `witgate check` takes, and every link leads somewhere.

#[path = "docs/book.rs"]
mod book;
#[path = "docs/contract.rs"]
mod contract;
#[path = "docs/reference.rs"]
mod reference;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use witgate_tests::clients::checker;
use witgate_tests::generated::as_written;
use witgate_tests::process::Process;
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
fn the_tables_of_the_configuration_are_those_of_the_schema() {
    let page = fs::read_to_string(root().join("docs/configuration.md")).expect("it is there");
    let printed = Setup::new().run_to_end(&["schema"]);
    assert!(printed.status.success(), "{}", printed.output());
    let schema = serde_json::from_str(&printed.stdout).expect("it is JSON");
    as_written("docs/configuration.md", &reference::page(&page, &schema));
}

/// Configurations that lie in files of their own.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        let name = path
            .file_name()
            .map_or("".into(), |name| name.to_string_lossy());
        if path.is_dir() && !["target", "node_modules", "state", ".venv"].contains(&&*name) {
            files(&path, found);
        } else if name.ends_with(".toml") {
            let text = fs::read_to_string(&path).expect("it is text");
            if text.lines().any(|line| line.trim() == "[[listener]]") {
                found.push(path.clone());
            }
        }
    }
}

/// A broken configuration whose report has an error, which a schema can see.
fn is_refused_by_its_shape(case: &Path) -> Option<bool> {
    /// What is wrong shows in no single value, or not in its shape.
    const BEYOND: [&str; 12] = [
        "bad-match",
        "conflicting-routes",
        "duplicate-listener",
        "missing-component",
        "missing-environment-variable",
        "missing-secret-file",
        "route-without-destination",
        "route-without-listener",
        "strip-prefix-beyond-path",
        "two-destinations",
        "unknown-plugin-and-listener",
        "unknown-upstream",
    ];
    let expected = fs::read_to_string(case.with_extension("expected")).ok()?;
    let name = case.file_stem()?.to_string_lossy();
    match expected.contains("error: ") {
        false => Some(false),
        true if BEYOND.contains(&&*name) => None,
        true => Some(true),
    }
}

#[test]
fn the_schema_takes_what_is_valid_and_refuses_what_has_another_shape() {
    let setup = Setup::new();
    let printed = setup.run_to_end(&["schema"]);
    let setup = setup.file("schema.json", &printed.stdout);
    let mut valid = Vec::new();
    files(&root().join("examples"), &mut valid);
    files(&root().join("host/cli/src"), &mut valid);
    for (name, text) in pages() {
        for (index, part) in configurations(&text).iter().enumerate() {
            let file = format!("{}-{index}.toml", name.replace('/', "-"));
            let path = setup.path().join(file);
            fs::write(&path, completed(part)).expect("a written file");
            valid.push(path);
        }
    }
    assert!(valid.len() > 20, "only {valid:?}");
    let entries = fs::read_dir(root().join("tests/broken-configs")).expect("they are there");
    let broken = entries.map(|entry| entry.expect("it can be read").path());
    let is_config = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "toml");
    let broken: Vec<_> = broken.filter(is_config).collect();
    let mut command = checker("python");
    command.arg(root().join("tests/checkers/schema.py"));
    command.arg(setup.path().join("schema.json"));
    command.args(&valid).args(&broken);

    let ended = Process::start("schema.py", command).wait(Duration::from_secs(60));

    assert!(ended.status.success(), "{}", ended.output());
    let refused: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    let complaints = |file: &PathBuf| &refused[file.to_string_lossy().as_ref()];
    for file in &valid {
        assert!(
            complaints(file).is_null(),
            "{}: {}",
            file.display(),
            complaints(file)
        );
    }
    for case in &broken {
        if let Some(expected) = is_refused_by_its_shape(case) {
            assert_eq!(
                complaints(case).is_array(),
                expected,
                "{}: {}",
                case.display(),
                complaints(case)
            );
        }
    }
}

#[test]
fn the_book_is_built_without_a_warning_and_its_links_lead_somewhere() {
    let setup = Setup::new();
    let mut command = Command::new(root().join("scripts/book.sh"));
    command.arg(setup.path().join("book"));
    let ended = Process::start("book.sh", command).wait(Duration::from_secs(60));
    assert!(ended.status.success(), "{}", ended.output());
    let broken = book::broken_links(&setup.path().join("book"));
    assert!(broken.is_empty(), "{broken:#?}");
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
