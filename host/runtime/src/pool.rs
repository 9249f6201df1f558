//! Room for instances that live for one exchange, kept ready by wasmtime: memory that is mapped once and reset by the
//! system, instead of mapped and unmapped for each exchange.

use std::sync::{Arc, OnceLock};

use wasmtime::component::{Component as Compiled, InstancePre, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::cache;
use crate::instance::State;

/// Instances of all plugins and workers at a time. Each takes 4 GiB of addresses, of which a process has 128 TiB on
/// most machines, and no memory until it is used. An exchange beyond these is served as well, for a few microseconds
/// more.
const INSTANCES: u32 = 1000;

/// Core instances, memories and tables that one component may have, on average: what adapters and their tables add to
/// its one module.
const PARTS: u32 = 4;

/// Bytes of each memory, from its start, and of each table that are reset by writing them. More is given back to the
/// system, which then costs page faults.
const KEEP_RESIDENT: usize = 256 << 10;

/// The room, taken when the first plugin needs it. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<OnceLock<Option<Pooled>>>);

struct Pooled {
    engine: Engine,
    linker: Linker<State>,
}

impl Pool {
    /// Readies a component for instances in the pool. `None`, with a line in the log, when this machine has no room for
    /// a pool, or the component's parts are too large for it; its instances are then made in the ordinary way.
    pub(crate) fn pre(
        &self,
        compiled: &Compiled,
        pooled: impl FnOnce(Config) -> wasmtime::Result<(Engine, Linker<State>)>,
    ) -> Option<InstancePre<State>> {
        let pooled = self.0.get_or_init(|| {
            let made = pooled(config());
            made.map_err(|error| {
                let error = format!("{error:#}");
                tracing::warn!(error, "no room for a pool of instances; `isolation = \"exchange\"` works and costs more");
            })
            .map(|(engine, linker)| Pooled { engine, linker })
            .ok()
        });
        let Pooled { engine, linker } = pooled.as_ref()?;
        let made = cache::copy(compiled, engine).and_then(|copy| linker.instantiate_pre(&copy));
        made.map_err(|error| {
            let error = format!("{error:#}");
            tracing::warn!(error, "a component does not fit the pool of instances; its `isolation = \"exchange\"` works and costs more");
        })
        .ok()
    }
}

/// What differs from the engine whose instances live long.
fn config() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * PARTS)
        .total_memories(INSTANCES)
        .total_tables(INSTANCES * PARTS)
        .total_stacks(INSTANCES)
        .max_tables_per_module(PARTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        // Where the system can tell which pages were written, only those are reset.
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
