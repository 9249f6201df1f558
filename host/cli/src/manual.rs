//! What a shell and `man` know of the command line.

use std::io::Write as _;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::Ended;
use crate::args::Args;

/// Prints a script that completes.
pub(crate) fn completions(shell: Shell) -> Result<(), Ended> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "witgate", &mut script);
    // Whoever reads it may have seen enough.
    let printed = std::io::stdout().write_all(&script);
    printed.map_err(|error| Ended::because(format!("the script cannot be printed: {error}")))
}

/// Writes `witgate.1`, `witgate-run.1` and so on.
pub(crate) fn pages(directory: &Path) -> Result<(), Ended> {
    clap_mangen::generate_to(Args::command(), directory)
        .map_err(|error| Ended::because(format!("{}: {error}", directory.display())))
}
