//! `witgate plugin test`: language-neutral tests of a plugin, in TOML, under the runtime that serves production.

mod case;
mod expect;
mod junit;
mod read;
mod run;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use witgate_proxy::config::CodeCache;
use witgate_runtime::Runtime;
use witgate_testkit::Component;

use super::project::{Kind, Project, unreadable};
use super::{args, build, component};
use crate::Ended;
use crate::load;
use crate::log::color;
use crate::output;
use case::Suite;
use run::Outcome;

/// A test that was run.
pub(crate) struct Ran {
    /// Where it stands: `tests/a.test.toml:3`.
    pub(crate) place: String,
    pub(crate) file: PathBuf,
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

/// Runs tests; whether all passed.
pub(crate) fn test(args: &args::Test) -> Result<bool, Ended> {
    let project = match args.component {
        Some(_) => None,
        None => Some(Project::find(&args.project)?),
    };
    let files = match (&project, args.files.is_empty()) {
        (_, false) => args.files.clone(),
        (Some(project), true) => project.test_files(),
        (None, true) => Vec::new(),
    };
    let has_own_tests = project.as_ref().is_some_and(has_own_tests);
    if files.is_empty() && !has_own_tests {
        return Err(Ended::because(
            "there are no tests: write `tests/NAME.test.toml`, of which `witgate plugin test --help` shows one",
        ));
    }
    // What is wrong with a test is said before the minute that a build may take.
    let suites = read_all(&files)?;
    let bytes = match (&args.component, &project) {
        (Some(component), _) => component::read(component)?,
        (None, Some(project)) => {
            build::build_project(project)?;
            let file = project.component();
            fs::read(&file).map_err(|error| unreadable(&file, &error))?
        }
        (None, None) => unreachable!("without a component there is a project"),
    };
    let own_passed = match project.filter(|_| has_own_tests) {
        Some(project) => run_own_tests(&project)?,
        None => true,
    };
    let component = loaded(&bytes)?;
    let ran = run_all(&suites, &component, args.filter.as_deref())?;
    if let Some(file) = &args.junit {
        let report = junit::report(&ran);
        fs::write(file, report)
            .map_err(|error| Ended::because(format!("cannot write {}: {error}", file.display())))?;
    }
    if let (true, Some(words)) = (ran.is_empty(), &args.filter) {
        return Err(Ended::because(format!("no test's name holds {words:?}")));
    }
    let failed = ran
        .iter()
        .filter(|ran| !ran.outcome.failures.is_empty())
        .count();
    output::line(summary(ran.len(), failed))?;
    Ok(own_passed && failed == 0 && (!ran.is_empty() || has_own_tests))
}

/// Reads all files, or says all that is wrong with any of them.
fn read_all(files: &[PathBuf]) -> Result<Vec<Suite>, Ended> {
    let mut suites = Vec::new();
    let mut reports = String::new();
    for file in files {
        match read::read(file) {
            Ok(suite) => suites.push(suite),
            Err(problems) => reports.push_str(&problems.render(color())),
        }
    }
    match reports.is_empty() {
        true => Ok(suites),
        false => Err(Ended(reports.trim_end().to_owned())),
    }
}

/// The component, compiled for a runtime that counts fuel, or taken from the cache.
pub(crate) fn loaded(bytes: &[u8]) -> Result<Component, Ended> {
    let cache = load::code_cache(&CodeCache::Default);
    let runtime = Runtime::metered(cache).map_err(Ended::because)?;
    let progress = crate::progress::Progress::start(|| "compiling the component".into());
    let loaded = Component::load(&runtime, bytes).map_err(Ended::because);
    drop(progress);
    loaded
}

fn run_all(
    suites: &[Suite],
    component: &Component,
    filter: Option<&str>,
) -> Result<Vec<Ran>, Ended> {
    let mut all = Vec::new();
    for suite in suites {
        let file = suite.file.strip_prefix(".").unwrap_or(&suite.file);
        for case in &suite.cases {
            if filter.is_some_and(|words| !case.name.contains(words)) {
                continue;
            }
            let begun = Instant::now();
            let outcome = run::run(component, case);
            let line = case.location.line().unwrap_or_default();
            let ran = Ran {
                place: format!("{}:{line}", file.display()),
                file: file.to_owned(),
                name: case.name.clone(),
                outcome,
                took: begun.elapsed(),
            };
            output::print(line_of(&ran))?;
            all.push(ran);
        }
    }
    Ok(all)
}

/// One line for a test that passed, and everything for one that did not.
fn line_of(ran: &Ran) -> String {
    let colored = io::stdout().is_terminal() && color();
    let paint = |text: &str, code: &str| match colored {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    };
    let outcome = &ran.outcome;
    if outcome.failures.is_empty() {
        let cost = match outcome.cost {
            0 => String::new(),
            cost => format!(" (fuel {cost})"),
        };
        return format!("{}  {}{cost}\n", paint("pass", "32"), ran.name);
    }
    let mut text = format!("{}  {} ({})\n", paint("FAIL", "31"), ran.name, ran.place);
    for failure in &outcome.failures {
        for line in failure.lines() {
            let line = match line.get(..1) {
                Some("-") => paint(line, "31"),
                Some("+") => paint(line, "32"),
                _ => line.to_owned(),
            };
            text.push_str(&format!("      {line}\n"));
        }
    }
    for line in &outcome.log {
        text.push_str(&format!("      the plugin logged: {line}\n"));
    }
    text
}

fn summary(ran: usize, failed: usize) -> String {
    let tests = |number: usize| match number {
        1 => "1 test".to_owned(),
        _ => format!("{number} tests"),
    };
    match failed {
        0 => format!("{} passed", tests(ran)),
        _ => format!("{failed} of {} failed", tests(ran)),
    }
}

/// Whether a Rust project has tests that cargo runs.
fn has_own_tests(project: &Project) -> bool {
    if project.kind != Kind::Rust {
        return false;
    }
    let has = |directory: &Path| {
        let mut left = vec![directory.to_owned()];
        while let Some(next) = left.pop() {
            for entry in fs::read_dir(next).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    left.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs")
                    && fs::read_to_string(&path).is_ok_and(|text| text.contains("#[test]"))
                {
                    return true;
                }
            }
        }
        false
    };
    has(&project.directory.join("src")) || has(&project.directory.join("tests"))
}

fn run_own_tests(project: &Project) -> Result<bool, Ended> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("test").current_dir(&project.directory);
    let status = cargo
        .status()
        .map_err(|error| Ended::because(format!("cannot run `cargo test`: {error}")))?;
    Ok(status.success())
}
