use wit_component::{ComponentEncoder, metadata};

use crate::EncodeError;

/// Makes a component of a core module that was built with `witgate-plugin` or another binding generator, by the
/// component types in its custom sections. The result is validated.
///
/// # Errors
///
/// [`EncodeError`] when the bytes are no core module, when no component type in it has an export, or when it lacks an
/// export that its component type promises.
pub fn encode(module: &[u8]) -> Result<Vec<u8>, EncodeError> {
    // The encoder makes an empty component of a module that has nothing to export, and nobody would know why.
    let (_, bindings) = metadata::decode(module).map_err(|error| refused(format!("{error:#}")))?;
    if bindings.resolve.worlds[bindings.world].exports.is_empty() {
        return Err(refused("it exports no interface".to_owned()));
    }
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| refused(format!("{error:#}")))
}

fn refused(reason: String) -> EncodeError {
    EncodeError { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_is_refused_with_a_reason() {
        let error = encode(b"not wasm").expect_err("text is no module");
        assert!(
            error
                .to_string()
                .starts_with("cannot make a component of the module: "),
            "{error}"
        );
    }
}
