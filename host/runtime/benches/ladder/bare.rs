//! What the ways cost among which the runtime chose, with wasmtime alone: a call on the caller's stack or on one of its own,
//! and instances that are mapped anew or taken from a pool. The guest is the same, and so is what it does.

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue};
use wasmtime::component::{
    Component, ComponentExportIndex, InstancePre, Linker, TypedFunc, WasmList, WasmStr,
};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, Store, StoreContextMut};
use wasmtime::{PoolingAllocationConfig, Result};

use bindings::exports::witgate::plugin::lifecycle::ConfigError;
use bindings::exports::witgate::plugin::request_hook::RequestVerdict;
use bindings::witgate::plugin::types::{Failure, HeadError};

mod bindings {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        dead_code,
        clippy::all,
        reason = "generated"
    )]
    wasmtime::component::bindgen!({ path: "../../wit", world: "request-plugin" });
}

type Configure = TypedFunc<(String,), (Result<(), Vec<ConfigError>>,)>;
type OnRequest = TypedFunc<(), (Result<RequestVerdict, Failure>,)>;

/// How instances come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Mapped for each.
    OnDemand,
    /// Mapped once, and reset.
    Pooled,
}

/// The guest on an engine of its own.
pub(crate) struct Bare {
    pre: InstancePre<HeaderMap>,
    configure: ComponentExportIndex,
    on_request: ComponentExportIndex,
}

/// One configured instance.
pub(crate) struct BareInstance {
    store: Store<HeaderMap>,
    on_request: OnRequest,
}

impl Bare {
    pub(crate) fn new(component: &[u8], memory: Memory) -> Self {
        let mut config = Config::new();
        config.epoch_interruption(true).concurrency_support(false);
        if memory == Memory::Pooled {
            let mut pool = PoolingAllocationConfig::new();
            pool.total_memories(10)
                .linear_memory_keep_resident(256 << 10);
            pool.table_keep_resident(256 << 10);
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        let engine = Engine::new(&config).expect("this machine runs WebAssembly");
        let component = Component::new(&engine, component).expect("it is a component");
        let mut linker = Linker::new(&engine);
        let unknown = linker.define_unknown_imports_as_traps(&component);
        unknown.expect("nothing else is in the linker");
        linker.allow_shadowing(true);
        heads(&mut linker).expect("the contract's shapes");
        let export = |interface: &str, function: &str| {
            let interface = format!("witgate:plugin/{interface}@0.1.0");
            let interface = component.get_export_index(None, &interface)?;
            component.get_export_index(Some(&interface), function)
        };
        Self {
            configure: export("lifecycle", "configure").expect("every plugin has it"),
            on_request: export("request-hook", "on-request").expect("the guest has it"),
            pre: linker
                .instantiate_pre(&component)
                .expect("all imports are there"),
        }
    }

    /// A new instance, told to read a header and set another.
    pub(crate) async fn start(&self, headers: HeaderMap) -> BareInstance {
        let mut store = Store::new(self.pre.engine(), headers);
        store.set_epoch_deadline(1 << 20);
        let made = self.pre.instantiate_async(&mut store).await;
        let made = made.expect("there is room for one");
        let configure: Configure = made
            .get_typed_func(&mut store, self.configure)
            .expect("the contract's shape");
        let config = r#"{"does":"get-and-set"}"#.to_owned();
        let configured = configure.call_async(&mut store, (config,)).await;
        assert!(matches!(configured, Ok((Ok(()),))), "{configured:?}");
        let on_request = made
            .get_typed_func(&mut store, self.on_request)
            .expect("the contract's shape");
        BareInstance { store, on_request }
    }
}

impl BareInstance {
    /// Calls the hook on this stack.
    pub(crate) fn call(&mut self) {
        let called = self.on_request.call(&mut self.store, ());
        assert!(matches!(called, Ok((Ok(RequestVerdict::Next),))));
    }

    /// Calls the hook on a stack of its own.
    pub(crate) async fn call_on_fiber(&mut self) {
        let called = self.on_request.call_async(&mut self.store, ()).await;
        assert!(matches!(called, Ok((Ok(RequestVerdict::Next),))));
    }
}

/// The two imports that are called.
fn heads(linker: &mut Linker<HeaderMap>) -> Result<()> {
    type Headers<'a> = StoreContextMut<'a, HeaderMap>;
    let mut request = linker.instance("witgate:plugin/request@0.1.0")?;
    request.func_wrap("header", |headers: Headers<'_>, (name,): (WasmStr,)| {
        let value = headers.data().get(&*name.to_str(&headers)?);
        Ok((value.map(|value| value.as_bytes().to_vec()),))
    })?;
    request.func_wrap(
        "set-header",
        |mut headers: Headers<'_>, (name, value): (WasmStr, WasmList<u8>)| {
            let name = HeaderName::from_bytes(name.to_str(&headers)?.as_bytes())?;
            let value = HeaderValue::from_bytes(value.as_le_slice(&headers))?;
            headers.data_mut().insert(name, value);
            Ok((Ok::<(), HeadError>(()),))
        },
    )
}

/// With the one that is read.
pub(crate) fn headers() -> HeaderMap {
    let agent = HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36");
    HeaderMap::from_iter([(USER_AGENT, agent)])
}
