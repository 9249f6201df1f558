//! What a shell and `man` know of the command line.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory as _};
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
    let mut command = Args::command().name("witgate");
    command.build();
    page(directory, &command, "witgate")
}

fn page(directory: &Path, command: &Command, name: &str) -> Result<(), Ended> {
    let mut text = Vec::new();
    let titled = command.clone().name(name.to_owned());
    let file = directory.join(format!("{name}.1"));
    let written = clap_mangen::Man::new(titled)
        .render(&mut text)
        .and_then(|()| fs::write(&file, &text));
    written.map_err(|error| Ended::because(format!("{}: {error}", file.display())))?;
    let below = command.get_subcommands().filter(|it| !it.is_hide_set());
    for command in below.filter(|command| command.get_name() != "help") {
        page(
            directory,
            command,
            &format!("{name}-{}", command.get_name()),
        )?;
    }
    Ok(())
}
