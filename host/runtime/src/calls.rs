//! The functions of a guest that the host calls.

use bytes::Bytes;
use wasmtime::component::{
    ComponentExportIndex, ComponentNamedList, Instance as Wasm, Lift, Lower, ResourceAny, TypedFunc,
};
use wasmtime::{Store, format_err};

use crate::bindings::{self, Inspection, completion_hook, messages};
use crate::bindings::{RequestVerdict, ResponseVerdict, types};
use crate::component::Ready;
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

impl Ready {
    /// Makes an instance and finds its functions.
    pub(crate) async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Calls> {
        let wasm = self.pre.instantiate_async(&mut *store).await?;
        let exports = &self.exports;
        let mut of = Functions {
            known: self.shapes.get().is_some(),
            store,
            wasm,
        };
        let calls = Calls {
            configure: of.typed(exports.configure, "lifecycle.configure")?,
            config_schema: of.typed(exports.config_schema, "lifecycle.config-schema")?,
            on_request: of.optional(exports.on_request, "request-hook.on-request")?,
            on_response: of.optional(exports.on_response, "response-hook.on-response")?,
            on_complete: of.optional(exports.on_complete, "completion-hook.on-complete")?,
            push: of.optional(exports.push, "transform.push")?,
            finish: of.optional(exports.finish, "transform.finish")?,
            on_upgrade: of.optional(exports.on_upgrade, "message-hook.on-upgrade")?,
            on_message: of.optional(exports.on_message, "messages.on-message")?,
        };
        self.shapes.get_or_init(|| ());
        Ok(calls)
    }
}

/// What a guest says it could not do is a failure like any other.
pub(crate) fn flatten<T>(result: Result<Fallible<T>, FailureKind>) -> Result<T, FailureKind> {
    match result?.0 {
        Ok(value) => Ok(value),
        Err(failure) => Err(FailureKind::Error(failure.reason)),
    }
}

/// The functions of a new instance. Comparing their shapes with the contract's takes as long as a few calls.
struct Functions<'a> {
    store: &'a mut Store<State>,
    wasm: Wasm,
    /// Those of an earlier instance of the same component, on the same engine, had them.
    known: bool,
}

impl Functions<'_> {
    #[expect(
        unsafe_code,
        reason = "wasmtime has no other way to skip what was checked before"
    )]
    fn typed<P, R>(
        &mut self,
        export: ComponentExportIndex,
        name: &'static str,
    ) -> wasmtime::Result<TypedFunc<P, R>>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let function = self.wasm.get_func(&mut *self.store, export);
        let function = function.ok_or_else(|| format_err!("`{name}` is no function"))?;
        if self.known {
            // SAFETY: `known` follows from `shapes` of the `Ready` that this instance was made from. It is set once all
            // functions of an earlier instance have passed the branch below, called from the same lines and so with
            // the same types. What a function takes and returns is part of its component's type; `ResourceAny` stands
            // for any resource. So the branch below would pass again.
            return Ok(unsafe { TypedFunc::new_unchecked(function) });
        }
        let typed = function.typed(&*self.store);
        typed.map_err(|e| e.context(format!("`{name}` has another shape than the contract's")))
    }

    /// The same for what a component need not export.
    fn optional<P, R>(
        &mut self,
        export: Option<ComponentExportIndex>,
        name: &'static str,
    ) -> wasmtime::Result<Option<TypedFunc<P, R>>>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        export.map(|export| self.typed(export, name)).transpose()
    }
}
