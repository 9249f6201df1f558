//! The functions of a guest that the host calls.

use bytes::Bytes;
use wasmtime::Store;
use wasmtime::component::{
    ComponentExportIndex, ComponentNamedList, Instance as Wasm, Lift, Lower, ResourceAny, TypedFunc,
};

use crate::bindings::{self, Inspection, completion_hook, messages};
use crate::bindings::{RequestVerdict, ResponseVerdict, types};
use crate::component::Exports;
use crate::failure::FailureKind;
use crate::instance::State;

pub(crate) type Fallible<T> = (Result<T, types::Failure>,);

/// The functions of the guest, looked up and checked once.
pub(crate) struct Calls {
    pub(crate) configure: TypedFunc<(String,), (Result<(), Vec<bindings::ConfigError>>,)>,
    pub(crate) config_schema: TypedFunc<(), (String,)>,
    pub(crate) on_request: Option<TypedFunc<(), Fallible<RequestVerdict>>>,
    pub(crate) on_response: Option<TypedFunc<(), Fallible<ResponseVerdict>>>,
    pub(crate) push: Option<TypedFunc<(ResourceAny, Bytes), Fallible<Bytes>>>,
    pub(crate) on_complete: Option<TypedFunc<(completion_hook::Summary,), Fallible<()>>>,
    pub(crate) finish: Option<TypedFunc<(ResourceAny,), Fallible<Bytes>>>,
    pub(crate) on_upgrade: Option<TypedFunc<(), Fallible<Option<Inspection>>>>,
    pub(crate) on_message: Option<OnMessage>,
}

type OnMessage = TypedFunc<
    (ResourceAny, messages::Direction, messages::Message),
    Fallible<messages::MessageVerdict>,
>;

impl Calls {
    pub(crate) fn find(
        store: &mut Store<State>,
        wasm: &Wasm,
        exports: &Exports,
    ) -> wasmtime::Result<Self> {
        Ok(Self {
            configure: typed(store, wasm, exports.configure, "lifecycle.configure")?,
            config_schema: typed(
                store,
                wasm,
                exports.config_schema,
                "lifecycle.config-schema",
            )?,
            on_request: optional(store, wasm, exports.on_request, "request-hook.on-request")?,
            on_response: optional(
                store,
                wasm,
                exports.on_response,
                "response-hook.on-response",
            )?,
            on_complete: optional(
                store,
                wasm,
                exports.on_complete,
                "completion-hook.on-complete",
            )?,
            push: optional(store, wasm, exports.push, "transform.push")?,
            finish: optional(store, wasm, exports.finish, "transform.finish")?,
            on_upgrade: optional(store, wasm, exports.on_upgrade, "message-hook.on-upgrade")?,
            on_message: optional(store, wasm, exports.on_message, "messages.on-message")?,
        })
    }
}

/// What a guest says it could not do is a failure like any other.
pub(crate) fn flatten<T>(result: Result<Fallible<T>, FailureKind>) -> Result<T, FailureKind> {
    match result?.0 {
        Ok(value) => Ok(value),
        Err(failure) => Err(FailureKind::Error(failure.reason)),
    }
}

fn typed<P, R>(
    store: &mut Store<State>,
    wasm: &Wasm,
    export: ComponentExportIndex,
    name: &'static str,
) -> wasmtime::Result<TypedFunc<P, R>>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    wasm.get_typed_func(store, export)
        .map_err(|e| e.context(format!("`{name}` has another shape than the contract's")))
}

/// The same for what a component need not export.
fn optional<P, R>(
    store: &mut Store<State>,
    wasm: &Wasm,
    export: Option<ComponentExportIndex>,
    name: &'static str,
) -> wasmtime::Result<Option<TypedFunc<P, R>>>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    export
        .map(|export| typed(store, wasm, export, name))
        .transpose()
}
