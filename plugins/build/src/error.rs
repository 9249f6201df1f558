use std::io;
use std::path::PathBuf;

/// Why a plugin could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// cargo or rustc could not be started.
    #[error(
        "cannot run `{program}`: {source}; install Rust or set the variable {variable} to the program"
    )]
    Start {
        /// What was to be run.
        program: String,
        /// The environment variable that names another one.
        variable: &'static str,
        /// Why it did not start.
        source: io::Error,
    },
    /// The toolchain has no standard library for the target.
    #[error("the Rust target {target} is not installed; run `rustup target add {target}`")]
    TargetMissing {
        /// The target triple.
        target: &'static str,
    },
    /// cargo ended with an error.
    #[error("cargo could not build {packages} in {directory}{}", below(.output))]
    Cargo {
        /// The packages, separated by commas.
        packages: String,
        /// Where cargo ran.
        directory: PathBuf,
        /// What cargo and rustc said.
        output: String,
    },
    /// The package was built, but is no plugin crate.
    #[error(
        "package {package} has no cdylib; add `[lib] crate-type = [\"cdylib\"]` to its Cargo.toml"
    )]
    NoModule {
        /// The package.
        package: String,
    },
    /// The module that cargo made could not be read.
    #[error("cannot read {module}: {source}")]
    Read {
        /// The module's file.
        module: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The module could not be made a component.
    #[error("package {package}: {source}")]
    Encode {
        /// The package.
        package: String,
        /// Why not.
        source: EncodeError,
    },
}

/// Nothing when it was shown already.
fn below(output: &str) -> String {
    match output {
        "" => String::new(),
        output => format!(":\n{output}"),
    }
}

/// Why a core module could not be made a component.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot make a component of the module: {reason}; is it built with witgate-plugin, and is `export!` in it?"
)]
pub struct EncodeError {
    pub(crate) reason: String,
}
