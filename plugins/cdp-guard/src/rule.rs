//! Which methods a client may call.

use std::collections::BTreeSet;

use serde::Deserialize;
use witgate_plugin::{ConfigErrors, ConfigSchema};

use crate::command::Call;
use crate::url::Urls;

/// What ends the browser, takes from everybody what is shared, or opens a way around the proxy. `README.md` says why each
/// is here.
const SHARED_PROFILE: [&str; 28] = [
    "Browser.close",
    "Browser.crash",
    "Browser.crashGpuProcess",
    "Browser.executeBrowserCommand",
    "Browser.resetPermissions",
    "Extensions.clearStorageItems",
    "Extensions.loadUnpacked",
    "Extensions.removeStorageItems",
    "Extensions.uninstall",
    "Memory.forciblyPurgeJavaScriptMemory",
    "Memory.simulatePressureNotification",
    "Network.clearBrowserCache",
    "Network.clearBrowserCookies",
    "Network.deleteDeviceBoundSession",
    "PWA.install",
    "PWA.uninstall",
    "Page.crash",
    "Storage.clearCookies",
    "Storage.clearDataForOrigin",
    "Storage.clearDataForStorageKey",
    "Storage.clearPrivateVerificationTokens",
    "Storage.clearTrustTokens",
    "Storage.deletePrivateVerificationToken",
    "Storage.deleteStorageBucket",
    "Target.exposeDevToolsProtocol",
    "Target.openDevTools",
    "Tethering.bind",
    "Tethering.unbind",
];

/// Give pages a binding that sends commands past the proxy, so that no other refusal would hold.
const WAYS_AROUND: [&str; 2] = ["Target.exposeDevToolsProtocol", "Target.openDevTools"];

/// Stands in a list for [`SHARED_PROFILE`].
const SHARED_PROFILE_NAME: &str = "shared-profile";

/// `{ allow = [...], deny = [...], pretend = [...], urls = "web" }`
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RuleConfig {
    /// Methods that may be called.
    #[serde(default = "everything")]
    allow: Vec<String>,
    /// Of those, the ones that may not.
    #[serde(default = "shared_profile")]
    deny: Vec<String>,
    /// Methods that are answered as if they had been carried out, and reach nobody.
    #[serde(default)]
    pretend: Vec<String>,
    /// Which pages may be opened by their address.
    #[serde(default)]
    urls: Urls,
}

fn everything() -> Vec<String> {
    vec!["*".into()]
}

fn shared_profile() -> Vec<String> {
    vec![SHARED_PROFILE_NAME.into()]
}

impl Default for RuleConfig {
    fn default() -> Self {
        Self {
            allow: everything(),
            deny: shared_profile(),
            pretend: Vec::new(),
            urls: Urls::default(),
        }
    }
}

impl RuleConfig {
    /// Where clients are told apart, what those may do of whom nothing is said.
    pub(crate) fn nothing() -> Self {
        Self {
            allow: Vec::new(),
            ..Self::default()
        }
    }
}

/// What one client may call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    allow: Methods,
    deny: Methods,
    pretend: BTreeSet<String>,
    urls: Urls,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Methods {
    all: bool,
    /// `Page` for `Page.*`
    domains: BTreeSet<String>,
    methods: BTreeSet<String>,
}

impl Rule {
    /// Reads a rule that stands at `path` of the configuration.
    pub(crate) fn new(config: RuleConfig, path: &str, errors: &mut ConfigErrors) -> Self {
        let mut read = |list: Vec<String>, key: &str| {
            let mut methods = Methods::default();
            for (at, pattern) in list.iter().enumerate() {
                if let Err(message) = methods.add(pattern) {
                    errors.push(format!("{path}.{key}.{at}"), message);
                }
            }
            methods
        };
        let (allow, deny) = (read(config.allow, "allow"), read(config.deny, "deny"));
        for (at, method) in config.pretend.iter().enumerate() {
            if !is_method(method) {
                let message = format!("`{method}` is no method: write `Browser.close`");
                errors.push(format!("{path}.pretend.{at}"), message);
            }
        }
        let mut rule = Self {
            allow,
            deny,
            pretend: config.pretend.into_iter().collect(),
            urls: config.urls,
        };
        if !rule.is_unrestricted() {
            rule.deny.methods.extend(WAYS_AROUND.map(str::to_owned));
        }
        rule
    }

    /// Whether a command may not pass, and what the words about it end in. A method in both lists may not.
    pub(crate) fn refuses(&self, call: &Call) -> Option<&'static str> {
        let denied = self.deny.has(&call.method) || self.pretend.contains(&call.method);
        if !self.allow.has(&call.method) || denied {
            return Some("");
        }
        let url = call.url.as_deref()?;
        (!self.urls.allow(url)).then_some(" with this `url`")
    }

    /// Whether a command is answered as if it had been carried out. That takes precedence over `allow` and `deny`; one
    /// within another command has no answer of its own, and is refused.
    pub(crate) fn pretends(&self, calls: &[Call]) -> bool {
        matches!(calls, [call] if self.pretend.contains(&call.method))
    }

    fn is_unrestricted(&self) -> bool {
        self.allow.all
            && self.deny == Methods::default()
            && self.pretend.is_empty()
            && self.urls == Urls::Any
    }
}

impl Methods {
    fn add(&mut self, pattern: &str) -> Result<(), String> {
        if pattern == "*" {
            self.all = true;
        } else if pattern == SHARED_PROFILE_NAME {
            self.methods.extend(SHARED_PROFILE.map(str::to_owned));
        } else {
            let parts = pattern
                .split_once('.')
                .filter(|(domain, _)| is_name(domain));
            match parts {
                Some((domain, "*")) => self.domains.insert(domain.into()),
                Some((_, method)) if is_name(method) => self.methods.insert(pattern.into()),
                _ => {
                    return Err(format!(
                        "`{pattern}` is no method: write `Browser.close`, `Browser.*`, `*` or `{SHARED_PROFILE_NAME}`"
                    ));
                }
            };
        }
        Ok(())
    }

    fn has(&self, method: &str) -> bool {
        let domain = method.split_once('.').map(|(domain, _)| domain);
        self.all
            || domain.is_some_and(|domain| self.domains.contains(domain))
            || self.methods.contains(method)
    }
}

fn is_method(text: &str) -> bool {
    text.split_once('.')
        .is_some_and(|(domain, method)| is_name(domain) && is_name(method))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
