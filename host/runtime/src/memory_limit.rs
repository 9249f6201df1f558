//! How much memory an instance may take.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::counts::PluginCounts;

/// Bounds what an instance may take, over all its memories, and remembers that it wanted more: a guest out of memory
/// usually traps somewhere else, and the operator has to know why.
pub(crate) struct MemoryLimit {
    pub(crate) bytes: usize,
    pub(crate) used: usize,
    /// In the current call.
    pub(crate) exceeded: bool,
    /// Where the instance and its memory are shown, once a worker has it.
    shown: Option<Arc<PluginCounts>>,
}

impl MemoryLimit {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            used: 0,
            exceeded: false,
            shown: None,
        }
    }

    /// From now on counted there, until it is dropped.
    pub(crate) fn show_in(&mut self, counts: Arc<PluginCounts>) {
        counts.has_instances(1);
        counts.has_memory(signed(self.used));
        self.shown = Some(counts);
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Some(counts) = &self.shown {
            counts.has_instances(-1);
            counts.has_memory(-signed(self.used));
        }
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Entries of all tables; a table holds function pointers, and compilers make a few thousand at most.
const MAX_TABLE: usize = 100_000;

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        let fits = used <= self.bytes;
        self.exceeded |= !fits;
        if fits {
            if let Some(counts) = &self.shown {
                counts.has_memory(signed(used - self.used));
            }
            self.used = used;
        }
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE)
    }
}
