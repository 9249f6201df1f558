//! A configured standard component: what all workers share of it.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;

use super::call;
use super::component::HttpComponent;
use super::outgoing::OutgoingGrant;
use super::state::State;
use crate::failure::FailureKind;
use crate::keyvalue::KeyValueGrant;
use crate::wasi::WasiGrant;

/// What one standard component may use up.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// From the request to the head of the response, whether it computes or waits.
    pub first_byte: Duration,
    /// Time of a processor that one exchange may take, from its instantiation to its end. Waiting does not count.
    pub processor: Duration,
    /// Bytes of all linear memories of one instance.
    pub memory: usize,
    /// Exchanges at once on each worker. 1024 more wait, as long as `first_byte` lasts.
    pub concurrency: usize,
    /// Lines a second of each exchange's standard output and error together that reach the log.
    pub log_lines: u32,
}

impl Default for HttpLimits {
    /// 30 s to the first byte, 10 s of a processor, 64 MiB, 64 exchanges at once, 100 lines.
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(30),
            processor: Duration::from_secs(10),
            memory: 64 << 20,
            concurrency: 64,
            log_lines: 100,
        }
    }
}

/// A standard component with its limits and grants, under the name that the operator gave it.
#[derive(Debug)]
pub struct HttpPlugin {
    name: Arc<str>,
    component: Arc<HttpComponent>,
    limits: HttpLimits,
    wasi: Arc<WasiGrant>,
    grant: Option<OutgoingGrant>,
    keyvalue: Option<KeyValueGrant>,
}

impl HttpPlugin {
    /// Puts one together, without anything of WASI and without leave to send requests.
    pub fn new(name: Arc<str>, component: Arc<HttpComponent>, limits: HttpLimits) -> Self {
        Self {
            name,
            component,
            limits,
            wasi: Arc::default(),
            grant: None,
            keyvalue: None,
        }
    }

    /// Lends it variables, directories, and what `wasi:config/store` says.
    #[must_use]
    pub fn with_wasi(mut self, grant: WasiGrant) -> Self {
        self.wasi = Arc::new(grant);
        self
    }

    /// Lets it send requests of its own. Without, every one is refused.
    #[must_use]
    pub fn with_outgoing(mut self, grant: OutgoingGrant) -> Self {
        self.grant = Some(grant);
        self
    }

    /// Lends it a store. Without, none can be opened.
    #[must_use]
    pub fn with_keyvalue(mut self, grant: KeyValueGrant) -> Self {
        self.keyvalue = Some(grant);
        self
    }

    /// Makes an instance and throws it away, so that a mistake is found before anything depends on the component.
    ///
    /// # Errors
    ///
    /// When the component traps or exceeds a limit while it is instantiated.
    pub async fn try_out(&self) -> Result<(), FailureKind> {
        call::try_out(self).await
    }

    /// The name in the operator's configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The component.
    pub fn component(&self) -> &Arc<HttpComponent> {
        &self.component
    }

    /// The limits.
    pub fn limits(&self) -> HttpLimits {
        self.limits
    }

    pub(crate) fn grant(&self) -> Option<&OutgoingGrant> {
        self.grant.as_ref()
    }

    pub(crate) fn keyvalue(&self) -> Option<&KeyValueGrant> {
        self.keyvalue.as_ref()
    }

    pub(crate) fn wasi(&self) -> &Arc<WasiGrant> {
        &self.wasi
    }

    pub(crate) fn store(&self, state: State) -> Store<State> {
        let http = match &self.component.pre {
            super::component::Pre::V02(pre) => pre.engine(),
            super::component::Pre::V03(pre) => pre.engine(),
        };
        let mut store = Store::new(http, state);
        store.limiter(|state| &mut state.memory);
        // It gives the thread back at every tick; how long it may run in all is counted where it is polled.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store
    }
}
