//! What plugins cost, in instructions of the processor, which do not depend on what else the machine does:
//! `cargo bench -p witgate-runtime --bench instructions`. Needs valgrind.
//!
//! Each step runs under callgrind twice, the second time with more calls; the difference is what those cost, without
//! what it took to start. Code that was compiled from WebAssembly is counted too.

use std::env;
use std::process::{Command, ExitCode};

mod ladder;

use ladder::{Ladder, STEPS, Step};

/// Set in the process that valgrind runs: which step, and how often.
const STEP: &str = "WITGATE_BENCH_STEP";
const TIMES: &str = "WITGATE_BENCH_TIMES";

/// Enough for what is done only once, such as growing a table, to be done.
const FEW: u64 = 200;
const MANY: u64 = 1_200;

fn main() -> ExitCode {
    match (env::var(STEP), env::var(TIMES)) {
        (Ok(step), Ok(times)) => {
            let step: usize = step.parse().expect("set below");
            let times = times.parse().expect("set below");
            Ladder::new().step(STEPS[step])(times);
            ExitCode::SUCCESS
        }
        _ => report(),
    }
}

fn report() -> ExitCode {
    for (at, step) in STEPS.into_iter().enumerate() {
        let counted = count(at, FEW).and_then(|few| Ok(count(at, MANY)?.saturating_sub(few)));
        match counted {
            Ok(instructions) => print(step, instructions / (MANY - FEW)),
            Err(why) => {
                eprintln!("{}: {why}", step.name());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn print(step: Step, instructions: u64) {
    println!("{:<24} {instructions:>9} instructions", step.name());
}

/// Instructions of a whole run.
fn count(step: usize, times: u64) -> Result<u64, String> {
    let program = env::current_exe().map_err(|e| format!("this program is not found: {e}"))?;
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .env(STEP, step.to_string())
        .env(TIMES, times.to_string())
        .output()
        .map_err(|e| format!("valgrind does not start: {e}"))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    let collected = said.lines().find_map(|line| {
        let (_, count) = line.split_once("Collected :")?;
        count.trim().parse().ok()
    });
    match collected {
        Some(count) if ran.status.success() => Ok(count),
        _ => Err(format!("valgrind did not count: {said}")),
    }
}
