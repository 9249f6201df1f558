//! What stands behind a middleware: the handler that it imports.

use http::{Request, Response};
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi_http::p3;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use super::state::State;

/// The interface that a middleware imports; any 0.3 is linked to it.
const HANDLER: &str = "wasi:http/handler@0.3.0";

/// A request that a middleware passes on.
#[derive(Debug)]
pub struct Onward {
    /// The URI is in absolute form, `Host` is there.
    pub request: Request<WasiBody>,
    /// Hears the response. Dropped, there is none.
    pub answer: oneshot::Sender<Response<WasiBody>>,
}

/// Where the requests come out that a middleware passes on. It may pass on any number of them; those that it passes on
/// at once wait for each other, at most 16 of them.
pub type Next = mpsc::Receiver<Onward>;

/// Requests of one middleware that may wait to be passed on. The host keeps them, outside of what limits the instance.
pub(super) const MOST_WAITING: usize = 16;

/// Offers the handler to every component; one that is not a middleware never asks for it.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker
        .instance(HANDLER)?
        .func_wrap_concurrent("handle", |store, (request,)| {
            Box::pin(async move { Ok((handle(store, request).await?,)) })
        })
}

async fn handle(
    store: &Accessor<State>,
    request: Resource<p3::Request>,
) -> wasmtime::Result<Result<Resource<p3::Response>, ErrorCode>> {
    let (answer, answered) = oneshot::channel();
    let passed_on = store.with(|mut store| {
        let request = store.data_mut().http().table.delete(request)?;
        let next = store.data_mut().next.clone();
        match request.into_http(&mut store, async { Ok(()) }) {
            Ok((request, _)) => {
                let onward = Onward { request, answer };
                let Some(next) = next else {
                    return Ok(Ok(false));
                };
                Ok(match next.try_send(onward) {
                    Ok(()) => Ok(true),
                    Err(mpsc::error::TrySendError::Closed(_)) => Ok(false),
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        Err(ErrorCode::ConnectionLimitReached)
                    }
                })
            }
            Err(error) => error.downcast().map(Err),
        }
    })?;
    match passed_on {
        Ok(true) => {}
        // It is the end of a route, or has answered already.
        Ok(false) => return Ok(Err(ErrorCode::DestinationNotFound)),
        Err(refused) => return Ok(Err(refused)),
    }
    let Ok(response) = answered.await else {
        return Ok(Err(ErrorCode::ConnectionTerminated));
    };
    store.with(|mut store| {
        let view = store.data_mut().http();
        let (response, _) = p3::Response::from_http(view.hooks, response);
        Ok(Ok(view.table.push(response)?))
    })
}
