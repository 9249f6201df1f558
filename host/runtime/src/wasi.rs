//! What an operator lends a plugin of WASI: variables, directories, a table of strings.
//!
//! Clocks, random numbers and the two output streams (which go to the log) are there without a grant. Sockets are
//! never: requests go through `http-client`.

use std::fmt;
use std::path::PathBuf;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{Deterministic, FsPerms, WasiCtx, WasiCtxBuilder};
use wasmtime_wasi_config::WasiConfigVariables;

use crate::stdio::LogStream;

/// Open files, streams and other handles of one instance: far more than a plugin needs at once, and far fewer than
/// the files that a process may have open.
const MAX_HANDLES: usize = 256;

/// Random bytes at once. The host makes them before the guest has room for them.
const MAX_RANDOM: u64 = 1 << 20;

/// `grant.wasi`. Its `Debug` shows names and no values, which may be secrets.
#[derive(Default)]
pub struct WasiGrant {
    environment: Vec<(String, String)>,
    directories: Vec<WasiDirectory>,
    variables: WasiConfigVariables,
}

/// A directory of the host that a plugin may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasiDirectory {
    /// Its path on the host. It is opened for each instance, which cannot be made while it is away.
    pub path: PathBuf,
    /// The absolute path at which the plugin finds it.
    pub mount: String,
    /// Whether the plugin may change what is in it. How much it writes is not limited: it can fill the disk.
    pub write: bool,
}

impl WasiGrant {
    /// Puts a grant together: environment variables, directories, and what `wasi:config/store` holds.
    pub fn new(
        environment: Vec<(String, String)>,
        directories: Vec<WasiDirectory>,
        config: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self {
            environment,
            directories,
            variables: config.into_iter().collect(),
        }
    }

    pub(crate) fn variables(&self) -> &WasiConfigVariables {
        &self.variables
    }

    /// The context of one instance, whose output goes where `log` says by the stream's name. `fake` may put others in
    /// place of the clocks and random numbers.
    pub(crate) fn context(
        &self,
        log: impl Fn(&'static str) -> LogStream,
        fake: impl FnOnce(&mut WasiCtxBuilder),
    ) -> Result<WasiCtx, String> {
        let mut context = WasiCtxBuilder::new();
        context.stdout(log("stdout")).stderr(log("stderr"));
        context.envs(&self.environment).max_random_size(MAX_RANDOM);
        for WasiDirectory { path, mount, write } in &self.directories {
            let permissions = match write {
                true => FsPerms::ReadWrite,
                false => FsPerms::ReadOnly,
            };
            let opened = context.preopened_dir(path, mount, permissions);
            opened.map_err(|error| {
                format!(
                    "the directory {} of `grant.wasi` cannot be opened: {error:#}",
                    path.display()
                )
            })?;
        }
        fake(&mut context);
        Ok(context.build())
    }
}

/// Random numbers that are the same in every run, for tests.
#[derive(Debug, Clone)]
pub(crate) struct FixedRandom(Vec<u8>);

impl FixedRandom {
    /// `None` without any byte to repeat.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty()).then(|| Self(bytes.to_vec()))
    }

    pub(crate) fn lend(&self, context: &mut WasiCtxBuilder) {
        context.secure_random(Deterministic::new(self.0.clone()));
        context.insecure_random(Deterministic::new(self.0.clone()));
        context.insecure_random_seed(0);
    }
}

impl fmt::Debug for WasiGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("WasiGrant")
            .field("environment", &names)
            .field("directories", &self.directories)
            .finish_non_exhaustive()
    }
}

/// The handles of one instance.
pub(crate) fn table() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_HANDLES);
    table
}
