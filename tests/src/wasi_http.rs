//! Standard components of `wasi:http`, made by the toolchains that their authors use.
//!
//! They are built when a test first asks for one and kept in the target directory. `scripts/setup.sh test` installs
//! the toolchains, in `tests/wasi-http`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use crate::clients;
use crate::process::Process;

/// A toolchain that starts from nothing on a busy machine takes minutes.
const BOUND: Duration = Duration::from_secs(400);

/// The component of a package of `tests/wasi-http/rust`, built by cargo for `wasm32-wasip2`.
///
/// # Panics
///
/// When it cannot be built.
#[must_use]
#[track_caller]
pub fn rust(package: &str) -> Vec<u8> {
    cargo(&sources().join("rust"), package)
}

/// The component of a package of the cargo workspace in `directory`. All of that is built, so that features are the same
/// whichever is asked for.
///
/// # Panics
///
/// When it cannot be built.
#[must_use]
#[track_caller]
pub fn cargo(directory: &Path, package: &str) -> Vec<u8> {
    let target = built();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--locked", "--quiet", "--release"])
        .args(["--target", "wasm32-wasip2"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(directory);
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        // Those of the tests are not for another machine.
        cargo.env_remove(name);
    }
    run("cargo build", cargo);
    let file = format!("{}.wasm", package.replace('-', "_"));
    read(&target.join("wasm32-wasip2/release").join(file))
}

/// `javascript/fetch-event.js` by jco, with StarlingMonkey: `wasi:http@0.2`.
///
/// # Panics
///
/// When it cannot be built.
#[must_use]
#[track_caller]
pub fn starlingmonkey() -> Vec<u8> {
    let inputs = ["javascript/fetch-event.js", "javascript/package-lock.json"];
    kept("starlingmonkey.wasm", &inputs, |out| {
        let mut jco = jco("fetch-event.js", "0.2", out);
        jco.args(["--backend", "starlingmonkey"]);
        jco
    })
}

/// `javascript/handler.js` by jco, with QuickJS: `wasi:http@0.3`.
///
/// # Panics
///
/// When it cannot be built.
#[must_use]
#[track_caller]
pub fn quickjs() -> Vec<u8> {
    let inputs = ["javascript/handler.js", "javascript/package-lock.json"];
    kept("quickjs.wasm", &inputs, |out| {
        let mut jco = jco("handler.js", "0.3", out);
        jco.args(["--backend", "quickjs"]);
        jco
    })
}

/// `python/app.py` by componentize-py: `wasi:http@0.2`.
///
/// # Panics
///
/// When it cannot be built.
#[must_use]
#[track_caller]
pub fn python() -> Vec<u8> {
    kept(
        "python.wasm",
        &["python/app.py", "python/requirements.txt"],
        |out| {
            let directory = sources().join("python");
            let mut componentize = Command::new(directory.join(".venv/bin/componentize-py"));
            componentize
                .args(["--wit-path", "../wit/0.2", "--world", "service"])
                .args(["componentize", "app", "--output"])
                .arg(out)
                .current_dir(directory);
            componentize
        },
    )
}

fn jco(source: &str, wit: &str, out: &Path) -> Command {
    let directory = sources().join("javascript");
    let mut jco = clients::interpreter("node");
    jco.arg("node_modules/@bytecodealliance/jco/dist/jco.js")
        .args(["componentize", source, "--wit", &format!("../wit/{wit}")])
        .args(["--world-name", "service", "--out"])
        .arg(out)
        .current_dir(directory);
    jco
}

/// The worlds of the components, and what they are made of.
const WIT: [&str; 7] = [
    "0.2/world.wit",
    "0.2/deps/clocks.wit",
    "0.2/deps/http.wit",
    "0.2/deps/io.wit",
    "0.3/world.wit",
    "0.3/deps/clocks.wit",
    "0.3/deps/http.wit",
];

/// What `build` makes of these files, unless it was made of the same before.
#[track_caller]
fn kept(name: &str, inputs: &[&str], build: impl FnOnce(&Path) -> Command) -> Vec<u8> {
    let (out, made_of) = (built().join(name), built().join(format!("{name}.inputs")));
    fs::create_dir_all(built()).expect("the target directory can be written");
    let mut inputs: Vec<u8> = inputs
        .iter()
        .flat_map(|input| read(&sources().join(input)))
        .collect();
    for file in WIT {
        inputs.extend(read(&sources().join("wit").join(file)));
    }
    if !fs::read(&made_of).is_ok_and(|made_of| made_of == inputs) {
        run(name, build(&out));
        fs::write(&made_of, inputs).expect("the target directory can be written");
    }
    read(&out)
}

#[track_caller]
fn run(name: &str, command: Command) {
    let program = PathBuf::from(command.get_program());
    assert!(
        program.components().count() == 1 || program.exists(),
        "{} is not installed: run `scripts/setup.sh test` first",
        program.display()
    );
    let ended = Process::start(name, command).wait(BOUND);
    assert!(ended.status.success(), "{name} failed:\n{}", ended.output());
}

#[track_caller]
fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wasi-http")
}

/// Beside what cargo built the tests into.
fn built() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own file");
    let target = test.ancestors().nth(3).expect("target/PROFILE/deps");
    target.join("wasi-http")
}
