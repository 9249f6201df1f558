//! What the host keeps for one instance.

use std::sync::Arc;

use tokio::sync::mpsc;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::onward::Onward;
use super::outgoing::{Hooks, Outgoing};
use super::plugin::HttpPlugin;
use super::worker_plugin::About;
use crate::keyvalue;
use crate::log_budget::LogShare;
use crate::memory_limit::MemoryLimit;
use crate::stdio::LogStream;
use crate::wasi::{self, WasiGrant};

pub(crate) struct State {
    pub(crate) memory: MemoryLimit,
    pub(crate) grant: Arc<WasiGrant>,
    /// Where a middleware's requests go on to; none for the end of a route.
    pub(crate) next: Option<mpsc::Sender<Onward>>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    keyvalue: keyvalue::Lent,
    table: ResourceTable,
}

impl State {
    pub(crate) fn new(
        plugin: &HttpPlugin,
        about: &About,
        outgoing: Outgoing,
        next: Option<mpsc::Sender<Onward>>,
    ) -> Result<Self, String> {
        let limits = plugin.limits();
        let wasi = plugin.wasi().clone();
        let log = LogShare::new(limits.log_lines);
        let log = |stream| LogStream {
            plugin: plugin.name().clone(),
            stream,
            log: log.clone(),
            exchange: Some((about.route.clone(), about.id.clone())),
        };
        let context = wasi.context(log, |_| {})?;
        Ok(Self {
            memory: MemoryLimit::new(limits.memory),
            grant: wasi,
            next,
            wasi: context,
            http: WasiHttpCtx::new(),
            hooks: Hooks::new(outgoing),
            keyvalue: keyvalue::Lent::new(plugin.keyvalue().cloned()),
            table: wasi::table(),
        })
    }

    /// What the component keeps by `wasi:keyvalue`. Each call may wait as long as the store's `timeout`.
    pub(crate) fn keyvalue(&mut self) -> keyvalue::standard::View<'_> {
        self.keyvalue.begin();
        keyvalue::standard::View {
            lent: &mut self.keyvalue,
            table: &mut self.table,
            stopwatch: None,
            out_of_place: None,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.hooks,
        }
    }
}
