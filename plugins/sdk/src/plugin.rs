use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{ConfigErrors, Exchange, Failure, Request, RequestVerdict, Response, ResponseVerdict};

/// A plugin: its configuration and what it makes of it. Hooks are traits of their own; [`export!`](crate::export)
/// names those the component is to have.
///
/// The host keeps one or several instances, each in a sandbox of its own, and calls hooks one at a time in each. State
/// that changes goes into a `Cell` or `RefCell`; it is not shared between instances.
pub trait Plugin: Sized + 'static {
    /// The table `[plugin.NAME] config`. Derive `Deserialize` with `rename_all = "kebab-case"` and
    /// `deny_unknown_fields`, so that a misspelt key is an error. [`NoConfig`] if there is nothing to configure.
    type Config: DeserializeOwned;

    /// Makes the plugin from its configuration. Called once per instance, never while a request waits for an instance
    /// that already exists, so this is the place for costly preparation (limit: the plugin's `limits.start`, 5 s).
    ///
    /// # Errors
    ///
    /// Every mistake found, not only the first; the host points at each key in the TOML. What the type alone rules out
    /// has been reported before this is called.
    fn new(config: Self::Config) -> Result<Self, ConfigErrors>;

    /// JSON Schema (draft 2020-12) of the configuration, for editors and documentation; empty for none. Where the
    /// configuration derives [`ConfigSchema`](crate::ConfigSchema), it is [`schema_of::<Config>()`](crate::schema_of).
    fn config_schema() -> String {
        String::new()
    }
}

/// A plugin that looks at requests.
pub trait RequestHook: Plugin {
    /// Called once per exchange, in the order in which the route lists its plugins, before a connection to the upstream
    /// is chosen (limit: the plugin's `limits.deadline`, 50 ms).
    ///
    /// # Errors
    ///
    /// A failure ends the exchange with 500, or skips the plugin with `on-failure = "open"`.
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure>;
}

/// A plugin that looks at responses.
pub trait ResponseHook: Plugin {
    /// Called once per exchange, in the reverse of the order in which the route lists its plugins, for the upstream's
    /// responses, for replies of later plugins and for the proxy's own 502, 503 and 504 (limit: the plugin's
    /// `limits.deadline`, 50 ms).
    ///
    /// # Errors
    ///
    /// A failure ends the exchange with 500, or skips the plugin with `on-failure = "open"`.
    fn on_response(
        &self,
        exchange: &Exchange,
        request: &Request,
        response: &mut Response,
    ) -> Result<ResponseVerdict, Failure>;
}

/// The configuration of a plugin that has none: any key is an error.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}
