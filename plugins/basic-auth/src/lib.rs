//! `basic-auth`: user names and passwords, by HTTP's oldest scheme (RFC 7617).

mod credentials;
mod users;

use std::cell::RefCell;

use serde::Deserialize;
use witgate_plugin::{
    ConfigErrors, ConfigSchema, Exchange, Failure, Plugin, Reply, Request, RequestHook,
    RequestVerdict, schema_of,
};

use crate::credentials::Credentials;
use crate::users::Users;

/// The table `[plugin.NAME] config`; at least one of `users` and `htpasswd`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Who is let in.
    #[serde(default)]
    users: Vec<User>,
    /// Users as `htpasswd -B` writes them: a line `NAME:HASH` for each. `"${file:/etc/witgate/htpasswd}"` takes them from a
    /// file.
    htpasswd: Option<String>,
    /// What the password is for, as browsers show it: printable ASCII without `"` and `\`; `restricted` unless set.
    realm: Option<String>,
    /// Send `Authorization` on to the upstream.
    #[serde(default)]
    keep_header: bool,
}

/// One of `users`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct User {
    /// 1 to 128 characters without `:`; anybody who reads the log can read it.
    name: String,
    /// `$2y$…` by bcrypt, or `{SHA256}…` for long random passwords.
    hash: String,
}

/// The plugin.
pub struct BasicAuth {
    users: RefCell<Users>,
    challenge: String,
    keep_header: bool,
}

impl Plugin for BasicAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let mut users = Users::default();
        for (at, user) in config.users.iter().enumerate() {
            if let Err((key, mistake)) = users.add(&user.name, &user.hash) {
                errors.push(format!("users.{at}.{key}"), mistake);
            }
        }
        for (line, text) in config
            .htpasswd
            .iter()
            .flat_map(|text| text.lines())
            .enumerate()
        {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let added = match text.split_once(':') {
                Some((name, hash)) => users.add(name, hash).map_err(|(_, mistake)| mistake),
                None => Err("is not `NAME:HASH`"),
            };
            if let Err(mistake) = added {
                errors.push("htpasswd", format!("line {} {mistake}", line + 1));
            }
        }
        if errors.is_empty() && users.is_empty() {
            errors.push(
                "",
                "has no user, so that nobody would be let in; add `users` or `htpasswd`",
            );
        }
        let realm = config.realm.unwrap_or_else(|| "restricted".to_owned());
        if !realm
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\')
        {
            errors.push("realm", "must be printable ASCII without `\"` and `\\`");
        }
        errors.into_result(Self {
            users: RefCell::new(users),
            challenge: format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
            keep_header: config.keep_header,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl RequestHook for BasicAuth {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        let values = request.header_values("authorization");
        let Some(credentials) = Credentials::of(&values) else {
            return Ok(self.refuse());
        };
        if !self.users.borrow_mut().know(&credentials) {
            exchange.set_attribute("refused", "password")?;
            return Ok(self.refuse());
        }
        exchange.set_attribute("user", &credentials.name)?;
        if !self.keep_header {
            request.remove_header("authorization")?;
        }
        Ok(RequestVerdict::Next)
    }
}

impl BasicAuth {
    fn refuse(&self) -> RequestVerdict {
        let reply = Reply::new(401).header("www-authenticate", self.challenge.clone());
        RequestVerdict::Answer(reply.json(r#"{"error":"invalid password"}"#))
    }
}

witgate_plugin::export!(BasicAuth: request);
