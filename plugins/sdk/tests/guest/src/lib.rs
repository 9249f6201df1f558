//! Does what the header `x-do` of the request says. Each word is one promise of the SDK.

use std::cell::Cell;
use std::time::Duration;

use serde::Deserialize;
use witgate_plugin::metrics::{self, Counter, Gauge, Histogram};
use witgate_plugin::{
    CompletionHook, ConfigErrors, Exchange, Failure, File, Plugin, Reply, Request, RequestHook,
    RequestVerdict, Response, ResponseHook, ResponseVerdict, Summary, Transform, Whole, buffer,
    clock, debug, error, info, stream, trace, trailers, warn,
};
use witgate_plugin::{keyvalue, secrets};

/// The configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    greeting: String,
}

/// The plugin.
pub struct Guest {
    greeting: String,
    calls: Cell<u32>,
}

impl Plugin for Guest {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        match config.greeting.as_str() {
            "panic" => panic!("asked to in the configuration"),
            greeting => Ok(Self {
                greeting: greeting.to_owned(),
                calls: Cell::new(0),
            }),
        }
    }
}

fn order(request: &Request) -> String {
    let order = request.header("x-do").unwrap_or_default();
    String::from_utf8_lossy(&order).into_owned()
}

fn shout(body: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if body.contains(&b'!') {
        return Err(Failure::new("shouted already"));
    }
    Ok(body.to_ascii_uppercase())
}

/// Repeats a trailer as another.
struct Repeat;

impl Transform for Repeat {
    fn push(&mut self, chunk: Vec<u8>) -> Result<Vec<u8>, Failure> {
        Ok(chunk)
    }

    fn finish(&mut self) -> Result<Vec<u8>, Failure> {
        trailers::set("x-again", trailers::get("x-once").unwrap_or_default())?;
        trailers::append("x-again", trailers::names().join(","))?;
        trailers::remove("x-once")?;
        info!(
            "{} {:?} {:?}",
            trailers::values("x-again").len(),
            trailers::set("x-other", "1").map_err(|error| error.kind()),
            trailers::set("cookie", "1").map_err(|error| error.to_string()),
        );
        Ok(b"end".to_vec())
    }
}

/// Every call of a store, one outcome a line.
fn keep() -> Result<String, keyvalue::Error> {
    let minute = Duration::from_secs(60);
    let outcomes = [
        format!("{:?}", keyvalue::get("seen")?),
        keyvalue::increment("seen", 2)?.to_string(),
        keyvalue::increment_for("window", 1, minute)?.to_string(),
        format!("{:?}", keyvalue::set("a", "1")?),
        format!("{:?}", keyvalue::set_for("b", "2", minute)?),
        keyvalue::compare_and_set("a", Some(b"1"), "3", Some(minute))?.to_string(),
        keyvalue::compare_and_set("a", None, "4", None)?.to_string(),
        keyvalue::delete("b")?.to_string(),
    ];
    Ok(outcomes.join("\n"))
}

fn measure() -> Result<(), metrics::Error> {
    Counter::new("seen", &[("kind", "fox")])?.add(2);
    Gauge::new("depth", &[])?.set(1.5);
    Histogram::new("size", &[], &[1.0])?.observe(3.0);
    Ok(())
}

/// Everything that can be read in a hook, one fact a line.
fn facts(exchange: &Exchange, request: &Request) -> String {
    let mut names = request.header_names();
    names.sort();
    [
        exchange.id(),
        exchange.listener(),
        exchange.route(),
        exchange.peer_address(),
        exchange.client_address(),
        exchange.client_scheme(),
        exchange.client_authority(),
        exchange.client_path_with_query(),
        request.method(),
        request.authority(),
        request.path_with_query(),
        request.path(),
        request.upgrade().unwrap_or_default(),
        names.join(","),
        request
            .header_values("x-many")
            .iter()
            .map(|value| String::from_utf8_lossy(value))
            .collect::<Vec<_>>()
            .join("+"),
    ]
    .join("\n")
}

