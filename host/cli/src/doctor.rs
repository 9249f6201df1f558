//! `witgate doctor`: whether this machine fits witgate and a configuration, and what to change. It changes nothing.

mod browser;
mod configured;
mod system;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use witgate_proxy::config::Problems;

use crate::args::{Doctor, Format};
use crate::load::{self, Files, Loaded};
use crate::{Ended, output, run};

/// The configuration that is looked at without being named, if it is there.
const USUAL: &str = "witgate.toml";

/// Says what it found; whether nothing is wrong.
pub(crate) fn doctor(args: &Doctor) -> Result<bool, Ended> {
    let usual = || Some(PathBuf::from(USUAL)).filter(|file| file.exists());
    let file = args.config.clone().or_else(usual);
    let mut findings = Findings::default();
    let loaded = file.as_deref().and_then(|file| read(file, &mut findings));
    system::look(loaded.as_ref(), &mut findings);
    let runtime = run::runtime()?;
    runtime.block_on(async {
        if let Some(loaded) = &loaded {
            configured::look(loaded, &mut findings).await;
        }
        browser::look(loaded.as_ref(), &mut findings).await;
    });
    system::toolchains(&mut findings);
    match args.format {
        Format::Text => output::print(findings.text().map_err(Ended::because)?)?,
        Format::Json => output::line(format_args!("{:#}", findings.document(file.as_deref())))?,
    }
    Ok(findings.count(Standing::Wrong) == 0)
}

/// The configuration, if it can be used; what is wrong with it, `check` says in full.
fn read(file: &Path, findings: &mut Findings) -> Option<Loaded> {
    const ABOUT: &str = "configuration";
    let shown = file.display();
    let advice = format!("`witgate check {shown}` says what and where");
    let warned = |problems: &Problems| format!("{shown} has {}", count(problems.len(), "warning"));
    match load::try_read(file, &mut Files::default()) {
        Ok((loaded, warnings)) => {
            match warnings.is_empty() {
                true => findings.good(ABOUT, format!("{shown} can be read")),
                false => findings.doubtful(ABOUT, warned(&warnings), advice),
            }
            Some(loaded)
        }
        Err(problems) => {
            let message = format!("{shown} has {}", count(problems.len(), "problem"));
            findings.wrong(ABOUT, message, advice);
            None
        }
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// As it should be.
    Good,
    /// It works now, or in part.
    Doubtful,
    /// Something would not work.
    Wrong,
}

struct Finding {
    about: &'static str,
    standing: Standing,
    message: String,
    /// What would be changed.
    change: Option<String>,
}

/// In the order in which they were found.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, about: &'static str, message: impl Into<String>) {
        self.add(about, Standing::Good, message.into(), None);
    }

    fn doubtful(
        &mut self,
        about: &'static str,
        message: impl Into<String>,
        change: impl Into<String>,
    ) {
        let change = Some(change.into());
        self.add(about, Standing::Doubtful, message.into(), change);
    }

    fn wrong(
        &mut self,
        about: &'static str,
        message: impl Into<String>,
        change: impl Into<String>,
    ) {
        let change = Some(change.into());
        self.add(about, Standing::Wrong, message.into(), change);
    }

    fn add(
        &mut self,
        about: &'static str,
        standing: Standing,
        message: String,
        change: Option<String>,
    ) {
        self.0.push(Finding {
            about,
            standing,
            message,
            change,
        });
    }

    fn count(&self, standing: Standing) -> usize {
        let of = |finding: &&Finding| finding.standing == standing;
        self.0.iter().filter(of).count()
    }

    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        for finding in &self.0 {
            let standing = match finding.standing {
                Standing::Good => "ok",
                Standing::Doubtful => "change",
                Standing::Wrong => "WRONG",
            };
            writeln!(
                text,
                "{standing:<7}{:<16}{}",
                finding.about, finding.message
            )?;
            if let Some(change) = &finding.change {
                writeln!(text, "{:<23}→ {change}", "")?;
            }
        }
        let (wrong, doubtful) = (self.count(Standing::Wrong), self.count(Standing::Doubtful));
        match (wrong, doubtful) {
            (0, 0) => writeln!(text, "nothing to change")?,
            _ => writeln!(text, "{wrong} wrong, {doubtful} to change")?,
        }
        Ok(text)
    }

    /// The same for programs.
    fn document(&self, file: Option<&Path>) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "about": finding.about,
                "standing": match finding.standing {
                    Standing::Good => "good",
                    Standing::Doubtful => "doubtful",
                    Standing::Wrong => "wrong",
                },
                "message": finding.message,
                "change": finding.change,
            })
        };
        json!({
            "file": file.map(|file| file.display().to_string()),
            "wrong": self.count(Standing::Wrong),
            "doubtful": self.count(Standing::Doubtful),
            "findings": self.0.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}
