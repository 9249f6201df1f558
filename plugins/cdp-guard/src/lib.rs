//! `cdp-guard`: says which commands of the Chrome DevTools Protocol a client may send.
//!
//! A command that may not pass is answered here, by an error as the browser itself would send it. What the browser sends
//! is not looked at.

mod command;
mod rule;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use witgate_plugin::{
    ConfigErrors, Direction, Exchange, Failure, Inspection, Message, MessageHook, MessageVerdict,
    Messages, Plugin, Request, Response, info, warn,
};

use crate::command::Command;
use crate::rule::{Rule, RuleConfig};

/// The table `[plugin.NAME] config`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The plugin that told clients apart: a `bearer-auth` before this one.
    tokens_of: Option<String>,
    /// What clients may do whose token is not named below.
    #[serde(default)]
    default: RuleConfig,
    /// By the name of a token.
    #[serde(default)]
    rules: BTreeMap<String, RuleConfig>,
    /// Which commands leave a line in the log, beside those that are refused.
    #[serde(default)]
    audit: Audit,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Audit {
    /// None.
    #[default]
    Refused,
    /// All but those of the domains that clients call all the time.
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
        let default = Rule::new(config.default, "default", &mut errors).into();
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
        let rule = token.as_ref().and_then(|token| self.rules.get(token));
        Ok(Some(Inspection::to_upstream(Client {
            rule: rule.unwrap_or(&self.default).clone(),
            token: token.unwrap_or_default(),
            audit: self.audit,
        })))
    }
}

/// One client's connection.
struct Client {
    rule: Rc<Rule>,
    /// The token's name; empty when it is not known.
    token: String,
    audit: Audit,
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
        let refused = command
            .methods
            .iter()
            .find(|method| !self.rule.allows(method));
        if let Some(method) = refused {
            warn!("refused {}{}", shown(method), self.of(&command));
            let message = format!("'{}' is not allowed here", shown(method));
            return Ok(reply(Some(command.id), command.session, -32000, &message));
        }
        self.note(&command);
        Ok(MessageVerdict::Forward)
    }
}

impl Client {
    fn refuse_unread(&self, why: &str) -> MessageVerdict {
        warn!("refused what is no command: {why}{}", self.client());
        reply(None, None, -32700, &format!("not a command: {why}"))
    }

    /// The audit's line about a command that passes.
    fn note(&self, command: &Command<'_>) {
        for method in &command.methods {
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
    let text = serde_json::to_string(&reply).expect("numbers and strings can be written as JSON");
    MessageVerdict::Reply(Message::Text(text))
}

witgate_plugin::export!(CdpGuard: message);
