//! A component that a command was given, and words for what it is.

use std::path::Path;

use crate::Ended;
use crate::load::BUILTINS;

/// The bytes of `builtin:NAME` or of a file.
pub(crate) fn read(component: &str) -> Result<Vec<u8>, Ended> {
    if let Some(name) = component.strip_prefix("builtin:") {
        let found = (BUILTINS.find)(name).map(<[u8]>::to_vec);
        return found.ok_or_else(|| {
            Ended::because(format!(
                "there is no built-in plugin `{name}`; there are {}",
                (BUILTINS.names)().join(", ")
            ))
        });
    }
    std::fs::read(Path::new(component))
        .map_err(|error| Ended::because(format!("cannot read {component}: {error}")))
}

/// The hooks among a component's exports, as the contract calls them; or that it has none.
pub(crate) fn hooks(exports: &[String]) -> Vec<&str> {
    let hook = |name: &'_ String| -> Option<usize> {
        let (interface, _) = name.strip_prefix("witgate:plugin/")?.split_once('@')?;
        interface.ends_with("-hook").then_some(interface.len())
    };
    let found: Vec<_> = exports
        .iter()
        .filter_map(|name| {
            let length = hook(name)?;
            let start = "witgate:plugin/".len();
            name.get(start..start + length)
        })
        .collect();
    match found.is_empty() {
        true => vec!["no hook"],
        false => found,
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
