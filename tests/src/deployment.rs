//! The deployment files of `examples/chrome-service`, read with the tools of those who made the formats.
//! `scripts/setup.sh test` installs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::Process;

const BOUND: Duration = Duration::from_secs(120);

/// Where the files are.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chrome-service")
}

/// A file of theirs.
///
/// # Panics
///
/// When it is not there.
#[must_use]
#[track_caller]
pub fn file(name: &str) -> String {
    let path = directory().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The objects that a kustomization makes, each valid by the schema of its kind.
///
/// # Panics
///
/// When it cannot be rendered, or an object is not valid.
#[must_use]
#[track_caller]
pub fn kustomize(directory: &Path) -> Objects {
    match run("kustomize.py", directory) {
        Value::Array(objects) => Objects(objects),
        other => panic!("no list of objects: {other}"),
    }
}

/// `compose.yaml`, valid by the Compose specification.
///
/// # Panics
///
/// When it is not.
#[must_use]
#[track_caller]
pub fn compose() -> Value {
    run("compose.py", &directory().join("compose.yaml"))
}

#[track_caller]
fn run(script: &str, argument: &Path) -> Value {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let interpreter = tools.join(".venv/bin/python");
    assert!(
        interpreter.exists(),
        "the tools are not installed: run `scripts/setup.sh test` first"
    );
    let mut command = Command::new(interpreter);
    command.arg(tools.join(script)).arg(argument);
    let ended = Process::start(script, command).wait(BOUND);
    assert!(ended.status.success(), "{}", ended.output());
    serde_json::from_str(&ended.stdout).expect("the script prints JSON")
}

/// The instructions of the image's last stage, with continued lines joined: `("USER", "10001:10001")`.
#[must_use]
pub fn image() -> Vec<(String, String)> {
    let text = file("Containerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim);
    let instructions = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = instructions.filter_map(|line| line.split_once(' '));
    let all: Vec<_> = split
        .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
        .collect();
    let last = all.iter().rposition(|(name, _)| name == "FROM");
    all[last.unwrap_or_default()..].to_vec()
}

/// What an instruction of the last stage says in its JSON form, `["tini", "--"]`.
///
/// # Panics
///
/// When there is no such instruction, or it has the shell form.
#[must_use]
#[track_caller]
pub fn image_list(instruction: &str) -> Vec<String> {
    let image = image();
    let (_, said) = image
        .iter()
        .find(|(name, _)| name == instruction)
        .unwrap_or_else(|| panic!("the image has no {instruction}"));
    let list = said.find('[').map(|start| &said[start..]);
    let list = list.and_then(|list| serde_json::from_str(list).ok());
    list.unwrap_or_else(|| panic!("{instruction} {said} is no list"))
}

/// What `kubectl apply` would be given.
#[derive(Debug)]
pub struct Objects(Vec<Value>);

impl Objects {
    /// Every object.
    #[must_use]
    pub fn all(&self) -> &[Value] {
        &self.0
    }

    /// Those of a kind.
    #[must_use]
    pub fn kind(&self, kind: &str) -> Vec<&Value> {
        let objects = self.0.iter();
        objects.filter(|object| object["kind"] == kind).collect()
    }

    /// The one of a kind and a name.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn one(&self, kind: &str, name: &str) -> &Value {
        let mut objects = self.kind(kind).into_iter();
        let named = objects.find(|object| object["metadata"]["name"] == name);
        named.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// The templates of the pods that controllers would make, by their controller's name.
    #[must_use]
    pub fn pods(&self) -> Vec<(&Value, &Value)> {
        let pods = self.0.iter().filter_map(|object| {
            let template = match object["kind"].as_str()? {
                "StatefulSet" | "Deployment" | "DaemonSet" | "Job" => &object["spec"]["template"],
                "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
                _ => return None,
            };
            Some((&object["metadata"]["name"], template))
        });
        pods.collect()
    }
}

/// A list's items; none when it is not there.
#[must_use]
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
