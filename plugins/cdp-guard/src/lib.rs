//! `cdp-guard`: says which commands of the Chrome DevTools Protocol a client may send.
//!
//! A command that may not pass is answered here, by an error as the browser itself would send it. What the browser sends
//! is not looked at.

mod command;
mod rule;
mod url;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use witgate_plugin::{
    CloseReason, ConfigErrors, ConfigSchema, Direction, Exchange, Failure, Inspection, Message,
    MessageHook, MessageVerdict, Messages, Plugin, Request, Response, info, schema_of, warn,
};

use crate::command::{Call, Command};
use crate::rule::{Rule, RuleConfig};

/// The table `[plugin.NAME] config`.
#[derive(Deserialize, ConfigSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The plugin that told clients apart: a `bearer-auth` before this one.
    tokens_of: Option<String>,
    /// What clients may do whose token is not named below. Without it nothing where tokens are told apart, so that one who
    /// is not known, by a slip in the configuration too, is nobody.
    default: Option<RuleConfig>,
    /// By the name of a token.
    #[serde(default)]
    rules: BTreeMap<String, RuleConfig>,
    /// Which commands leave a line in the log, beside those that are refused.
    #[serde(default)]
    audit: Audit,
}

#[derive(Deserialize, ConfigSchema, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Audit {
    /// None.
    Refused,
    /// All but those of the domains that clients call all the time.
    #[default]
    Notable,
    /// All.
    All,
}

/// Domains of which a client at work sends many commands a second: input, the layout and content of pages, scripts.
const FREQUENT: [&str; 9] = [
    "Accessibility",
    "CSS",
    "DOM",
    "DOMSnapshot",
    "Debugger",
    "Fetch",
    "Input",
    "Overlay",
    "Runtime",
];

/// Refusals of one connection that are logged one by one. A client that tries many must not drown the lines about others.
const LOGGED: u32 = 20;

/// From then on, refusals for each line.
const SUMMARIZED: u32 = 100;

/// Refusals that one connection gets before it is closed: a client that errs stops long before.
const MAX_REFUSALS: u32 = 1_000;

/// The plugin.
pub struct CdpGuard {
    tokens_of: Option<String>,
    default: Rc<Rule>,
    rules: BTreeMap<String, Rc<Rule>>,
    audit: Audit,
}

impl Plugin for CdpGuard {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        if config.tokens_of.is_none() && !config.rules.is_empty() {
            errors.push(
                "rules",
                "need `tokens-of`: the name of the plugin before this one that knows the token",
            );
        }
        let tells_apart = config.tokens_of.is_some() || !config.rules.is_empty();
        let default = config.default.unwrap_or_else(|| match tells_apart {
            true => RuleConfig::nothing(),
            false => RuleConfig::default(),
        });
        let default = Rule::new(default, "default", &mut errors).into();
        let rules = config.rules.into_iter().map(|(token, rule)| {
            let rule = Rule::new(rule, &format!("rules.{token}"), &mut errors);
            (token, Rc::new(rule))
        });
        let rules = rules.collect();
        errors.into_result(Self {
            tokens_of: config.tokens_of,
            default,
            rules,
            audit: config.audit,
        })
    }

    fn config_schema() -> String {
        schema_of::<Config>()
    }
}

impl MessageHook for CdpGuard {
    fn on_upgrade(
        &self,
        exchange: &Exchange,
        _: &Request,
        _: &Response,
    ) -> Result<Option<Inspection>, Failure> {
        let token = self
            .tokens_of
            .as_ref()
            .and_then(|plugin| exchange.attribute(&format!("{plugin}.token")));
        if let (Some(plugin), None) = (&self.tokens_of, &token) {
            warn!("`{plugin}` has named no token for this client, so `default` holds");
        }
        let rule = token.as_ref().and_then(|token| self.rules.get(token));
        Ok(Some(Inspection::to_upstream(Client {
            rule: rule.unwrap_or(&self.default).clone(),
            token: token.unwrap_or_default(),
            audit: self.audit,
            refusals: 0,
        })))
    }
}

/// One client's connection.
struct Client {
    rule: Rc<Rule>,
    /// The token's name; empty when it is not known.
    token: String,
    audit: Audit,
    refusals: u32,
}

