//! Sends the request that the headers of its own request describe, and answers with what came of it. Without `x-url` it
//! lets the exchange pass.

use std::time::Duration;

use witgate_plugin::http_client::{self, Error};
use witgate_plugin::{
    ConfigErrors, Exchange, Failure, NoConfig, Plugin, Reply, Request, RequestHook, RequestVerdict,
    stream,
};

/// The plugin.
pub struct Fetching;

impl Plugin for Fetching {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, ConfigErrors> {
        Ok(Self)
    }
}

fn order(request: &Request, name: &str) -> Option<String> {
    let value = request.header(name)?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// `x-then: again` has who gets the request do the same. `x-method`, `x-field` (`name: value`, escapes as in a Rust string of `\r\n`), `x-body`, `x-timeout` (milliseconds).
fn described(request: &Request, url: &str) -> http_client::Request {
    let method = order(request, "x-method").unwrap_or("GET".into());
    let mut described = http_client::Request::new(method, url);
    for field in request.header_values("x-field") {
        let field = String::from_utf8_lossy(&field).replace("\\r\\n", "\r\n");
        let (name, value) = field.split_once(": ").unwrap_or((&field, ""));
        described = described.header(name, value);
    }
    if order(request, "x-then").as_deref() == Some("again") {
        described = described.header("x-url", url).header("x-then", "again");
    }
    if let Some(body) = order(request, "x-body") {
        described = described.body(body);
    }
    if let Some(timeout) = order(request, "x-timeout").and_then(|ms| ms.parse().ok()) {
        described = described.timeout(Duration::from_millis(timeout));
    }
    described
}

fn answer(outcome: Result<http_client::Response, Error>) -> Reply {
    match outcome {
        Ok(response) => {
            let mut text = format!("{}\n", response.status());
            for (name, value) in response.headers() {
                text += &format!("{name}: {}\n", String::from_utf8_lossy(value));
            }
            text += &String::from_utf8_lossy(response.body());
            Reply::new(200).text(text)
        }
        Err(error) => Reply::new(200).text(format!("{:?}\n{error}", error.kind())),
    }
}

impl RequestHook for Fetching {
    fn on_request(&self, _: &Exchange, request: &mut Request) -> Result<RequestVerdict, Failure> {
        let Some(url) = order(request, "x-url") else {
            return Ok(RequestVerdict::Next);
        };
        let described = described(request, &url);
        match order(request, "x-then").as_deref() {
            // In a body's transform, where there is no exchange to wait for.
            Some("transform") => {
                return Ok(RequestVerdict::transform(stream(move |_| {
                    let outcome = described.clone().send();
                    Ok(outcome?.into_body())
                })));
            }
            Some("spin") => {
                drop(described.send());
                spin();
            }
            _ => {}
        }
        let times = order(request, "x-times").and_then(|n| n.parse().ok());
        let mut outcome = described.clone().send();
        for _ in 1..times.unwrap_or(1) {
            outcome = described.clone().send();
        }
        Ok(RequestVerdict::Answer(answer(outcome)))
    }
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

witgate_plugin::export!(Fetching: request);
