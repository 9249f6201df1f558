//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};

use crate::profile::Profile;

/// A reverse proxy whose every behaviour is a WebAssembly component.
#[derive(Debug, Parser)]
#[command(version, long_version = LONG_VERSION, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// `0.1.0`, the commit where it is known, and what runs the components.
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("WITGATE_BUILT_FROM"));

const AFTER_HELP: &str = "\
First steps:
  witgate demo                        see the built-in plugins at work, nothing else needed
  witgate check witgate.toml          find everything that is wrong with a configuration
  witgate doctor witgate.toml         find what is wrong with the machine
  witgate run --config witgate.toml   serve
  witgate plugin new hello            write a plugin

Exit codes: 0 all went well, 1 it did not (the reason is on standard error), 2 the command line is wrong.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a configuration until SIGTERM or SIGINT
    ///
    /// Everything is checked before anything is bound. The first signal stops accepting and lets what is under way
    /// end, for at most `server.shutdown-grace`; a second one ends at once. SIGHUP, and a changed file that
    /// `${file:…}` names, reload the configuration; one with an error in it changes nothing. SIGUSR2 starts the program
    /// anew and lets it take over all sockets, so that no connection is lost.
    Run(Run),
    /// Report everything that is wrong with a configuration, and start nothing
    ///
    /// Compiles the components and lets each plugin look at its configuration, but binds no port and starts no
    /// Chromium.
    #[command(
        after_help = "Exit codes: 0 it can be used (there may be warnings), 1 it cannot, 2 the command line is wrong."
    )]
    Check(Check),
    /// Print what a configuration may hold, as JSON Schema
    ///
    /// Every key with its default and what it means, and what each built-in plugin takes: an editor that knows schemas
    /// of TOML completes and checks with it.
    #[command(after_help = SCHEMA_HELP)]
    Schema,
    /// Lay out configurations: spaces, line breaks and commas; comments and order stay
    ///
    /// Prints the name of each file that it changed. A file that is no TOML stays as it is.
    #[command(after_help = FMT_HELP)]
    Fmt(Fmt),
    /// Say whether this machine fits witgate and a configuration, and what to change
    ///
    /// Looks at limits, ports, certificates, the clock, upstreams, the code cache, memory, Chromium and toolchains for
    /// plugins. Binds each port for a moment, connects to upstreams without sending anything, and changes nothing.
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Doctor),
    /// Take a snapshot of the shared Chromium's signed-in state, now
    ///
    /// Reads `[chrome]` and `[chrome.snapshot]`, connects to the running browser without disturbing its tabs, and
    /// replaces the snapshot file by cookies, localStorage, IndexedDB and, with `opfs`, files in Playwright's
    /// storageState format. On any failure the last file stays; so it does when the new one lost more than `max-loss`.
    Harvest(Harvest),
    /// Snapshots on the machines that use them
    Snapshot {
        #[command(subcommand)]
        command: Snapshot,
    },
    /// Backups of the shared Chromium's profile
    Profile {
        #[command(subcommand)]
        command: Profile,
    },
    /// Write, test and measure plugins
    Plugin {
        #[command(subcommand)]
        command: crate::plugin::args::Plugin,
    },
    /// Try the built-in plugins: everything in one process, with curl lines to copy
    Demo(Demo),
    /// Write a script that completes commands and options in a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command
    Man {
        /// The directory to write them to, such as `/usr/local/share/man/man1`
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

const SCHEMA_HELP: &str = "\
Example:
  witgate schema > witgate.schema.json

and, as the first line of the configuration, for editors with taplo (Even Better TOML):
  #:schema ./witgate.schema.json";

const FMT_HELP: &str = "\
Exit codes: 0 all are laid out, 1 with --check one is not, or it cannot be done, 2 the command line is wrong.";

const DOCTOR_HELP: &str = "\
Exit codes: 0 nothing is wrong (there may be something to change), 1 something is, 2 the command line is wrong.";

const COMPLETIONS_HELP: &str = "\
Examples:
  witgate completions bash > ~/.local/share/bash-completion/completions/witgate
  witgate completions zsh > ~/.zfunc/_witgate
  witgate completions fish > ~/.config/fish/completions/witgate.fish";

#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Fetch a snapshot and replace a file by it, or fail and leave the file alone
    ///
    /// The answer has to be a storageState that Playwright takes. The file is replaced in one step, with mode 0600.
    /// Redirects are not followed, so that the token goes nowhere else. What is there already is not transferred
    /// again: the server's ETag is kept in `.NAME.pulled` beside the file.
    #[command(after_help = PULL_HELP)]
    Pull(Pull),
    /// Say what a snapshot holds: counts, domains, origins, the next expiry; never a value
    #[command(
        after_help = "Exit codes: 0 shown, 1 it is no snapshot or cannot be read, 2 the command line is wrong."
    )]
    Show(Show),
    /// Say what changed from one snapshot to another, by name; never a value
    #[command(after_help = "Exit codes: 0 they hold the same, 1 they differ, 2 trouble.")]
    Diff(Diff),
    /// List the generations that are kept of a snapshot, the newest first
    #[command(
        after_help = "Exit codes: 0 listed, 1 the history cannot be read, 2 the command line is wrong."
    )]
    List(List),
}

