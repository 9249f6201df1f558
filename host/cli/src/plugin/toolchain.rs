//! What makes components of JavaScript and Python: found in the project, or installed into it as the project's own files
//! say. cargo installs what Rust needs by itself.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::project::{Project, shown};
use crate::Ended;

const JCO: &str = "node_modules/@bytecodealliance/jco/dist/jco.js";
const COMPONENTIZE_PY: &str = ".venv/bin/componentize-py";

/// The file of jco, below the project's directory, for `node` to run.
pub(super) fn jco(project: &Project) -> Result<&'static str, Ended> {
    if !project.directory.join(JCO).is_file() {
        let wanted = "jco, which makes components of JavaScript,";
        install(
            project,
            wanted,
            JCO,
            // What packages would run of themselves when they are installed is not needed, so it is not run.
            &[&["npm", "install", "--ignore-scripts", "--no-fund"]],
        )?;
    }
    Ok(JCO)
}

/// The program componentize-py: the project's own, or else the system's.
pub(super) fn componentize_py(project: &Project) -> Result<PathBuf, Ended> {
    let own =
        std::path::absolute(project.directory.join(COMPONENTIZE_PY)).map_err(Ended::because)?;
    if own.is_file() {
        return Ok(own);
    }
    if let Some(program) = in_path("componentize-py") {
        return Ok(program);
    }
    let wanted = "componentize-py, which makes components of Python,";
    install(
        project,
        wanted,
        COMPONENTIZE_PY,
        &[
            &["python3", "-m", "venv", ".venv"],
            &[".venv/bin/pip", "install", "-r", "requirements.txt"],
        ],
    )?;
    Ok(own)
}

/// Runs what installs `file` in the project's directory, where people see what it says.
fn install(project: &Project, wanted: &str, file: &str, steps: &[&[&str]]) -> Result<(), Ended> {
    let steps_as_typed = steps.iter().map(|step| step.join(" "));
    let command = steps_as_typed.collect::<Vec<_>>().join(" && ");
    let directory = shown(&project.directory);
    if project.offline {
        return Err(Ended::because(format!(
            "{wanted} is not installed; in {directory} run `{command}`, or leave `--offline` away"
        )));
    }
    eprintln!("{wanted} is not installed yet: in {directory} `{command}` …");
    for step in steps {
        run(project, step)?;
    }
    match project.directory.join(file).is_file() {
        true => Ok(()),
        false => Err(Ended::because(format!(
            "`{command}` did not install {wanted} there is no {file} in {directory}; the project's own list of packages (package.json, requirements.txt) has to name it"
        ))),
    }
}

fn run(project: &Project, step: &[&str]) -> Result<(), Ended> {
    let program = step[0];
    // A relative program would be looked for in the directory of witgate, not in that of the project.
    let found = match Path::new(program).components().count() {
        1 => PathBuf::from(program),
        _ => std::path::absolute(project.directory.join(program)).map_err(Ended::because)?,
    };
    let mut command = Command::new(found);
    command.args(&step[1..]).current_dir(&project.directory);
    let status = command.status().map_err(|error| not_run(program, &error))?;
    match status.success() {
        true => Ok(()),
        false => Err(Ended::because(format!(
            "`{}` failed ({status}) in {}: what it says is above",
            step.join(" "),
            shown(&project.directory)
        ))),
    }
}

/// A program that does not start, and where it is to be had.
pub(super) fn not_run(program: &str, error: &std::io::Error) -> Ended {
    let help = match program {
        "node" | "npm" => "; install Node.js 20 or later: https://nodejs.org",
        "python3" => "; install Python 3.10 or later: https://python.org",
        _ => "",
    };
    Ended::because(format!("cannot run `{program}`: {error}{help}"))
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}
