//! The project in a directory: which language it is in, what it is called, and its files.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use serde_json::Value;
use witgate_build::Metadata;
use witgate_proxy::config::{Document, shape};

use super::args;
use crate::Ended;
use crate::load;

/// A plugin's project.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) directory: PathBuf,
    pub(crate) kind: Kind,
    /// What the project's own file says of it; of Rust, cargo reads it.
    pub(crate) metadata: Metadata,
    pub(crate) name: String,
    /// Nothing is installed, and cargo asks no network.
    pub(crate) offline: bool,
}

/// How the component is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By cargo.
    Rust,
    /// By jco, of this file.
    JavaScript { main: String },
    /// By componentize-py, of this module.
    Python { module: String },
}

/// A project with more files than this has its dependencies in it, in a directory that is not known here.
const MOST_FILES: usize = 10_000;

/// What is made, installed or kept by tools.
const NO_SOURCES: [&str; 4] = ["node_modules", "target", "__pycache__", "tests"];

/// Files that a component may be made of.
const SOURCES: [&str; 9] = ["rs", "js", "mjs", "ts", "py", "wit", "json", "toml", "txt"];

impl Project {
    /// The project that is meant.
    pub(crate) fn find(args: &args::Project) -> Result<Self, Ended> {
        let offline = args.offline;
        Self::within(&args.project).map(|project| Self { offline, ..project })
    }

    fn within(directory: &Path) -> Result<Self, Ended> {
        let at = |file: &str| directory.join(file);
        if at("Cargo.toml").is_file() {
            return Self::rust(directory);
        }
        if at("package.json").is_file() {
            return Self::javascript(directory);
        }
        if at("pyproject.toml").is_file() {
            return Self::python(directory);
        }
        Err(Ended::because(format!(
            "{} holds no plugin's project: there is no Cargo.toml, package.json or pyproject.toml in it; start one with `witgate plugin new NAME`, or name its directory with `--project DIR`",
            shown(directory)
        )))
    }

    fn rust(directory: &Path) -> Result<Self, Ended> {
        let name = read_table(&directory.join("Cargo.toml"), "package", "name")?;
        Ok(Self {
            directory: directory.to_owned(),
            kind: Kind::Rust,
            metadata: Metadata::default(),
            name,
            offline: false,
        })
    }

    fn javascript(directory: &Path) -> Result<Self, Ended> {
        let file = directory.join("package.json");
        let text = fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
        let manifest: Value = serde_json::from_str(&text)
            .map_err(|error| Ended::because(format!("{}: {error}", file.display())))?;
        let text = |key: &str| manifest.get(key)?.as_str().map(str::to_owned);
        let Some(name) = text("name") else {
            let message = format!(
                "{}: there is no `name`; add \"name\": \"my-plugin\"",
                file.display()
            );
            return Err(Ended::because(message));
        };
        let main = text("main").unwrap_or_else(|| "plugin.js".into());
        Ok(Self {
            directory: directory.to_owned(),
            metadata: Metadata {
                name: Some(name.clone()),
                version: text("version"),
                authors: text("author"),
                licenses: text("license"),
                description: text("description"),
            },
            name: file_name(&name),
            offline: false,
            kind: Kind::JavaScript { main },
        })
    }

    fn python(directory: &Path) -> Result<Self, Ended> {
        let file = directory.join("pyproject.toml");
        let name = read_table(&file, "project", "name")?;
        let text = |key: &str| read_table(&file, "project", key).ok();
        Ok(Self {
            directory: directory.to_owned(),
            metadata: Metadata {
                name: Some(name.clone()),
                version: text("version"),
                authors: None,
                licenses: text("license"),
                description: text("description"),
            },
            name,
            offline: false,
            kind: Kind::Python {
                module: "plugin".into(),
            },
        })
    }

    /// The component's file.
    pub(crate) fn component(&self) -> PathBuf {
        self.directory.join(format!("{}.wasm", self.name))
    }

    /// The files that the component is made of. What the build writes itself is not among them, so that a build is no
    /// reason for another.
    pub(crate) fn sources(&self) -> io::Result<Vec<PathBuf>> {
        let mut sources = Vec::new();
        let mut left = vec![self.directory.clone()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if path.is_dir() {
                    let is_source = !name.starts_with('.') && !NO_SOURCES.contains(&&*name);
                    left.extend(is_source.then_some(path));
                } else if is_source(&name) && sources.len() < MOST_FILES {
                    sources.push(path);
                }
            }
        }
        sources.sort();
        Ok(sources)
    }

    /// The test files beside the plugin.
    pub(crate) fn test_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for directory in [self.directory.clone(), self.directory.join("tests")] {
            let Ok(entries) = fs::read_dir(directory) else {
                continue;
            };
            let entries = entries.filter_map(Result::ok).map(|entry| entry.path());
            files.extend(entries.filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.ends_with(".test.toml")
            }));
        }
        files.sort();
        files
    }

    /// Whether the component is newer than everything that it is made of.
    pub(crate) fn is_up_to_date(&self) -> bool {
        let modified = |path: &Path| -> io::Result<SystemTime> { fs::metadata(path)?.modified() };
        let Ok(built) = modified(&self.component()) else {
            return false;
        };
        let older = |path: &PathBuf| modified(path).is_ok_and(|changed| changed < built);
        self.sources()
            .is_ok_and(|sources| sources.iter().all(older))
    }
}

fn is_source(name: &str) -> bool {
    let (_, extension) = name.rsplit_once('.').unwrap_or_default();
    SOURCES.contains(&extension) && !name.ends_with(".test.toml") && name != "witgate.toml"
}

/// A scoped npm package `@scope/name` is a file `name`.
fn file_name(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

/// A string in a table of a TOML file, which may hold whatever else.
fn read_table(file: &Path, table: &str, key: &str) -> Result<String, Ended> {
    let document = Document::read(file).map_err(load::report)?;
    let reader = document.reader();
    let mut root = reader.root();
    let found = root
        .required(table, "{ … }", |item| item.section("a table"))
        .and_then(|mut section| section.required(key, "\"my-plugin\"", shape::string));
    let read = reader.finish(found).map_err(|mut problems| {
        problems.set_outcome("nothing was built");
        load::report(problems)
    });
    read.map(|(text, _)| text)
}

pub(crate) fn unreadable(file: &Path, error: &io::Error) -> Ended {
    Ended::because(format!("cannot read {}: {error}", file.display()))
}

/// A directory as a sentence begins with it.
pub(crate) fn shown(directory: &Path) -> String {
    match directory == Path::new(".") || directory == Path::new("") {
        true => "this directory".into(),
        false => directory.display().to_string(),
    }
}
