//! `witgate plugin`: what an author of plugins does, from the first file to a component that is shipped.
//!
//! ```text
//! new ── templates, contract and SDK ──► project ── build ──► NAME.wasm ── inspect, bench
//!                                           │                    │
//!                                      *.test.toml ──── test ────┤
//!                                                                └── run: a proxy with just this plugin
//! ```

pub(crate) mod args;
mod bench;
mod build;
mod component;
mod inspect;
mod new;
mod project;
mod run;
mod template;
mod test;
mod toolchain;

use crate::Ended;

/// Runs one of the commands. `Ok(false)`: it ran, and what it looked at is not as it should be.
pub(crate) fn plugin(command: &args::Plugin) -> Result<bool, Ended> {
    match command {
        args::Plugin::New(new) => new::new(new).map(|()| true),
        args::Plugin::Build(build) => build::build(&build.project).map(|_| true),
        args::Plugin::Test(test) => test::test(test),
        args::Plugin::Inspect(inspect) => inspect::inspect(inspect).map(|()| true),
        args::Plugin::Bench(bench) => bench::bench(bench).map(|()| true),
        args::Plugin::Run(run) => run::run(run).map(|()| true),
    }
}
