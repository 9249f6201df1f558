//! A compiled component and the hooks that were found in it.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component as Compiled, ComponentExportIndex, InstancePre};

use crate::CONTRACT_VERSION;
use crate::cache::{CodeCache, ComponentDigest};
use crate::engine::Runtime;
use crate::instance::State;

/// Start of the names of our interfaces.
pub(crate) const CONTRACT: &str = "witgate:plugin/";

/// A compiled component that exports hooks of the contract. Immutable and shared by all workers.
pub struct Component {
    pub(crate) ready: Ready,
    /// For instances that live for one exchange; made when the first is needed.
    pooled: OnceLock<Option<Ready>>,
    runtime: Runtime,
    /// Imports WASI, so that each instance needs a context of it.
    pub(crate) wasi: bool,
    imports: Vec<String>,
    hook_names: Vec<String>,
    digest: ComponentDigest,
}

/// The component, ready for instances on one engine.
pub(crate) struct Ready {
    pub(crate) pre: InstancePre<State>,
    pub(crate) exports: Exports,
    /// Set when the functions of an instance were found to have the contract's shapes, which those of all others then
    /// have as well.
    pub(crate) shapes: OnceLock<()>,
}

/// Which hooks a component implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hooks {
    /// `request-hook`
    pub request: bool,
    /// `response-hook`
    pub response: bool,
    /// `completion-hook`
    pub completion: bool,
    /// `message-hook`
    pub message: bool,
}

/// Where the functions that the host calls are found in an instance.
pub(crate) struct Exports {
    pub(crate) configure: ComponentExportIndex,
    pub(crate) config_schema: ComponentExportIndex,
    pub(crate) on_request: Option<ComponentExportIndex>,
    pub(crate) on_response: Option<ComponentExportIndex>,
    pub(crate) on_complete: Option<ComponentExportIndex>,
    pub(crate) push: Option<ComponentExportIndex>,
    pub(crate) finish: Option<ComponentExportIndex>,
    pub(crate) on_upgrade: Option<ComponentExportIndex>,
    pub(crate) on_message: Option<ComponentExportIndex>,
}

/// Why a file cannot be used as a plugin. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not WebAssembly at all.
    #[error(
        "this is not a WebAssembly file; give the `.wasm` component that the plugin's build made"
    )]
    NotWasm,
    /// A core module.
    #[error(
        "this is a core WebAssembly module, not a component; make it one with `wasm-tools component new`, or build for `wasm32-wasip2`"
    )]
    CoreModule,
    /// Does not compile.
    #[error("the component is damaged or uses WebAssembly features that are not supported: {0}")]
    Invalid(String),
    /// No export of the contract.
    #[error(
        "this component is no witgate plugin: it exports no interface of `witgate:plugin`{}",
        exported(.0)
    )]
    NotAPlugin(Vec<String>),
    /// A hook without `lifecycle`, or the other way round.
    #[error("the component exports {0}; a plugin exports `lifecycle` and at least one hook")]
    Incomplete(String),
    /// Another version of the contract.
    #[error(
        "the component speaks version {0} of the contract `witgate:plugin`, this witgate speaks {CONTRACT_VERSION}; build it against the matching WIT"
    )]
    OtherVersion(String),
    /// Imports what there is not.
    #[error("the component needs what this witgate does not offer: {0}")]
    Imports(String),
}

fn exported(names: &[String]) -> String {
    match names {
        [] => " (nor anything else)".into(),
        names => format!("; it exports {}", names.join(", ")),
    }
}

