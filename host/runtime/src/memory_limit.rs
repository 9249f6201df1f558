//! How much memory an instance may take.

use wasmtime::ResourceLimiter;

/// Bounds what an instance may take, over all its memories, and remembers that it wanted more: a guest out of memory
/// usually traps somewhere else, and the operator has to know why.
pub(crate) struct MemoryLimit {
    pub(crate) bytes: usize,
    pub(crate) used: usize,
    /// In the current call.
    pub(crate) exceeded: bool,
}

impl MemoryLimit {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            used: 0,
            exceeded: false,
        }
    }
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