const PULL_HELP: &str = "\
Example:
  witgate snapshot pull --url https://chrome.example.com/api/snapshot \\
    --token-file ~/.config/witgate/token --file ~/.local/share/witgate/state.json

Exit codes: 0 the file is what the server has, 1 it is not and was left as it was (the reason is on standard error), \
2 the command line is wrong.";

#[derive(Debug, Group)]
pub(crate) struct Run {
    /// The configuration
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "witgate.toml",
        env = "WITGATE_CONFIG"
    )]
    pub(crate) config: PathBuf,
    /// Reload when the configuration or a component file changes, and not only on SIGHUP and for a changed secret
    #[arg(long, env = "WITGATE_WATCH")]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Debug, Group)]
pub(crate) struct Check {
    /// The configuration
    #[arg(value_name = "FILE", default_value = "witgate.toml")]
    pub(crate) config: PathBuf,
    /// Shape of the report; JSON goes to standard output, whatever is wrong
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Group)]
pub(crate) struct Fmt {
    /// The configurations; `-` is standard input, laid out on standard output
    #[arg(value_name = "FILE", default_value = "witgate.toml")]
    pub(crate) files: Vec<PathBuf>,
    /// Write nothing, and name the files that would change
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Group)]
pub(crate) struct Doctor {
    /// The configuration; without one `witgate.toml`, if it is there
    #[arg(value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Shape of what is said
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Group)]
pub(crate) struct Harvest {
    /// The configuration
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "witgate.toml",
        env = "WITGATE_CONFIG"
    )]
    pub(crate) config: PathBuf,
    /// Write here instead of `[chrome.snapshot] file`, without history and status
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Publish the snapshot however much it lost against the last one, as after signing out
    #[arg(long)]
    pub(crate) accept: bool,
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Debug, Group)]
pub(crate) struct Pull {
    /// Where the snapshot is served
    #[arg(long, value_name = "URL", env = "WITGATE_SNAPSHOT_URL")]
    pub(crate) url: String,
    /// The file to replace; its directory has to exist
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) token: Token,
    /// How long all of it may take
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// The largest snapshot that is taken; hundreds of sign-ins make a few MiB
    #[arg(long, value_name = "MIB", default_value = "256", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub(crate) max_size: u64,
    #[command(flatten)]
    pub(crate) identity: Identity,
}

/// Whose secret key reads an encrypted snapshot.
#[derive(Debug, Group)]
pub(crate) struct Identity {
    /// A file of age identities, as age-keygen writes it, to read an encrypted snapshot with; only in memory
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
}

#[derive(Debug, Group)]
pub(crate) struct Show {
    /// The snapshot
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) identity: Identity,
    /// Shape of the output
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Group)]
pub(crate) struct Diff {
    /// The earlier snapshot
    #[arg(value_name = "OLD")]
    pub(crate) old: PathBuf,
    /// The later one
    #[arg(value_name = "NEW")]
    pub(crate) new: PathBuf,
    #[command(flatten)]
    pub(crate) identity: Identity,
    /// Shape of the output
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Group)]
pub(crate) struct List {
    /// The snapshot whose history is meant, as in `[chrome.snapshot] file`
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Shape of the output
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

/// Where the token comes from: never the command line, which every user of the machine can see.
#[derive(Debug, Group)]
#[group(required = true, multiple = false)]
pub(crate) struct Token {
    /// A file that holds the token; a newline at its end does not count
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The name of an environment variable that holds the token
    #[arg(long, value_name = "NAME")]
    pub(crate) token_env: Option<String>,
}

#[derive(Debug, Group)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) log: Log,
}

#[derive(Debug, Group)]
pub(crate) struct Log {
    /// Shape of the log, which goes to standard error
    #[arg(long, value_enum, default_value = "text", env = "WITGATE_LOG_FORMAT")]
    pub(crate) log_format: Format,
    /// What is logged: a level, or targets with levels such as `info,access=off,plugin=debug`
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "WITGATE_LOG"
    )]
    pub(crate) log_level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines for people
    Text,
    /// JSON: in a log, one object a line
    Json,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("a whole number of seconds from 1".into()),
    }
}
