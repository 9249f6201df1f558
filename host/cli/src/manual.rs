//! What a shell and `man` know of the command line.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::Ended;
use crate::args::Args;
use crate::output;

/// Prints a script that completes.
pub(crate) fn completions(shell: Shell) -> Result<(), Ended> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "witgate", &mut script);
    output::print(String::from_utf8_lossy(&script))
}

/// Writes `witgate.1`, `witgate-run.1` and so on.
pub(crate) fn pages(directory: &Path) -> Result<(), Ended> {
    clap_mangen::generate_to(Args::command(), directory)
        .map_err(|error| Ended::because(format!("{}: {error}", directory.display())))
}