impl Messages for Client {
    fn on_message(&mut self, _: Direction, message: Message) -> Result<MessageVerdict, Failure> {
        let text = match message {
            Message::Text(text) => text,
            // The protocol has text only.
            _ => return Ok(self.refuse_unread("it is binary")),
        };
        let command = match Command::read(&text) {
            Ok(command) => command,
            Err(why) => return Ok(self.refuse_unread(&why.to_string())),
        };
        if self.rule.pretends(&command.calls) {
            return Ok(self.pretend(command));
        }
        let mut calls = command.calls.iter();
        let refused = calls.find_map(|call| Some((call, self.rule.refuses(call)?)));
        if let Some((call, why)) = refused {
            let method = shown(&call.method);
            let line = format!("refused {method}{why}{}", self.of(&command));
            let message = format!("'{method}' is not allowed here{why}");
            let reply = reply(Some(command.id), command.session, -32000, &message);
            return Ok(self.refuse(|| warn!("{line}"), &line, reply));
        }
        self.note(&command);
        Ok(MessageVerdict::Forward)
    }
}

impl Client {
    fn refuse_unread(&mut self, why: &str) -> MessageVerdict {
        let line = format!("refused what is no command: {why}{}", self.client());
        let reply = reply(None, None, -32700, &format!("not a command: {why}"));
        self.refuse(|| warn!("{line}"), &line, reply)
    }

    /// Says that it was done. The browser says no more when it has done such a thing.
    fn pretend(&mut self, command: Command<'_>) -> MessageVerdict {
        let method = command.calls.first().map_or("", |call| &call.method);
        let line = format!("pretended {}{}", shown(method), self.of(&command));
        let done = written(&DoneReply {
            id: command.id,
            result: Nothing {},
            session_id: command.session,
        });
        self.refuse(|| info!("{line}"), &line, done)
    }

    /// Counts what does not pass, logs it as long as there is little, and ends a connection that has too much of it.
    fn refuse(&mut self, log: impl FnOnce(), line: &str, reply: MessageVerdict) -> MessageVerdict {
        self.refusals += 1;
        if self.refusals > MAX_REFUSALS {
            let client = self.client();
            warn!("closed a connection after {MAX_REFUSALS} refused commands{client}");
            return MessageVerdict::Close(CloseReason::new(1008, "too many refused commands"));
        }
        if self.refusals <= LOGGED {
            log();
        } else if (self.refusals - LOGGED).is_multiple_of(SUMMARIZED) {
            warn!(
                "refused {SUMMARIZED} more commands{}; the last: {line}",
                self.client()
            );
        }
        reply
    }

    /// The audit's line about a command that passes.
    fn note(&self, command: &Command<'_>) {
        for Call { method, .. } in &command.calls {
            let domain = method.split_once('.').map_or("", |(domain, _)| domain);
            let is_noted = match self.audit {
                Audit::Refused => false,
                Audit::Notable => !FREQUENT.contains(&domain),
                Audit::All => true,
            };
            if is_noted {
                info!("allowed {}{}", shown(method), self.of(command));
            }
        }
    }

    /// Never parameters: they hold what people type.
    fn of(&self, command: &Command<'_>) -> String {
        let session = command.session.as_deref();
        let session = session.map_or(String::new(), |session| {
            format!(", session {}", shown(session))
        });
        format!("{}, id {}{session}", self.client(), command.id)
    }

    fn client(&self) -> String {
        match self.token.as_str() {
            "" => String::new(),
            token => format!(", token {token}"),
        }
    }
}

/// As much of what a client wrote as a log line should hold.
fn shown(text: &str) -> Cow<'_, str> {
    const MOST: usize = 100;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// What the protocol says of a command that has no result.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DoneReply<'a> {
    id: i64,
    result: Nothing,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Nothing {}

/// An error in the protocol's own shape.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorReply<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i64>,
    error: ErrorBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: i32,
    message: &'a str,
}

fn reply(
    id: Option<i64>,
    session_id: Option<Cow<'_, str>>,
    code: i32,
    message: &str,
) -> MessageVerdict {
    let error = ErrorBody { code, message };
    let reply = ErrorReply {
        id,
        error,
        session_id,
    };
    written(&reply)
}

fn written(reply: &impl Serialize) -> MessageVerdict {
    let text = serde_json::to_string(reply).expect("numbers and strings can be written as JSON");
    MessageVerdict::Reply(Message::Text(text))
}

witgate_plugin::export!(CdpGuard: message);
