//! Does with its grants what the header `x-do` of a request says, in words apart by blanks, and answers with what came of
//! it. Without that header it lets the exchange pass.

use std::time::Duration;

use witgate_plugin::metrics::{Counter, Gauge, Histogram};
use witgate_plugin::{
    ConfigErrors, Exchange, Failure, NoConfig, Plugin, Reply, Request, RequestHook, RequestVerdict,
    keyvalue, secrets, stream,
};

/// The plugin.
pub struct Granted;

impl Plugin for Granted {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, ConfigErrors> {
        Ok(Self)
    }
}

fn ttl(ms: &str) -> Result<Duration, Failure> {
    Ok(Duration::from_millis(ms.parse()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn of_store(outcome: Result<String, keyvalue::Error>) -> String {
    outcome.unwrap_or_else(|error| format!("{:?}: {error}", error.kind()))
}

fn store(words: &[&str]) -> Result<Option<String>, Failure> {
    let outcome = match words {
        ["get", key] => keyvalue::get(key).map(|value| match value {
            Some(value) => format!("={}", text(&value)),
            None => "none".into(),
        }),
        ["set", key, value] => keyvalue::set(key, value).map(|()| "set".into()),
        ["set", key, value, ms] => keyvalue::set_for(key, value, ttl(ms)?).map(|()| "set".into()),
        ["delete", key] => keyvalue::delete(key).map(|was| was.to_string()),
        ["add", key, by] => keyvalue::increment(key, by.parse()?).map(|sum| sum.to_string()),
        ["add", key, by, ms] => {
            keyvalue::increment_for(key, by.parse()?, ttl(ms)?).map(|sum| sum.to_string())
        }
        ["swap", key, expected, value] => {
            let expected = (*expected != "-").then_some(expected.as_bytes());
            keyvalue::compare_and_set(key, expected, value, None).map(|was| was.to_string())
        }
        ["many", key, times] => {
            let mut last = Ok(0);
            for _ in 0..times.parse::<u32>()? {
                last = keyvalue::increment(key, 1);
            }
            last.map(|sum| sum.to_string())
        }
        _ => return Ok(None),
    };
    Ok(Some(of_store(outcome)))
}

fn metric(words: &[&str]) -> Result<String, Failure> {
    match words {
        ["count", name, label] => Counter::new(name, &[("kind", label)])?.add(1),
        ["gauge", name, value] => Gauge::new(name, &[])?.set(value.parse()?),
        ["observe", name, value] => {
            Histogram::new(name, &[], &[1.0, 10.0])?.observe(value.parse()?);
        }
        ["secret", name] => return Ok(secrets::get(name)?.len().to_string()),
        other => return Err(Failure::new(format!("no order: {other:?}"))),
    }
    Ok("counted".into())
}

impl RequestHook for Granted {
    fn on_request(&self, _: &Exchange, request: &mut Request) -> Result<RequestVerdict, Failure> {
        let Some(order) = request.header("x-do") else {
            return Ok(RequestVerdict::Next);
        };
        let order = text(&order);
        let words: Vec<&str> = order.split(' ').collect();
        if let ["transform", key] = words[..] {
            let key = key.to_owned();
            return Ok(RequestVerdict::transform(stream(move |chunk| {
                keyvalue::set(&key, &chunk)?;
                Ok(chunk)
            })));
        }
        let outcome = match store(&words)? {
            Some(outcome) => outcome,
            None => metric(&words).unwrap_or_else(|failure| failure.reason().to_owned()),
        };
        Ok(RequestVerdict::Answer(Reply::new(200).text(outcome)))
    }
}

witgate_plugin::export!(Granted: request);
