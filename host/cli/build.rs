//! Writes tables of what `witgate plugin new` puts into a project: the contract, and the SDK for Rust.
//!
//! The SDK becomes a package that needs nothing of this workspace: what its manifest inherits is filled in, and the
//! contract lies within it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let manifest =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it for build scripts"));
    let root = manifest.join("../..");
    let wit = files_below(&root.join("wit"), "wit");
    let mut sdk = files_below(&root.join("plugins/sdk/src"), "rs");
    sdk = sdk
        .into_iter()
        .map(|(name, text)| (format!("src/{name}"), outside(&text)))
        .collect();
    let script = read(&root.join("plugins/sdk/build.rs"));
    sdk.insert("build.rs".into(), outside(&script));
    let workspace = read(&root.join("Cargo.toml"));
    let manifest = read(&root.join("plugins/sdk/Cargo.toml"));
    sdk.insert("Cargo.toml".into(), alone(&manifest, &workspace));
    for (name, text) in files_below(&root.join("plugins/sdk-macros/src"), "rs") {
        sdk.insert(format!("macros/src/{name}"), text);
    }
    let manifest = read(&root.join("plugins/sdk-macros/Cargo.toml"));
    sdk.insert("macros/Cargo.toml".into(), alone(&manifest, &workspace));
    write(&out.join("contract.rs"), &table(&wit));
    write(&out.join("sdk.rs"), &table(&sdk));
    let lock = read(&root.join("Cargo.lock"));
    println!(
        "cargo::rustc-env=WITGATE_BUILT_FROM={}",
        built_from(&root, &lock)
    );
    write(&out.join("Cargo.lock.rs"), &format!("{lock:?}"));
}

/// ` (commit 0123456789ab, wasmtime 48.0.8)`. The commit is told by `WITGATE_COMMIT`, or for a release by git; a build for
/// development would be done anew for each.
fn built_from(root: &Path, lock: &str) -> String {
    println!("cargo::rerun-if-env-changed=WITGATE_COMMIT");
    let of_git = || {
        if env::var("PROFILE").as_deref() != Ok("release") {
            return None;
        }
        let mut git = Command::new("git");
        let head = git
            .args(["rev-parse", "--short=12", "HEAD"])
            .current_dir(root);
        let head = head.output().ok().filter(|head| head.status.success())?;
        Some(String::from_utf8_lossy(&head.stdout).trim().to_owned())
    };
    let commit = env::var("WITGATE_COMMIT").ok().or_else(of_git);
    let commit = commit.map_or_else(String::new, |commit| format!("commit {commit}, "));
    let wasmtime = lock.split("name = \"wasmtime\"\nversion = \"").nth(1);
    let wasmtime = wasmtime.and_then(|rest| rest.split('"').next());
    format!(
        " ({commit}wasmtime {})",
        wasmtime.unwrap_or("of an unknown version")
    )
}

/// The files with this extension below a directory, by their path from there.
fn files_below(directory: &Path, extension: &str) -> BTreeMap<String, String> {
    println!("cargo::rerun-if-changed={}", directory.display());
    let mut files = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).expect("a directory of the repository can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|other| other == extension) {
                let name = path.strip_prefix(directory).expect("it is below");
                files.insert(name.display().to_string(), read(&path));
            }
        }
    }
    files
}

/// A source of the SDK that finds the contract beside itself.
fn outside(source: &str) -> String {
    source.replace("../../wit", "wit")
}

/// Where the packages of this workspace lie, and where in a project.
const PATHS: (&str, &str) = ("plugins/sdk-macros", "macros");

/// The SDK's manifest without what only this workspace knows.
fn alone(manifest: &str, workspace: &str) -> String {
    let mut text = String::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        if matches!(section, "[lints]" | "[dev-dependencies]") {
            continue;
        }
        match line.split_once(".workspace = true") {
            Some((key, rest)) => {
                assert!(rest.trim().is_empty(), "`{line}` is more than inherited");
                writeln!(text, "{}", inherited(key, workspace)).expect("a String takes all");
            }
            None => writeln!(text, "{line}").expect("a String takes all"),
        }
    }
    text
}

/// The line of the workspace for a key, without its comment.
fn inherited(key: &str, workspace: &str) -> String {
    let start = format!("{key} = ");
    let line = workspace.lines().find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("the workspace says nothing of `{key}` in one line"));
    let line = line.split(" # ").next().unwrap_or(line).trim_end();
    assert!(
        line.ends_with(['"', '}']),
        "`{line}` goes on in the next line"
    );
    line.replace(PATHS.0, PATHS.1)
}

fn table(files: &BTreeMap<String, String>) -> String {
    let mut table = String::from("&[\n");
    for (name, text) in files {
        writeln!(table, "    ({name:?}, {text:?}),").expect("a String takes all");
    }
    table + "]\n"
}

fn read(path: &Path) -> String {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("OUT_DIR is writable");
}
