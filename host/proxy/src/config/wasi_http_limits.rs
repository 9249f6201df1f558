//! Reads the keys of `[plugin.NAME.limits]` that are about components of `wasi:http`.

use std::time::Duration;

use super::model::WasiHttpLimits;
use super::shape::{integer, positive_duration};
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

/// Whose keys these are, the component will say.
pub(super) fn read(section: &mut Section<'_>) -> WasiHttpLimits {
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
            "wait",
            "exchanges",
            "recycle-memory",
        ]),
    );
    WasiHttpLimits {
        first_byte: section.default("first-byte", default.first_byte, positive_duration),
        processor: section.default("processor", default.processor, positive_duration),
        concurrency: section.default("concurrency", default.concurrency, integer(1..=65_536)),
        given,
    }
}