impl Component {
    /// Compiles a component, or takes it from the code cache, and finds its hooks.
    ///
    /// Takes milliseconds from the cache, and up to seconds without: keep it off the serving threads.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub fn load(runtime: &Runtime, bytes: &[u8]) -> Result<Self, LoadError> {
        match bytes {
            [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => {}
            [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => return Err(LoadError::CoreModule),
            _ => return Err(LoadError::NotWasm),
        }
        let digest = digest_of(bytes);
        let compiled = compile(&runtime.engine, runtime.cache.as_ref(), bytes, &digest)?;
        let exports = find_exports(&runtime.engine, &compiled)?;
        let imports: Vec<String> = compiled
            .component_type()
            .imports(&runtime.engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        let wasi = imports.iter().any(|name| name.starts_with("wasi:"));
        let pre = runtime
            .linker
            .instantiate_pre(&compiled)
            .map_err(|e| LoadError::Imports(format!("{e:#}")))?;
        Ok(Self {
            ready: Ready::new(pre, exports),
            pooled: OnceLock::new(),
            runtime: runtime.clone(),
            wasi,
            imports,
            hook_names: hook_names(runtime, &compiled),
            digest,
        })
    }

    /// What instances that live for one exchange are made of, where there is room for a pool of them.
    pub(crate) fn pooled(&self) -> Option<&Ready> {
        let ready = || {
            let pre = self.runtime.pooled(self.ready.pre.component())?;
            let exports = find_exports(pre.engine(), pre.component()).ok()?;
            Some(Ready::new(pre, exports))
        };
        self.pooled.get_or_init(ready).as_ref()
    }

    /// Whether its calls are counted in fuel.
    pub(crate) fn is_metered(&self) -> bool {
        self.runtime.metered
    }

    /// Which hooks the component implements.
    pub fn hooks(&self) -> Hooks {
        Hooks {
            request: self.ready.exports.on_request.is_some(),
            response: self.ready.exports.on_response.is_some(),
            completion: self.ready.exports.on_complete.is_some(),
            message: self.ready.exports.on_upgrade.is_some(),
        }
    }

    /// The hooks that it exports, as the contract calls them: `request-hook`.
    pub fn hook_names(&self) -> impl Iterator<Item = &str> {
        self.hook_names.iter().map(String::as_str)
    }

    /// Whether it imports `http-client`, for which a plugin needs a grant.
    pub fn sends_requests(&self) -> bool {
        self.imports_ours("http-client")
    }

    /// The interfaces that it imports, with their versions: `witgate:plugin/log@0.1.0`. What is in the list need not be
    /// called; what is not in it cannot be.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// Whether it imports `keyvalue`, ours or the standard's, for which a plugin needs a grant.
    pub fn uses_stores(&self) -> bool {
        let standard = |name: &String| name.starts_with("wasi:keyvalue/");
        self.imports_ours("keyvalue") || self.imports.iter().any(standard)
    }

    /// Whether it imports `metrics`, for which a plugin needs a grant.
    pub fn counts_metrics(&self) -> bool {
        self.imports_ours("metrics")
    }

    /// Whether it imports `secrets`, for which a plugin needs a grant.
    pub fn reads_secrets(&self) -> bool {
        self.imports_ours("secrets")
    }

    fn imports_ours(&self, interface: &str) -> bool {
        let ours = |name: &String| {
            let (own, _) = name.strip_prefix(CONTRACT)?.split_once('@')?;
            (own == interface).then_some(())
        };
        self.imports.iter().any(|name| ours(name).is_some())
    }

    /// Whether it was loaded from exactly these bytes.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        digest_of(bytes) == self.digest
    }

    /// SHA-256 of the component's file.
    pub fn digest(&self) -> &ComponentDigest {
        &self.digest
    }
}

impl Ready {
    fn new(pre: InstancePre<State>, exports: Exports) -> Self {
        Self {
            pre,
            exports,
            shapes: OnceLock::new(),
        }
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component")
            .field("hooks", &self.hooks())
            .finish_non_exhaustive()
    }
}

/// SHA-256 of a component's bytes.
pub fn digest_of(bytes: &[u8]) -> ComponentDigest {
    Sha256::digest(bytes).into()
}

/// Compiles for one of the engines, whose fingerprint keeps its entries of the cache apart.
pub(crate) fn compile(
    engine: &Engine,
    cache: Option<&CodeCache>,
    bytes: &[u8],
    digest: &ComponentDigest,
) -> Result<Compiled, LoadError> {
    if let Some(compiled) = cache.and_then(|cache| cache.load(engine, digest)) {
        return Ok(compiled);
    }
    let compiled =
        Compiled::from_binary(engine, bytes).map_err(|e| LoadError::Invalid(format!("{e:#}")))?;
    if let Some(cache) = cache {
        cache.store(engine, digest, &compiled);
    }
    Ok(compiled)
}

fn find_exports(engine: &Engine, compiled: &Compiled) -> Result<Exports, LoadError> {
    let component_type = compiled.component_type();
    let names: Vec<String> = component_type
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let ours: Vec<&String> = names
        .iter()
        .filter(|name| name.starts_with(CONTRACT))
        .collect();
    if ours.is_empty() {
        return Err(LoadError::NotAPlugin(names));
    }
    let function = |interface: &str, function: &str| {
        let interface = format!("{CONTRACT}{interface}@{CONTRACT_VERSION}");
        let (item, index) = compiled.get_export(None, &interface)?;
        matches!(item, ComponentItem::ComponentInstance(_)).then_some(())?;
        compiled.get_export_index(Some(&index), function)
    };
    let on_request = function("request-hook", "on-request");
    let on_response = function("response-hook", "on-response");
    let on_complete = function("completion-hook", "on-complete");
    let on_upgrade = function("message-hook", "on-upgrade");
    let on_message = function("messages", "[method]messages.on-message");
    let has_hook = [&on_request, &on_response, &on_complete, &on_upgrade]
        .iter()
        .any(|hook| hook.is_some());
    let lifecycle = function("lifecycle", "configure").zip(function("lifecycle", "config-schema"));
    let push = function("transform", "[method]transform.push");
    let finish = function("transform", "[method]transform.finish");
    match lifecycle {
        Some((configure, config_schema)) if has_hook => Ok(Exports {
            configure,
            config_schema,
            on_request,
            on_response,
            on_complete,
            push,
            finish,
            on_upgrade,
            on_message,
        }),
        _ => Err(incomplete(&ours)),
    }
}

fn hook_names(runtime: &Runtime, compiled: &Compiled) -> Vec<String> {
    let component_type = compiled.component_type();
    let exports = component_type.exports(&runtime.engine);
    let hook = |name: &str| {
        let (interface, _) = name.strip_prefix(CONTRACT)?.split_once('@')?;
        interface.ends_with("-hook").then(|| interface.to_owned())
    };
    exports.filter_map(|(name, _)| hook(name)).collect()
}

/// Tells a plugin of another contract version from one that lacks an export.
fn incomplete(ours: &[&String]) -> LoadError {
    let version = |name: &str| name.rsplit_once('@').map(|(_, version)| version.to_owned());
    match ours
        .iter()
        .find_map(|name| version(name).filter(|v| !compatible(v)))
    {
        Some(other) => LoadError::OtherVersion(other),
        None => LoadError::Incomplete(
            ours.iter()
                .map(|n| format!("`{n}`"))
                .collect::<Vec<_>>()
                .join(", "),
        ),
    }
}

/// Same major and, below 1.0, same minor version.
fn compatible(version: &str) -> bool {
    let line = |v: &str| v.split('.').take(2).collect::<Vec<_>>().join(".");
    line(version) == line(CONTRACT_VERSION)
}
