//! Builds small packages and reads the messages of those that cannot be built.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use tempfile::TempDir;
use witgate_build::{Build, BuildError};

/// A package of its own, with this `[lib]` table and this source.
fn package(lib: &str, source: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let manifest =
        format!("[package]\nname = \"guest\"\nedition = \"2024\"\n[lib]\n{lib}\n[workspace]\n");
    write(directory.path(), "Cargo.toml", &manifest);
    write(directory.path(), "src/lib.rs", source);
    directory
}

fn write(directory: &Path, file: &str, text: &str) {
    let path = directory.join(file);
    fs::create_dir_all(path.parent().expect("a file is in a directory"))
        .expect("scratch is writable");
    fs::write(path, text).expect("scratch is writable");
}

fn error_of(package: &TempDir) -> BuildError {
    let build = Build::new(package.path(), package.path().join("target"))
        .package("guest")
        .offline(true);
    build.run().expect_err("this package is no plugin")
}

#[test]
fn a_package_that_does_not_compile_is_reported_with_what_the_compiler_said() {
    let error = error_of(&package(
        "crate-type = [\"cdylib\"]",
        "pub fn broken() -> u8 { missing }",
    ));
    let BuildError::Cargo {
        packages, output, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(packages, "guest");
    assert!(output.contains("cannot find value `missing`"), "{output}");
}

#[test]
fn a_package_without_a_cdylib_is_told_to_have_one() {
    let error = error_of(&package("", "pub fn f() {}"));
    assert!(matches!(error, BuildError::NoModule { .. }), "{error}");
    assert!(
        error.to_string().contains("crate-type = [\"cdylib\"]"),
        "{error}"
    );
}

#[test]
fn a_module_without_the_export_macro_is_told_to_use_it() {
    let error = error_of(&package("crate-type = [\"cdylib\"]", "pub fn f() {}"));
    assert!(matches!(error, BuildError::Encode { .. }), "{error}");
    assert!(error.to_string().contains("`export!`"), "{error}");
}

#[test]
fn a_package_that_is_not_there_is_reported() {
    let directory = package("", "");
    let build = Build::new(directory.path(), directory.path().join("target"))
        .package("gast")
        .offline(true);
    let error = build.run().expect_err("there is no such package");
    let BuildError::Cargo { output, .. } = &error else {
        panic!("{error}")
    };
    assert!(output.contains("gast"), "{output}");
}

#[test]
fn flags_of_an_outer_build_do_not_reach_this_one() {
    // With a variable kept, this would not compile.
    let package = package(
        "",
        "#[cfg(outer)] compile_error!(\"the outer build's flags arrived\");",
    );
    let error = error_with(
        &package,
        &[
            ("RUSTFLAGS", "--cfg outer"),
            ("CARGO_ENCODED_RUSTFLAGS", "--cfg\u{1f}outer"),
            ("CARGO_BUILD_TARGET", "no-such-target"),
            ("RUSTC_WORKSPACE_WRAPPER", "/no/such/wrapper"),
        ],
    );
    // It compiles, and then lacks a cdylib.
    assert!(error.contains("has no cdylib"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_missing_target_is_told_how_to_get_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let package = package("", "");
    let rustc = package.path().join("rustc");
    fs::write(&rustc, "#!/bin/sh\necho /no/such/directory\n").expect("scratch is writable");
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).expect("scratch is ours");
    let error = error_with(&package, &[("RUSTC", &rustc.to_string_lossy())]);
    assert!(
        error.contains("run `rustup target add wasm32-unknown-unknown`"),
        "{error}"
    );
}

/// The error of a build in another environment. That of this process is shared by all tests, so a process of its own
/// builds: this program once more, with `inner` as its only test.
fn error_with(package: &TempDir, environment: &[(&str, &str)]) -> String {
    let output = Command::new(env::current_exe().expect("a running program has a path"))
        .args(["--exact", "inner", "--ignored", "--nocapture"])
        .env("INNER_PACKAGE", package.path())
        .envs(environment.iter().copied())
        .output()
        .expect("the test program runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    told
}

#[test]
#[ignore = "a part of other tests, which start it in an environment of its own"]
fn inner() {
    let package = env::var("INNER_PACKAGE").expect("set by the outer test");
    let build = Build::new(&package, Path::new(&package).join("target"))
        .package("guest")
        .offline(true);
    println!("{}", build.run().expect_err("no plugin"));
}
