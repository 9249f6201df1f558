//! One instance, from the request to its end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use wasmtime::Store;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{WasiBody, WasiHttpView, p2, p3};

use super::body::Leave;
use super::component::Pre;
use super::onward::Onward;
use super::outgoing::Outgoing;
use super::plugin::HttpPlugin;
use super::slices::{OutOfTime, Slices};
use super::state::State;
use super::worker_plugin::About;
use crate::counts::PluginCounts;
use crate::failure::{FailureKind, PluginFailure};

/// How long an instance may go on when its response has been read: enough to write down what it did, and an end to
/// those that wait for nothing.
const LONGEST_AFTERMATH: Duration = Duration::from_secs(10);

/// The head of the response, or what the component says instead of one.
pub(crate) type Head = oneshot::Sender<Result<Response<WasiBody>, FailureKind>>;

pub(crate) struct Call {
    pub(crate) plugin: Arc<HttpPlugin>,
    pub(crate) outgoing: Outgoing,
    /// Why the instance ended, if it did not come to its end.
    pub(crate) failed: Arc<OnceLock<FailureKind>>,
    pub(crate) counts: Arc<PluginCounts>,
    pub(crate) about: About,
    pub(crate) next: Option<mpsc::Sender<Onward>>,
    /// Kept as long as the instance is there.
    pub(crate) turn: OwnedSemaphorePermit,
}

impl Call {
    /// The failure is known before the body ends, since that ends with the store.
    pub(crate) async fn run(
        self,
        request: Request<WasiBody>,
        head: Head,
        mut left: oneshot::Receiver<Leave>,
    ) {
        let limit = self.plugin.limits().processor;
        let state = match State::new(&self.plugin, &self.about, self.outgoing, self.next) {
            Ok(state) => state,
            Err(why) => {
                // Nobody listens when the client has left.
                drop(head.send(Err(FailureKind::Start(why))));
                return;
            }
        };
        let mut store = self.plugin.store(state);
        let mut leave = None;
        let ran = {
            let handling = handle(&mut store, &self.plugin.component().pre, request, head);
            let mut slices = Slices::new(Box::pin(handling), limit);
            tokio::select! {
                biased;
                left = &mut left => {
                    leave = left.ok();
                    match leave {
                        Some(Leave::After) => {
                            tokio::time::timeout(LONGEST_AFTERMATH, slices).await.ok()
                        }
                        Some(Leave::Before) | None => None,
                    }
                }
                ran = &mut slices => Some(ran),
            }
        };
        let kind = match ran {
            Some(Ok(Ok(()))) | None => None,
            Some(Err(OutOfTime)) => Some(FailureKind::Processor(limit)),
            Some(Ok(Err(error))) => Some(explain(&error, &store)),
        };
        if let Some(kind) = kind {
            let failure = PluginFailure {
                plugin: self.plugin.name().clone(),
                call: "handle",
                kind: kind.clone(),
            };
            self.counts.failed(&failure);
            if leave == Some(Leave::After) {
                // Nobody else is left to say it.
                let (request_id, route) = (&*self.about.id, &*self.about.route);
                tracing::warn!(request_id, route, "{failure}; its response had been sent");
            }
            self.failed
                .set(kind)
                .expect("an instance fails once, and nobody else says so");
        }
        drop(store);
        drop(self.turn);
    }
}

/// Makes an instance and nothing else.
pub(crate) async fn try_out(plugin: &HttpPlugin) -> Result<(), FailureKind> {
    let about = About {
        route: "".into(),
        id: "".into(),
    };
    let state = State::new(plugin, &about, Outgoing::new(None), None);
    let state = state.map_err(FailureKind::Start)?;
    let (mut store, limit) = (plugin.store(state), plugin.limits().processor);
    let made = {
        let making = instantiate(&mut store, &plugin.component().pre);
        Slices::new(Box::pin(making), limit).await
    };
    match made {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(explain(&error, &store)),
        Err(OutOfTime) => Err(FailureKind::Processor(limit)),
    }
}

enum Instance {
    V02(p2::bindings::Proxy),
    V03(p3::bindings::Service),
}

async fn instantiate(store: &mut Store<State>, pre: &Pre) -> wasmtime::Result<Instance> {
    Ok(match pre {
        Pre::V02(pre) => Instance::V02(pre.instantiate_async(store).await?),
        Pre::V03(pre) => Instance::V03(pre.instantiate_async(store).await?),
    })
}

async fn handle(
    store: &mut Store<State>,
    pre: &Pre,
    request: Request<WasiBody>,
    head: Head,
) -> wasmtime::Result<()> {
    match instantiate(store, pre).await? {
        Instance::V02(proxy) => handle_02(store, &proxy, request, head).await,
        Instance::V03(service) => {
            let handling = async |accessor: &Accessor<State>| {
                handle_03(accessor, &service, request, head).await
            };
            store.run_concurrent(handling).await?
        }
    }
}

async fn handle_02(
    store: &mut Store<State>,
    proxy: &p2::bindings::Proxy,
    request: Request<WasiBody>,
    head: Head,
) -> wasmtime::Result<()> {
    let scheme = match request.uri().scheme_str() {
        Some("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let mut view = store.data_mut().http();
    let request = view.new_incoming_request(scheme, request)?;
    let answer = view.new_response_outparam_from_callback(move |answer| {
        let answer = answer.map_err(|code| FailureKind::Error(format!("{code:?}")));
        // A client that has gone does not want it.
        drop(head.send(answer));
    })?;
    let handler = proxy.wasi_http_incoming_handler();
    handler.call_handle(store, request, answer).await
}

async fn handle_03(
    accessor: &Accessor<State>,
    service: &p3::bindings::Service,
    request: Request<WasiBody>,
    head: Head,
) -> wasmtime::Result<()> {
    let request = accessor.with(|mut store| {
        let (request, _) = p3::Request::from_http(store.data_mut().http().hooks, request);
        request
    });
    let answer = match service.handle(accessor, request).await? {
        Ok(response) => Ok(accessor.with(|store| response.into_http(store, async { Ok(()) }))?),
        Err(code) => Err(FailureKind::Error(format!("{code:?}"))),
    };
    drop(head.send(answer));
    // What it still does for its body or beside it.
    std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
    Ok(())
}

/// Tells a guest out of memory from one that trapped for another reason.
fn explain(error: &wasmtime::Error, store: &Store<State>) -> FailureKind {
    let memory = &store.data().memory;
    match memory.exceeded {
        true => FailureKind::Memory(memory.bytes),
        false => FailureKind::Trap {
            message: format!("{error:#}"),
        },
    }
}
