//! The engine that hooks run on.

use std::sync::{Arc, OnceLock};

use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Engine};

use crate::bindings;
use crate::cache::CodeCache;
use crate::deadlines;
use crate::heads;
use crate::instance::State;
use crate::keyvalue;
use crate::pool::Pool;
use crate::wasi_http::HttpEngine;

/// Native stack that a guest may use. wasmtime's own default; what imports need on top of it has its place on a call's
/// stack of 2 MiB, wasmtime's default too.
const GUEST_STACK: usize = 512 * 1024;

/// The engine, its imports and the code cache. One per process; cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) cache: Option<CodeCache>,
    pool: Pool,
    /// Whether calls are counted in fuel.
    pub(crate) metered: bool,
    /// The engine of standard components, once there is one to load.
    http: Arc<OnceLock<HttpEngine>>,
}

/// The sandbox could not be set up on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly runtime cannot be set up on this machine: {0}")]
pub struct RuntimeError(String);

impl RuntimeError {
    fn new(error: &wasmtime::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

impl Runtime {
    /// Sets up the engine, and the clock for deadlines if it is the first.
    ///
    /// # Errors
    ///
    /// When the machine cannot run compiled WebAssembly or no thread can be started.
    pub fn new(cache: Option<CodeCache>) -> Result<Self, RuntimeError> {
        Self::start(cache, false)
    }

    /// As [`new`](Self::new), and counts what calls cost in wasmtime's fuel: about one for each instruction, whatever
    /// the machine. For tests and measurements, since counting makes guests slower. See
    /// [`Plugin::fuel`](crate::Plugin::fuel).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn metered(cache: Option<CodeCache>) -> Result<Self, RuntimeError> {
        Self::start(cache, true)
    }

    fn start(cache: Option<CodeCache>, metered: bool) -> Result<Self, RuntimeError> {
        let mut base = Config::new();
        base.consume_fuel(metered);
        let (engine, linker) = start(base).map_err(|e| RuntimeError::new(&e))?;
        Ok(Self {
            engine,
            linker,
            cache,
            pool: Pool::default(),
            metered,
            http: Arc::default(),
        })
    }

    /// Readies a component for instances that live for one exchange.
    pub(crate) fn pooled(&self, compiled: &Component) -> Option<InstancePre<State>> {
        let metered = self.metered;
        self.pool.pre(compiled, move |mut base| {
            base.consume_fuel(metered);
            start(base)
        })
    }

    /// The engine of standard components, which is made for the first of them.
    pub(crate) fn http(&self) -> Result<&HttpEngine, RuntimeError> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let new = HttpEngine::new().map_err(|e| RuntimeError::new(&e))?;
        Ok(self.http.get_or_init(|| new))
    }
}

/// An engine whose clock goes, with its imports.
fn start(base: Config) -> wasmtime::Result<(Engine, Linker<State>)> {
    let engine = Engine::new(&config(base))?;
    let linker = linker(&engine)?;
    deadlines::keep_for(&engine)?;
    Ok((engine, linker))
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

fn config(mut config: Config) -> Config {
    config.epoch_interruption(true);
    // It costs every call about half a microsecond, and no hook needs it.
    config.concurrency_support(false);
    config.max_wasm_stack(GUEST_STACK);
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Enable);
    config
}

/// Every import there is. What a component imports decides what it gets; what it is granted decides what the
/// import does, so that a missing grant is an error the plugin sees and not a component that does not load.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    bindings::add_to_linker(&mut linker)?;
    heads::add_to_linker(&mut linker)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, State::wasi_config)?;
    keyvalue::standard::add_to_linker(&mut linker, State::wasi_keyvalue)?;
    Ok(linker)
}
