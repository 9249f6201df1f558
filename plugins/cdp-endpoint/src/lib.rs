//! `cdp-endpoint`: a WebSocket URL for Chromium that stays the same when the browser's own changes.

mod browser;
mod path;

use browser::Browser;
use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Reply, Request, RequestHook,
    RequestVerdict, schema_of, warn,
};

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Where Chromium's DevTools are: `http://127.0.0.1:6667`.
    browser: String,
    /// Also send those to the current browser who ask for another one by its id.
    #[serde(default)]
    any_browser_id: bool,
}

/// The plugin.
pub struct CdpEndpoint {
    browser: Browser,
    any_browser_id: bool,
}

impl Plugin for CdpEndpoint {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        Ok(Self {
            browser: Browser::at(&config.browser)
                .map_err(|why| ConfigErrors::at("browser", why))?,
            any_browser_id: config.any_browser_id,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl RequestHook for CdpEndpoint {
    fn on_request(&self, _: &Exchange, request: &mut Request) -> Result<RequestVerdict, Failure> {
        if request.upgrade().as_deref() != Some("websocket") {
            return Ok(RequestVerdict::Next);
        }
        let target = request.path_with_query();
        let (path, query) = match target.find('?') {
            Some(at) => target.split_at(at),
            None => (target.as_str(), ""),
        };
        let wanted =
            path::is_endpoint(path) || (self.any_browser_id && path::is_of_a_browser(path));
        if !wanted {
            return Ok(RequestVerdict::Next);
        }
        match self.browser.current_path() {
            Ok(current) => {
                request.set_path_with_query(&format!("{current}{query}"))?;
                Ok(RequestVerdict::Next)
            }
            Err(why) => {
                warn!("the browser cannot be found: {why}");
                // A supervised browser is back within seconds.
                let reply = Reply::new(503).header("retry-after", "1");
                Ok(RequestVerdict::Answer(
                    reply.text("the browser is not ready\n"),
                ))
            }
        }
    }
}

witgate_plugin::export!(CdpEndpoint: request);
