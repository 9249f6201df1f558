//! The command line of `witgate plugin`.

use std::path::PathBuf;

use clap::{Args as Group, Subcommand, ValueEnum};

use crate::args::{Format, Log};

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Start a plugin: a project that builds and passes its tests at once
    ///
    /// Writes a directory with the plugin, its configuration with a schema, tests, a witgate.toml to try it, and a README.
    /// The contract and, for Rust, the SDK are written into the project: it needs no checkout of witgate.
    #[command(after_help = NEW_HELP)]
    New(New),
    /// Build the project's component, with the toolchain of its language
    ///
    /// Finds out by the project's files which that is: Cargo.toml, package.json, or pyproject.toml. What the project lists
    /// is installed into it when it is not there yet (npm into node_modules, pip into .venv, crates by cargo); what else
    /// is missing is named with the command that installs it. The component is written as NAME.wasm into the project's
    /// directory, or left alone when the build fails.
    Build(Build),
    /// Run the project's tests under the runtime that serves production
    ///
    /// Builds the component, then runs every `*.test.toml` in the project's directory and in `tests/`. A Rust project that
    /// has `#[test]` functions has these run by cargo as well.
    #[command(after_help = TEST_HELP)]
    Test(Test),
    /// Say what a component is: its contract, hooks, imports and the grants they need, size, digest, schema
    #[command(
        after_help = "Exit codes: 0 it is a plugin of this witgate's contract, 1 it is not, 2 the command line is wrong."
    )]
    Inspect(Inspect),
    /// Measure what the component's hooks cost: time, fuel and memory
    ///
    /// Time is measured on this machine as it is now; fuel counts instructions, and is the same everywhere.
    Bench(Bench),
    /// Serve the plugin alone before an upstream that shows what it was sent, and rebuild it on every change
    ///
    /// A build that fails is shown, and the component before it goes on serving.
    #[command(after_help = RUN_HELP)]
    Run(Run),
}

const RUN_HELP: &str = "\
Examples:
  witgate plugin run
  witgate plugin run --config 'greeting = \"good morning\"' --grant 'keyvalue = {}'";

const NEW_HELP: &str = "\
Examples:
  witgate plugin new hello
  witgate plugin new hello --lang js --hooks request
  witgate plugin new guard --lang rust --hooks message,completion";

const TEST_HELP: &str = "\
A test:
  [[test]]
  name = \"the greeting is sent upstream\"
  config = { greeting = \"hello\" }
  request = { path = \"/\" }
  expect.request.headers = { x-greeting = \"hello\" }

All keys: docs/plugins.md. Exit codes: 0 all passed, 1 some did not or could not be run, 2 the command line is wrong.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Rust, with the SDK: the smallest and quickest components
    Rust,
    /// JavaScript, by jco with the QuickJS engine inside
    #[value(alias = "javascript")]
    Js,
    /// Python, by componentize-py with CPython inside
    #[value(alias = "py")]
    Python,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Hook {
    /// Reads and changes requests, or answers them
    Request,
    /// Reads and changes responses
    Response,
    /// Sees the messages of WebSockets
    Message,
    /// Is told how exchanges ended
    Completion,
}

#[derive(Debug, Group)]
pub(crate) struct New {
    /// What to call it: lower-case letters, digits and `-`
    pub(crate) name: String,
    /// The language
    #[arg(long, value_enum, default_value = "rust")]
    pub(crate) lang: Language,
    /// The hooks it is to have
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "request,response"
    )]
    pub(crate) hooks: Vec<Hook>,
    /// The directory to make, instead of one called NAME
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Use the SDK of this directory (`plugins/sdk` of a checkout of witgate) instead of a copy; only for Rust
    #[arg(long, value_name = "DIR")]
    pub(crate) sdk: Option<PathBuf>,
}

/// Which project is meant.
#[derive(Debug, Group)]
pub(crate) struct Project {
    /// The project's directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) project: PathBuf,
    /// Install nothing, and let cargo ask no network; a toolchain that is missing is an error
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Group)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) project: Project,
}

#[derive(Debug, Group)]
pub(crate) struct Test {
    /// Test files; those of the project unless given
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) project: Project,
    /// Test this component, a file or `builtin:NAME`, and build nothing
    #[arg(long, value_name = "COMPONENT")]
    pub(crate) component: Option<String>,
    /// Run only tests whose names hold this
    #[arg(long, value_name = "WORDS")]
    pub(crate) filter: Option<String>,
    /// Write a report in JUnit's XML as well
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

#[derive(Debug, Group)]
pub(crate) struct Inspect {
    /// The component: a file or `builtin:NAME`
    #[arg(value_name = "FILE")]
    pub(crate) component: String,
    /// Print JSON, with the schema
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the JSON Schema of its configuration and nothing else
    #[arg(long, conflicts_with = "json")]
    pub(crate) schema: bool,
}

#[derive(Debug, Group)]
pub(crate) struct Bench {
    /// The component: a file or `builtin:NAME`; that of the project, built anew, unless given
    #[arg(value_name = "FILE")]
    pub(crate) component: Option<String>,
    #[command(flatten)]
    pub(crate) project: Project,
    /// The plugin's configuration, as a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) config: String,
    /// Compare with what this file says, if it is there
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Write the baseline's file, anew
    #[arg(long, requires = "baseline")]
    pub(crate) save: bool,
    /// Shape of the output
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Group)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) project: Project,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) bind: String,
    /// A line of the plugin's configuration, as it would stand under `[plugin.NAME.config]`; may be given several times
    #[arg(long, value_name = "TOML")]
    pub(crate) config: Vec<String>,
    /// A grant, as it would stand under `[plugin.NAME.grant]`; may be given several times
    #[arg(long, value_name = "TOML")]
    pub(crate) grant: Vec<String>,
    #[command(flatten)]
    pub(crate) log: Log,
}
