//! Encodes one component type per hook.
//!
//! A core module becomes a component by custom sections that say what it imports and exports. `wit-bindgen` writes
//! one for a whole world; a plugin exports only the hooks it names in `export!`. So each hook's smallest world is
//! encoded here on its own, `export!` places the sections of the hooks it was given, and the encoder takes their
//! union.

use std::path::{Path, PathBuf};
use std::{env, fs};

use wit_component::StringEncoding;
use wit_parser::Resolve;

/// Hook name in `export!` and the smallest world that has it.
const HOOKS: [(&str, &str); 4] = [
    ("request", "request-plugin"),
    ("response", "response-plugin"),
    ("message", "message-plugin"),
    ("completion", "completion-plugin"),
];

fn main() {
    let manifest =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it for build scripts"));
    let wit = manifest.join("../../wit");
    println!("cargo::rerun-if-changed={}", wit.display());
    for (hook, world) in HOOKS {
        let section = component_type(&wit, world);
        fs::write(out.join(format!("{hook}.component-type")), section)
            .expect("OUT_DIR is writable");
    }
}

fn component_type(wit: &Path, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve
        .push_path(wit)
        .unwrap_or_else(|e| panic!("reading {}: {e:#}", wit.display()));
    let world = resolve
        .select_world(&[package], Some(world))
        .unwrap_or_else(|e| panic!("{e:#}"));
    wit_component::metadata::encode(&resolve, world, StringEncoding::UTF8, None, false)
        .unwrap_or_else(|e| panic!("encoding the component type: {e:#}"))
}