impl RequestHook for Guest {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        self.calls.set(self.calls.get() + 1);
        match order(request).as_str() {
            "facts" => {
                return Ok(RequestVerdict::Answer(
                    Reply::new(200).text(facts(exchange, request)),
                ));
            }
            "greet" => {
                return Ok(RequestVerdict::Answer(
                    Reply::new(200).text(self.greeting.as_str()),
                ));
            }
            "count" => {
                return Ok(RequestVerdict::Answer(
                    Reply::new(200).text(self.calls.get().to_string()),
                ));
            }
            "time" => {
                return Ok(RequestVerdict::Answer(
                    Reply::new(200).text(clock::milliseconds().to_string()),
                ));
            }
            "empty" => {
                return Ok(RequestVerdict::Answer(
                    Reply::new(204).header("x-a", "1").header("x-a", "2"),
                ));
            }
            "file" => {
                return Ok(RequestVerdict::Answer(
                    Reply::new(200).file(File::new("/mount/file")),
                ));
            }
            "edit" => {
                request.set_path_with_query("/new?q")?;
                request.set_authority("new.example:1")?;
                request.set_header("x-set", "set")?;
                request.append_header("x-many", b"\xff")?;
                request.remove_header("x-gone")?;
            }
            "note" => {
                exchange.set_attribute("note", "first")?;
                exchange.set_attribute("note", "second")?;
                info!(
                    "{:?} {:?}",
                    exchange.attribute("note"),
                    exchange.attribute("none")
                );
            }
            "bad-header" => request.set_header("content-length", "1")?,
            "bad-value" => request.set_header("x-a", "secret\r\n")?,
            "bad-name" => request.remove_header(":path")?,
            "bad-authority" => request.set_authority("a b")?,
            "bad-note" => exchange.set_attribute("A Note", "")?,
            "large-note" => exchange.set_attribute("note", &"x".repeat(2000))?,
            "log" => {
                error!("an {}", "error");
                warn!("a warning");
                info!("info");
                debug!("debug");
                trace!("trace");
            }
            "panic" => panic!("asked to in a request"),
            "keep" => return Ok(RequestVerdict::Answer(Reply::new(200).text(keep()?))),
            "measure" => measure()?,
            "secret" => {
                let secret = secrets::get("key")?;
                return Ok(RequestVerdict::Answer(
                    Reply::new(200).text(secret.len().to_string()),
                ));
            }
            "stream" => return Ok(RequestVerdict::transform(stream(shout))),
            "mark" => {
                return Ok(RequestVerdict::transform(stream(|mut chunk| {
                    chunk.push(b'|');
                    Ok(chunk)
                })));
            }
            "hold" => return Ok(RequestVerdict::hold(buffer(8, shout))),
            "whole" => {
                return Ok(RequestVerdict::whole(8, |body, exchange, request| {
                    exchange.set_attribute("length", &body.len().to_string())?;
                    request.set_header("x-length", body.len().to_string())?;
                    Ok(Whole::Body(body))
                }));
            }
            "refuse" => {
                return Ok(RequestVerdict::whole(8, |_, _, _| {
                    Ok(Whole::Answer(Reply::new(422).text("no")))
                }));
            }
            "trail" => {
                trailers::announce("x-again")?;
                return Ok(RequestVerdict::transform(Repeat));
            }
            _ => {}
        }
        Ok(RequestVerdict::Next)
    }
}

impl ResponseHook for Guest {
    fn on_response(
        &self,
        exchange: &Exchange,
        request: &Request,
        response: &mut Response,
    ) -> Result<ResponseVerdict, Failure> {
        match order(request).as_str() {
            "edit" => {
                response.set_status(response.status() + 1)?;
                response.set_header("x-names", response.header_names().join(","))?;
                response.append_header("x-many", "2")?;
                response.remove_header("x-gone")?;
                response.end_connection();
            }
            "bad-status" => response.set_status(99)?,
            "note" => info!("{:?}", exchange.attribute("note")),
            "answer" => return Ok(ResponseVerdict::Answer(Reply::new(500).json("{}"))),
            "stream" => return Ok(ResponseVerdict::transform(stream(shout))),
            "hold" => return Ok(ResponseVerdict::hold(buffer(8, shout))),
            "whole" => {
                return Ok(ResponseVerdict::whole(8, |body, _, request, response| {
                    response.set_status(203)?;
                    response.set_header("x-path", request.path())?;
                    Ok(Whole::Body(body))
                }));
            }
            _ => {}
        }
        Ok(ResponseVerdict::Next)
    }
}

impl CompletionHook for Guest {
    fn on_complete(
        &self,
        exchange: &Exchange,
        request: &Request,
        response: Option<&Response>,
        summary: &Summary,
    ) -> Result<(), Failure> {
        match order(request).as_str() {
            "fail" => Err(Failure::new("asked to, at the end")),
            _ => {
                let status = response.map(Response::status);
                info!("{} {status:?} {summary:?}", exchange.id());
                exchange.set_attribute("told", "yes")?;
                Ok(())
            }
        }
    }
}

witgate_plugin::export!(Guest: request, response, completion);
