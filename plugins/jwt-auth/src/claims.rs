//! What a token says, and what it must (RFC 7519 §4.1).

use serde_json::{Map, Value};

/// The payload of a token whose signature is right.
pub(crate) struct Claims(Map<String, Value>);

/// What it must say.
pub(crate) struct Rules {
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Vec<String>,
    /// Seconds.
    pub(crate) leeway: f64,
    pub(crate) without_expiry: bool,
}

impl Claims {
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        match serde_json::from_slice(payload).ok()? {
            Value::Object(claims) => Some(Self(claims)),
            _ => None,
        }
    }

    /// A claim as one line of text; `None` for what is none.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let text = match self.0.get(name)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(is) => is.to_string(),
            Value::Array(list) => {
                let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
                texts?.join(",")
            }
            Value::Null | Value::Object(_) => return None,
        };
        (!text.is_empty() && !text.contains(char::is_control)).then_some(text)
    }

    /// `Err` for a claim that is there and no number.
    fn time(&self, name: &'static str) -> Result<Option<f64>, &'static str> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(name),
        }
    }
}

impl Rules {
    /// Checks the claims at a time in seconds since 1970. The error is the claim that is wrong.
    pub(crate) fn check(&self, claims: &Claims, now: f64) -> Result<(), &'static str> {
        match claims.time("exp")? {
            Some(expiry) if now >= expiry + self.leeway => return Err("exp"),
            None if !self.without_expiry => return Err("exp"),
            _ => {}
        }
        for name in ["nbf", "iat"] {
            if claims
                .time(name)?
                .is_some_and(|time| now < time - self.leeway)
            {
                return Err(name);
            }
        }
        let issuer = claims.0.get("iss").and_then(Value::as_str);
        if self.issuer.is_some() && issuer != self.issuer.as_deref() {
            return Err("iss");
        }
        let is_for = |whom: &Value| {
            whom.as_str()
                .is_some_and(|whom| self.audience.iter().any(|wanted| wanted == whom))
        };
        // A token that is for somebody is for nobody else (§4.1.3).
        let is_for_us = match claims.0.get("aud") {
            None => self.audience.is_empty(),
            Some(Value::Array(list)) => list.iter().any(is_for),
            Some(whom) => is_for(whom),
        };
        match is_for_us {
            true => Ok(()),
            false => Err("aud"),
        }
    }
}
