//! What a component imports and exports, by its bytes alone.

use wasmparser::{Parser, Payload};

/// The names that a component's outermost level imports and exports, with their versions: `witgate:plugin/log@0.1.0`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// What it needs of its host.
    pub imports: Vec<String>,
    /// What it offers.
    pub exports: Vec<String>,
}

/// The interfaces of a component. Compiles nothing; what is damaged shows when it is compiled, and what follows it is
/// left out here.
pub fn interfaces_of(bytes: &[u8]) -> Interfaces {
    let mut found = Interfaces::default();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) if depth > 0 => depth -= 1,
            Ok(Payload::ComponentImportSection(imports)) if depth == 0 => {
                let names = imports.into_iter().flatten();
                found
                    .imports
                    .extend(names.map(|import| import.name.name.to_owned()));
            }
            Ok(Payload::ComponentExportSection(exports)) if depth == 0 => {
                let names = exports.into_iter().flatten();
                found
                    .exports
                    .extend(names.map(|export| export.name.name.to_owned()));
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    found
}
