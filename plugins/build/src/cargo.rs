use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use crate::workspace::Wanted;
use crate::{BuildError, artifact, component, workspace};

/// What plugins are compiled for: it has no system interface, so nothing can be imported but what the contract offers.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// What plugins are compiled for that use WASI by the standard library. The linker makes the component.
pub const WASI_TARGET: &str = "wasm32-wasip2";

/// A plugin that was built.
#[derive(Debug, Clone)]
pub struct Component {
    /// The package's name.
    pub name: String,
    /// The component.
    pub bytes: Vec<u8>,
}

/// A run of cargo that builds plugin packages.
#[derive(Debug, Clone)]
pub struct Build {
    directory: PathBuf,
    target_dir: PathBuf,
    packages: Vec<String>,
    profile: String,
    locked: bool,
    offline: bool,
    shown: bool,
    target: &'static str,
}

impl Build {
    /// A build of packages of the workspace around `directory`.
    ///
    /// `target_dir` is made if it is missing and should be kept between runs. It must not be the target directory of a
    /// cargo that waits for this build, because cargo locks it: a build script takes a directory under `OUT_DIR`.
    pub fn new(directory: impl Into<PathBuf>, target_dir: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            target_dir: target_dir.into(),
            packages: Vec::new(),
            profile: "release".to_owned(),
            locked: false,
            offline: false,
            shown: false,
            target: TARGET,
        }
    }

    /// Adds a package.
    #[must_use]
    pub fn package(mut self, name: impl Into<String>) -> Self {
        self.packages.push(name.into());
        self
    }

    /// The cargo profile; `release` unless set.
    #[must_use]
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = profile.into();
        self
    }

    /// Refuses to change `Cargo.lock`.
    #[must_use]
    pub fn locked(mut self, locked: bool) -> Self {
        self.locked = locked;
        self
    }

    /// Never touches the network. `CARGO_NET_OFFLINE=true` in the environment does the same.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Shows what cargo says on standard error, as it comes. What the compiler says is then not in the
    /// [`BuildError`].
    #[must_use]
    pub fn shown(mut self, shown: bool) -> Self {
        self.shown = shown;
        self
    }

    /// Builds for [`WASI_TARGET`]: the standard library then has clocks, and the files and variables that the operator
    /// grants.
    #[must_use]
    pub fn wasi(mut self) -> Self {
        self.target = WASI_TARGET;
        self
    }

    /// Builds all packages in one run of cargo and makes a component of each, in the order in which they were added.
    ///
    /// Paths of the workspace and of cargo's home are shortened in what is built, by `--remap-path-prefix`; this takes the
    /// place of `rustflags` in cargo's configuration and in the environment.
    ///
    /// # Errors
    ///
    /// [`BuildError`]; what cargo and rustc said is in it.
    pub fn run(&self) -> Result<Vec<Component>, BuildError> {
        self.check_target()?;
        let wanted = workspace::wanted(&mut self.cargo(), &self.packages);
        let mut command = self.command(&wanted);
        if self.shown {
            command.stderr(Stdio::inherit());
        }
        let output = run(&mut command, "CARGO")?;
        if !output.status.success() {
            return Err(BuildError::Cargo {
                packages: self.packages.join(", "),
                directory: self.directory.clone(),
                output: rendered(&output),
            });
        }
        self.packages
            .iter()
            .zip(&wanted)
            .map(|(package, wanted)| {
                let bytes = made(package, &output, self.target)?;
                Ok(Component {
                    name: package.clone(),
                    bytes: wanted.metadata.added_to(&bytes),
                })
            })
            .collect()
    }

    /// Asks for the target first: what rustc says without it is a page about a missing crate `core`.
    fn check_target(&self) -> Result<(), BuildError> {
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc
            .args(["--print", "target-libdir", "--target", self.target])
            .current_dir(&self.directory);
        let output = run(&mut rustc, "RUSTC")?;
        let libdir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if output.status.success() && libdir.is_dir() {
            Ok(())
        } else {
            Err(BuildError::TargetMissing {
                target: self.target,
            })
        }
    }

    /// A call of cargo in the workspace, without arguments.
    fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.directory);
        for (name, _) in env::vars_os().filter(|(name, _)| belongs_to_the_outer_build(name)) {
            cargo.env_remove(name);
        }
        cargo
    }

    fn command(&self, wanted: &[Wanted]) -> Command {
        let mut cargo = self.cargo();
        cargo.env(
            "CARGO_ENCODED_RUSTFLAGS",
            remapped_paths(&self.directory).join(OsStr::new("\u{1f}")),
        );
        cargo.args(["build", "--target", self.target, "--profile", &self.profile]);
        cargo.args(["--message-format", "json-render-diagnostics"]);
        cargo.arg("--target-dir").arg(&self.target_dir);
        for package in wanted {
            cargo.args(["--package", &package.specification]);
        }
        if self.locked {
            cargo.arg("--locked");
        }
        if self.offline {
            cargo.arg("--offline");
        }
        cargo
    }
}

/// Variables that an outer cargo, clippy or coverage run sets for its own crates and that would change this build.
/// What chooses the toolchain, the registries, the network and the job server stays.
fn belongs_to_the_outer_build(name: &OsStr) -> bool {
    const NAMES: [&str; 15] = [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_TARGET_DIR",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_CRATE_NAME",
        "TARGET",
        "OUT_DIR",
        "OPT_LEVEL",
        "DEBUG",
        "PROFILE",
    ];
    const PREFIXES: [&str; 6] = [
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_PROFILE_",
        "DEP_",
    ];
    let Some(name) = name.to_str() else {
        return false;
    };
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Panic messages hold source paths. Shortened, the component is the same wherever it is built, and tells nothing of
/// the machine.
fn remapped_paths(directory: &Path) -> Vec<OsString> {
    // Of `.` there is no ancestor but the empty path.
    let directory = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned());
    let workspace = directory
        .ancestors()
        .filter(|dir| dir.join("Cargo.lock").is_file())
        .last();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    [
        (Some(workspace.unwrap_or(&directory).to_owned()), "."),
        (cargo_home, "cargo"),
    ]
    .into_iter()
    .filter_map(|(from, to)| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from?);
        flag.push("=");
        flag.push(to);
        Some(flag)
    })
    .collect()
}

fn run(command: &mut Command, variable: &'static str) -> Result<Output, BuildError> {
    command.output().map_err(|source| BuildError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        variable,
        source,
    })
}

fn made(package: &str, output: &Output, target: &str) -> Result<Vec<u8>, BuildError> {
    let name = || package.to_owned();
    let Some(module) = artifact::module_of(package, &output.stdout) else {
        return Err(BuildError::NoModule { package: name() });
    };
    let module = fs::read(&module).map_err(|source| BuildError::Read { module, source })?;
    if target == WASI_TARGET {
        return Ok(module);
    }
    component::encode(&module).map_err(|source| BuildError::Encode {
        package: name(),
        source,
    })
}

fn rendered(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned()
}
