//! Reads the keys of `[plugin.NAME.limits]` that are about components of `wasi:http`.

use std::time::Duration;

use super::model::WasiHttpLimits;
use super::shape::positive_duration;
use super::{Location, Section};

/// 30 s: such a component may itself wait for others before it answers. 10 s of a processor: long for one answer, and
/// short for what has run wild. 64: each has an instance of its own, with memory of its own.
impl Default for WasiHttpLimits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(30),
            processor: Duration::from_secs(10),
            concurrency: 64,
            given: (None, None),
        }
    }
}

/// Whose keys these are, the component will say. `concurrency` is a key of both, and was read already.
pub(super) fn read(section: &mut Section<'_>, concurrency: Option<usize>) -> WasiHttpLimits {
    let default = WasiHttpLimits::default();
    let mut first = |keys: &[&str]| -> Option<Location> {
        keys.iter()
            .find_map(|key| Some(section.item(key)?.location()))
    };
    let given = (
        first(&["first-byte", "processor"]),
        first(&[
            "deadline",
            "start",
            "held-body",
            "message",
            "wait",
            "exchanges",
            "recycle-memory",
        ]),
    );
    WasiHttpLimits {
        first_byte: section.default("first-byte", default.first_byte, positive_duration),
        processor: section.default("processor", default.processor, positive_duration),
        concurrency: concurrency.unwrap_or(default.concurrency),
        given,
    }
}
