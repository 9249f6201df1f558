//! A compiled standard component, and how one is told from a plugin of the contract.

use wasmtime_wasi_http::{p2, p3};

use super::state::State;
use crate::cache::ComponentDigest;
use crate::component::{CONTRACT, LoadError, compile, digest_of};
use crate::engine::Runtime;
use crate::interfaces::interfaces_of;

/// What a component of 0.2 exports.
const INCOMING_HANDLER: &str = "wasi:http/incoming-handler@0.2.";
/// What a component of 0.3 exports, and a middleware imports as well.
const HANDLER: &str = "wasi:http/handler@0.3.";

/// A compiled component that handles requests. Immutable and shared by all workers.
pub struct HttpComponent {
    pub(crate) pre: Pre,
    is_middleware: bool,
    sends_requests: bool,
    reads_settings: bool,
    uses_stores: bool,
    imports: Vec<String>,
    digest: ComponentDigest,
}

/// Which of the two handlers it exports.
pub(crate) enum Pre {
    V02(p2::bindings::ProxyPre<State>),
    V03(p3::bindings::ServicePre<State>),
}

/// Whether these bytes are a component that exports a handler of `wasi:http` and no hook of the contract. Reads the
/// names of its exports and compiles nothing.
pub fn is_wasi_http(bytes: &[u8]) -> bool {
    let names = interfaces_of(bytes).exports;
    let any = |interface| names.iter().any(|name| name.starts_with(interface));
    !any(CONTRACT) && (any(INCOMING_HANDLER) || any(HANDLER))
}

impl HttpComponent {
    /// Compiles a component, or takes it from the code cache.
    ///
    /// Takes milliseconds from the cache and up to half a minute without, for one that carries a JavaScript or Python
    /// engine: keep it off the serving threads.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub fn load(runtime: &Runtime, bytes: &[u8]) -> Result<Self, LoadError> {
        let http = runtime
            .http()
            .map_err(|error| LoadError::Invalid(error.to_string()))?;
        let digest = digest_of(bytes);
        let compiled = compile(&http.engine, runtime.cache.as_ref(), bytes, &digest)?;
        let component_type = compiled.component_type();
        let exports = |interface: &str| {
            let mut exports = component_type.exports(&http.engine);
            exports.any(|(name, _)| name.starts_with(interface))
        };
        let names: Vec<String> = component_type
            .imports(&http.engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        let imports = |interface: &str| names.iter().any(|name| name.starts_with(interface));
        let unfit = |error: wasmtime::Error| LoadError::Imports(format!("{error:#}"));
        let pre = http.linker.instantiate_pre(&compiled).map_err(unfit)?;
        let pre = match exports(HANDLER) {
            true => Pre::V03(p3::bindings::ServicePre::new(pre).map_err(unfit)?),
            false => Pre::V02(p2::bindings::ProxyPre::new(pre).map_err(unfit)?),
        };
        Ok(Self {
            is_middleware: matches!(pre, Pre::V03(_)) && imports(HANDLER),
            sends_requests: imports("wasi:http/outgoing-handler@") || imports("wasi:http/client@"),
            reads_settings: imports("wasi:config/"),
            uses_stores: imports("wasi:keyvalue/"),
            pre,
            imports: names,
            digest,
        })
    }

    /// Whether it imports the handler that it exports: it stands before something, and is not the end of a route.
    pub fn is_middleware(&self) -> bool {
        self.is_middleware
    }

    /// Whether it imports what requests are sent with, for which a plugin needs a grant. Toolchains add that import
    /// to components that never send one.
    pub fn sends_requests(&self) -> bool {
        self.sends_requests
    }

    /// Whether it imports `wasi:config`, which gives it its settings.
    pub fn reads_settings(&self) -> bool {
        self.reads_settings
    }

    /// Whether it imports `wasi:keyvalue`, for which a plugin needs a grant.
    pub fn uses_stores(&self) -> bool {
        self.uses_stores
    }

    /// The interfaces that it imports, with their versions. Toolchains add some that are never called.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// SHA-256 of the component's file.
    pub fn digest(&self) -> &ComponentDigest {
        &self.digest
    }
}

impl std::fmt::Debug for HttpComponent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpComponent")
            .field("is_middleware", &self.is_middleware)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_no_wasi_http_component() {
        for bytes in [
            &b""[..],
            b"GIF89a",
            b"\0asm\x01\0\0\0",
            b"\0asm\x0d\0\x01\0",
        ] {
            assert!(!is_wasi_http(bytes), "{bytes:?}");
        }
    }
}
