//! The engine that hooks run on.

use std::time::Duration;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Engine};

use crate::bindings;
use crate::cache::CodeCache;
use crate::instance::State;

/// How often the clock that deadlines are measured with moves on. A runaway call is cut at most four ticks after its
/// deadline: one that has begun, one to round up, and two in which it is seen to run. A tick costs one atomic add.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// Native stack that a guest may use. wasmtime's own default; a worker's thread must have more than this.
const GUEST_STACK: usize = 512 * 1024;

/// The engine, its imports and the code cache. One per process; cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) cache: Option<CodeCache>,
}

/// The sandbox could not be set up on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly runtime cannot be set up on this machine: {0}")]
pub struct RuntimeError(String);

impl Runtime {
    /// Sets up the engine and starts the clock for deadlines, a thread that ends when the last clone is gone.
    ///
    /// # Errors
    ///
    /// When the machine cannot run compiled WebAssembly or no thread can be started.
    pub fn new(cache: Option<CodeCache>) -> Result<Self, RuntimeError> {
        let engine = Engine::new(&config()).map_err(|e| RuntimeError(format!("{e:#}")))?;
        let linker = linker(&engine).map_err(|e| RuntimeError(format!("{e:#}")))?;
        let clock = engine.weak();
        let tick = move || {
            while let Some(engine) = clock.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        };
        std::thread::Builder::new()
            .name("deadlines".into())
            .spawn(tick)
            .map_err(|e| RuntimeError(format!("no thread for the deadline clock: {e}")))?;
        Ok(Self {
            engine,
            linker,
            cache,
        })
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.max_wasm_stack(GUEST_STACK);
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Enable);
    config
}

/// Every import there is. What a component imports decides what it gets; what it is granted decides what the
/// import does, so that a missing grant is an error the plugin sees and not a component that does not load.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    bindings::Plugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Ok(linker)
}
