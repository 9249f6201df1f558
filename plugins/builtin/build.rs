//! Builds the plugins that come with the binary and writes a table of them for `lib.rs`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use witgate_build::{Build, Component};

/// Each is a package in a folder of the same name beside this one.
const PLUGINS: [&str; 20] = [
    "allow-list",
    "basic-auth",
    "bearer-auth",
    "cdp-endpoint",
    "cdp-guard",
    "cdp-urls",
    "connection-close",
    "cors",
    "forward-auth",
    "headers",
    "host-rewrite",
    "ip-allow",
    "jwt-auth",
    "maintenance",
    "path-rewrite",
    "rate-limit",
    "redirect",
    "request-id",
    "security-headers",
    "snapshot-server",
];

fn main() {
    let manifest = directory("CARGO_MANIFEST_DIR");
    let out = directory("OUT_DIR");
    watch(&manifest);
    // Under OUT_DIR, since the target directory is locked by the cargo that waits for this script.
    let mut build = Build::new(&manifest, out.join("target"))
        .profile("plugin")
        .locked(true);
    for plugin in PLUGINS {
        build = build.package(plugin);
    }
    match build.run() {
        Ok(components) => embed(&components, &out),
        Err(error) => {
            println!(
                "cargo::error=the built-in plugins cannot be built: {}",
                one_line(&error.to_string())
            );
            eprintln!("{error}");
            process::exit(1);
        }
    }
}

fn directory(variable: &str) -> PathBuf {
    env::var_os(variable)
        .expect("cargo sets it for build scripts")
        .into()
}

/// What the components are made of: sources, the SDK, the contract, and the versions and profile in the workspace.
fn watch(manifest: &Path) {
    let plugins = manifest.join("..");
    for package in PLUGINS.iter().chain(&["sdk", "sdk-macros"]) {
        println!(
            "cargo::rerun-if-changed={}",
            plugins.join(package).join("src").display()
        );
        println!(
            "cargo::rerun-if-changed={}",
            plugins.join(package).join("Cargo.toml").display()
        );
    }
    for path in [
        "../sdk/build.rs",
        "../../wit",
        "../../Cargo.toml",
        "../../Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", manifest.join(path).display());
    }
}

fn embed(components: &[Component], out: &Path) {
    let mut table = String::from("&[\n");
    for Component { name, bytes } in components {
        let file = out.join(format!("{name}.wasm"));
        fs::write(&file, bytes).expect("OUT_DIR is writable");
        writeln!(
            table,
            "    Builtin {{ name: {name:?}, component: include_bytes!({file:?}) }},"
        )
        .expect("a String takes all that is written");
    }
    table.push_str("]\n");
    fs::write(out.join("table.rs"), table).expect("OUT_DIR is writable");
}

/// A directive to cargo is one line; the rest goes to standard error.
fn one_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
