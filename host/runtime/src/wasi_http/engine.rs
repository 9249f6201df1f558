//! The engine that standard components run on.

use wasmtime::component::Linker;
use wasmtime::{Config, Engine};
use wasmtime_wasi_config::WasiConfig;

use super::onward;
use super::state::State;
use crate::deadlines;
use crate::keyvalue;

/// Made when the first such component is loaded. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HttpEngine {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
}

impl HttpEngine {
    /// # Errors
    ///
    /// When the machine cannot run compiled WebAssembly or no thread can be started.
    pub(crate) fn new() -> wasmtime::Result<Self> {
        let engine = Engine::new(&config())?;
        let linker = linker(&engine)?;
        deadlines::keep_for(&engine)?;
        Ok(Self { engine, linker })
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    config.epoch_interruption(true);
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Enable);
    config
}

/// All of WASI in both versions. What a component may do with it is decided by the context that its instance gets.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut State| {
        WasiConfig::new(state.grant.variables())
    })?;
    keyvalue::standard::add_to_linker(&mut linker, State::keyvalue)?;
    onward::add_to_linker(&mut linker)?;
    Ok(linker)
}
