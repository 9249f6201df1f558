//! What guests do with the heads of the current exchange: the imports `request` and `response`.
//!
//! Hooks call these more than all others. What `bindgen!` makes of an import copies each string and list that a guest
//! passes; these look at them where they lie, in the guest's memory. wasmtime compares their types with those that a
//! component imports, when it is loaded.

use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use wasmtime::component::{Linker, LinkerInstance, WasmList, WasmStr};
use wasmtime::{Result, StoreContextMut};

use crate::CONTRACT_VERSION;
use crate::bindings::types::HeadError;
use crate::component::CONTRACT;
use crate::exchange::HeadLimits;
use crate::head::{self, Edit};
use crate::imports::{all, first, is_path_with_query, names};
use crate::instance::State;

type Store<'a> = StoreContextMut<'a, State>;
type Edited = Result<(Result<(), HeadError>,)>;

/// Adds both.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut request = linker.instance(&interface("request"))?;
    request_line(&mut request)?;
    fields(
        &mut request,
        State::request_fields,
        State::request_fields_mut,
    )?;
    let mut response = linker.instance(&interface("response"))?;
    response_line(&mut response)?;
    fields(
        &mut response,
        State::response_fields,
        State::response_fields_mut,
    )
}

fn interface(name: &str) -> String {
    format!("{CONTRACT}{name}@{CONTRACT_VERSION}")
}

/// All of a request's head but its fields.
fn request_line(of: &mut LinkerInstance<'_, State>) -> Result<()> {
    of.func_wrap("method", |store: Store<'_>, ()| {
        let method = &store.data().exchange()?.request.method;
        Ok((method.as_str().to_owned(),))
    })?;
    of.func_wrap("authority", |store: Store<'_>, ()| {
        let host = store.data().request_fields()?.get(header::HOST);
        let host = host.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Ok((host.unwrap_or_default(),))
    })?;
    of.func_wrap("set-authority", set_authority)?;
    of.func_wrap("use-upstream-authority", |mut store: Store<'_>, ()| {
        store.data_mut().request_mut()?.use_upstream_authority = true;
        Ok(())
    })?;
    of.func_wrap("path-with-query", |store: Store<'_>, ()| {
        let path = store.data().exchange()?.request.uri.path_and_query();
        Ok((path.map_or("/", PathAndQuery::as_str).to_owned(),))
    })?;
    of.func_wrap("set-path-with-query", set_path_with_query)?;
    of.func_wrap("upgrade", |store: Store<'_>, ()| {
        Ok((store.data().facts()?.upgrade.clone(),))
    })
}

fn set_authority(mut store: Store<'_>, (authority,): (WasmStr,)) -> Edited {
    store.data_mut().request_mut()?;
    let authority = authority.to_str(&store)?;
    if !head::is_authority(&authority) {
        return Ok((Err(HeadError::InvalidValue),));
    }
    let value = HeaderValue::from_str(&authority).expect("an authority is visible ASCII");
    let exchange = store.data_mut().request_mut()?;
    exchange.request.headers.insert(header::HOST, value);
    exchange.use_upstream_authority = false;
    Ok((Ok(()),))
}

fn set_path_with_query(mut store: Store<'_>, (path,): (WasmStr,)) -> Edited {
    let limit = store.data_mut().request_mut()?.limits.size;
    let path = path.to_str(&store)?;
    if path.len() > limit {
        return Ok((Err(HeadError::TooLarge),));
    }
    if !is_path_with_query(&path) {
        return Ok((Err(HeadError::InvalidValue),));
    }
    let Ok(uri) = Uri::try_from(&*path) else {
        return Ok((Err(HeadError::InvalidValue),));
    };
    store.data_mut().request_mut()?.request.uri = uri;
    Ok((Ok(()),))
}

/// All of a response's head but its fields.
fn response_line(of: &mut LinkerInstance<'_, State>) -> Result<()> {
    of.func_wrap("status", |store: Store<'_>, ()| {
        Ok((store.data().response()?.status.as_u16(),))
    })?;
    of.func_wrap("set-status", set_status)?;
    of.func_wrap("end-connection", |mut store: Store<'_>, ()| {
        let (response, _) = store.data_mut().response_mut()?;
        response.end_connection = response.status != StatusCode::SWITCHING_PROTOCOLS;
        Ok(())
    })
}

fn set_status(mut store: Store<'_>, (status,): (u16,)) -> Edited {
    let (response, _) = store.data_mut().response_mut()?;
    let legal = (200..=599).contains(&status) && response.status != StatusCode::SWITCHING_PROTOCOLS;
    match StatusCode::from_u16(status) {
        Ok(status) if legal => response.status = status,
        _ => return Ok((Err(HeadError::InvalidValue),)),
    }
    Ok((Ok(()),))
}

/// The functions on fields, which are the same for both heads.
fn fields(
    of: &mut LinkerInstance<'_, State>,
    read: impl for<'a> Fn(&'a State) -> Result<&'a HeaderMap> + Copy + Send + Sync + 'static,
    write: impl for<'a> Fn(&'a mut State) -> Result<(&'a mut HeaderMap, HeadLimits)>
    + Copy
    + Send
    + Sync
    + 'static,
) -> Result<()> {
    of.func_wrap("header", move |store: Store<'_>, (name,): (WasmStr,)| {
        let headers = read(store.data())?;
        Ok((first(headers, &name.to_str(&store)?),))
    })?;
    of.func_wrap(
        "header-values",
        move |store: Store<'_>, (name,): (WasmStr,)| {
            let headers = read(store.data())?;
            Ok((all(headers, &name.to_str(&store)?),))
        },
    )?;
    of.func_wrap("header-names", move |store: Store<'_>, ()| {
        Ok((names(read(store.data())?),))
    })?;
    for (name, edit) in [("set-header", Edit::Set), ("append-header", Edit::Append)] {
        of.func_wrap(
            name,
            move |mut store: Store<'_>, (name, value): (WasmStr, WasmList<u8>)| -> Edited {
                // What the phase does not allow is a trap, whatever the arguments.
                write(store.data_mut())?;
                let field = head::field(&name.to_str(&store)?, value.as_le_slice(&store));
                let (headers, limits) = write(store.data_mut())?;
                Ok((field.and_then(|field| head::put(headers, limits, edit, field)),))
            },
        )?;
    }
    of.func_wrap(
        "remove-header",
        move |mut store: Store<'_>, (name,): (WasmStr,)| -> Edited {
            write(store.data_mut())?;
            let name = head::writable_name(&name.to_str(&store)?);
            let (headers, _) = write(store.data_mut())?;
            Ok((name.map(|name| drop(headers.remove(name))),))
        },
    )
}

impl State {
    fn request_fields(&self) -> Result<&HeaderMap> {
        Ok(&self.exchange()?.request.headers)
    }

    fn request_fields_mut(&mut self) -> Result<(&mut HeaderMap, HeadLimits)> {
        let exchange = self.request_mut()?;
        Ok((&mut exchange.request.headers, exchange.limits))
    }

    fn response_fields(&self) -> Result<&HeaderMap> {
        Ok(&self.response()?.headers)
    }

    fn response_fields_mut(&mut self) -> Result<(&mut HeaderMap, HeadLimits)> {
        let (response, limits) = self.response_mut()?;
        Ok((&mut response.headers, limits))
    }
}
