//! `witgate plugin build`: the toolchain of the project's language makes a component of it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use witgate_build::{Build, BuildError};
use witgate_chrome::write_atomically;
use witgate_runtime::interfaces_of;

use super::project::{Kind, Project, shown, unreadable};
use super::{args, component, toolchain};
use crate::Ended;

/// The world of the project's own WIT package, which the templates write.
const WORLD: &str = "component";

/// Builds the component of the project and says what came out.
pub(crate) fn build(args: &args::Project) -> Result<PathBuf, Ended> {
    let project = Project::find(args)?;
    build_project(&project)?;
    Ok(project.component())
}

/// Builds a project's component and writes it beside the project's files, unless it is there already.
pub(crate) fn build_project(project: &Project) -> Result<(), Ended> {
    let file = project.component();
    let shown_file = file.strip_prefix(".").unwrap_or(&file).display();
    // cargo knows by itself, and better.
    if project.kind != Kind::Rust && project.is_up_to_date() {
        eprintln!("{shown_file} is up to date");
        return Ok(());
    }
    let begun = Instant::now();
    let bytes = match &project.kind {
        Kind::Rust => rust(project)?,
        Kind::JavaScript { main } => project.metadata.added_to(&javascript(project, main)?),
        Kind::Python { module } => project.metadata.added_to(&python(project, module)?),
    };
    write_atomically(&file, &bytes).map_err(Ended::because)?;
    let interfaces = interfaces_of(&bytes);
    eprintln!(
        "{shown_file}: {}, {}, built in {:.1} s",
        component::size(bytes.len()),
        component::hooks(&interfaces.exports).join(", "),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn rust(project: &Project) -> Result<Vec<u8>, Ended> {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| project.directory.join("target"));
    // cargo runs in the project's directory.
    let target = std::path::absolute(target).map_err(Ended::because)?;
    let build = Build::new(&project.directory, target)
        .package(&project.name)
        .profile(profile(&project.directory))
        .offline(project.offline)
        .shown(true);
    match build.run() {
        Ok(mut components) => Ok(components.remove(0).bytes),
        Err(error @ BuildError::Start { .. }) => {
            Err(Ended::because(format!("{error}; https://rustup.rs has it")))
        }
        Err(error) => Err(Ended::because(error)),
    }
}

/// The profile that the project, or the workspace around it, has for plugins.
fn profile(directory: &Path) -> &'static str {
    let has = |directory: &Path| {
        let manifest = std::fs::read_to_string(directory.join("Cargo.toml"));
        manifest.is_ok_and(|text| text.lines().any(|line| line.trim() == "[profile.plugin]"))
    };
    let directory = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned());
    match directory.ancestors().any(has) {
        true => "plugin",
        false => "release",
    }
}

fn javascript(project: &Project, main: &str) -> Result<Vec<u8>, Ended> {
    let jco = toolchain::jco(project)?;
    made_by("jco", project, |out| {
        let mut node = Command::new("node");
        node.args([jco, "componentize", main, "--wit", "wit"])
            .args(["--world-name", WORLD, "--backend", "quickjs"])
            .args(["--backend-qjs-stub-wasi", "--backend-qjs-disable-async"])
            .arg("--out")
            .arg(out);
        node
    })
}

fn python(project: &Project, module: &str) -> Result<Vec<u8>, Ended> {
    let program = toolchain::componentize_py(project)?;
    made_by("componentize-py", project, |out| {
        let mut componentize = Command::new(&program);
        componentize
            .args(["--wit-path", "wit", "--world", WORLD])
            .args(["componentize", module, "--stub-wasi", "--output"])
            .arg(out);
        componentize
    })
}

/// What a tool writes to the file that it is given. What it says is shown when it fails.
fn made_by(
    tool: &str,
    project: &Project,
    command: impl FnOnce(&Path) -> Command,
) -> Result<Vec<u8>, Ended> {
    eprintln!("building {} with {tool} …", project.name);
    let scratch = tempfile::tempdir().map_err(Ended::because)?;
    let out = scratch.path().join("component.wasm");
    let mut command = command(&out);
    command.current_dir(&project.directory);
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| toolchain::not_run(&program, &error))?;
    if !output.status.success() {
        for said in [&output.stdout, &output.stderr] {
            eprint!("{}", String::from_utf8_lossy(said));
        }
        return Err(Ended::because(format!(
            "{tool} could not build {} in {}: what it says is above",
            project.name,
            shown(&project.directory)
        )));
    }
    std::fs::read(&out).map_err(|error| unreadable(&out, &error))
}
