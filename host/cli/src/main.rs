//! The `witgate` binary: reads the command line, puts the crates together, says what went wrong.
//!
//! Exit codes: 0 all went well; 1 it did not, the reason is on standard error; 2 the command line is wrong.

mod args;
mod check;
mod chrome;
mod chrome_keys;
mod demo;
mod doctor;
mod fmt;
mod hand_over;
mod harvest;
mod load;
mod log;
mod manual;
mod open_files;
mod operator;
mod output;
mod plugin;
mod profile;
mod progress;
mod pull;
mod reload;
mod run;
mod schema;
mod service;
mod snapshot;
mod snapshot_shape;
mod status;
mod validator;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Command::Run(run) => run::run(&run),
        Command::Check(check) => match check::check(&check) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::Fmt(fmt) => match fmt::fmt(&fmt) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::Doctor(doctor) => match doctor::doctor(&doctor) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::Schema => schema::print(),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { directory } => manual::pages(&directory),
        Command::Harvest(harvest) => harvest::harvest(&harvest),
        Command::Snapshot { command } => return snapshot::run(&command),
        Command::Profile { command } => profile::profile(&command),
        Command::Demo(demo) => demo::demo(&demo),
        Command::Plugin { command } => match plugin::plugin(&command) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // In one piece, since another process may log to the same place.
            let line = format!("{error}\n");
            eprint!("{line}");
            ExitCode::FAILURE
        }
    }
}

/// What ends a command: words for people, ready to be printed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Ended(String);

impl Ended {
    fn because(reason: impl std::fmt::Display) -> Self {
        Self(format!("witgate: {reason}"))
    }
}
