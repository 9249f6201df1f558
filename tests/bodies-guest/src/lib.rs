//! Does with bodies, trailers and ends what the header `x-do` of the request says, and tells of every exchange that is
//! over: as a log line, or to an origin.

use serde::Deserialize;
use witgate_plugin::{
    CompletionHook, ConfigErrors, Exchange, Failure, Plugin, Reply, Request, RequestHook,
    RequestVerdict, Response, ResponseHook, ResponseVerdict, Summary, Transform, Whole,
    http_client, info, stream, trailers,
};

const MAX: usize = 1 << 20;

/// The configuration.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The value of `x-do` for which this plugin acts: `NAME:WORD`, or `WORD` without.
    #[serde(default)]
    name: String,
    /// Where to send what is told of an exchange, instead of into the log.
    tell: Option<String>,
}

/// The plugin.
pub struct Guest(Config);

impl Plugin for Guest {
    type Config = Config;

    fn new(config: Config) -> Result<Self, ConfigErrors> {
        Ok(Self(config))
    }
}

impl Guest {
    /// What this plugin is to do.
    fn order(&self, request: &Request) -> String {
        let order = text(request.header("x-do"));
        match order.split_once(':') {
            Some((name, word)) if name == self.0.name => word.to_owned(),
            Some(_) => String::new(),
            None => order,
        }
    }
}

fn text(value: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()
}

/// Counts the bytes of a body and says how many there were in the trailer `x-sum`.
struct Sum(usize);

impl Transform for Sum {
    fn push(&mut self, chunk: Vec<u8>) -> Result<Vec<u8>, Failure> {
        self.0 += chunk.len();
        Ok(chunk)
    }

    fn finish(&mut self) -> Result<Vec<u8>, Failure> {
        let before = text(trailers::get("x-before"));
        trailers::set("x-sum", format!("{}{before}", self.0))?;
        Exchange::current().set_attribute("sum", &self.0.to_string())?;
        if let Err(refused) = trailers::set("x-unannounced", "1") {
            info!("{refused}");
        }
        Ok(Vec::new())
    }
}

/// Takes a body as it is and then asks for what only the end of a held body has.
struct TooLate;

impl Transform for TooLate {
    fn push(&mut self, chunk: Vec<u8>) -> Result<Vec<u8>, Failure> {
        info!("a piece");
        Ok(chunk)
    }

    fn finish(&mut self) -> Result<Vec<u8>, Failure> {
        Ok(Whole::Answer(Reply::new(200)).into_bytes())
    }
}

impl RequestHook for Guest {
    fn on_request(
        &self,
        exchange: &Exchange,
        request: &mut Request,
    ) -> Result<RequestVerdict, Failure> {
        exchange.set_attribute("seen", &request.path())?;
        match self.order(request).as_str() {
            "answer" => return Ok(RequestVerdict::Answer(Reply::new(200).text("answered"))),
            "fail" => return Err(Failure::new("asked to")),
            "sign" => {
                return Ok(RequestVerdict::whole(MAX, |body, exchange, request| {
                    request.set_header("x-length", body.len().to_string())?;
                    request.set_path_with_query("/signed")?;
                    exchange.set_attribute("signed", "yes")?;
                    info!("the body is whole");
                    Ok(Whole::Body(body))
                }));
            }
            "refuse" => {
                return Ok(RequestVerdict::whole(MAX, |body, _, _| {
                    Ok(match body.first() {
                        Some(b'{') => Whole::Body(body),
                        _ => Whole::Answer(Reply::new(422).text("no JSON object")),
                    })
                }));
            }
            "impossible" => {
                return Ok(RequestVerdict::whole(MAX, |_, _, _| {
                    Ok(Whole::Answer(Reply::new(99)))
                }));
            }
            "sum" => {
                trailers::announce("x-sum")?;
                return Ok(RequestVerdict::transform(Sum(0)));
            }
            "hold-noted" => {
                return Ok(RequestVerdict::hold(stream(|piece| {
                    Exchange::current().set_attribute("held", "yes")?;
                    info!("a piece is held");
                    Ok(piece)
                })));
            }
            "sum-held" => return Ok(RequestVerdict::hold(Sum(0))),
            "too-late" => return Ok(RequestVerdict::transform(TooLate)),
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
        response.append_header("x-through", &self.0.name)?;
        match self.order(request).as_str() {
            "answer-back" => {
                return Ok(ResponseVerdict::Answer(Reply::new(200).text("answered")));
            }
            "sign-back" => {
                let seen = exchange.attribute("seen").unwrap_or_default();
                return Ok(ResponseVerdict::whole(
                    MAX,
                    move |body, _, request, response| {
                        response.set_header("etag", format!("\"{}\"", body.len()))?;
                        response.set_header("x-seen", seen)?;
                        response.set_header("x-method", request.method())?;
                        response.set_status(203)?;
                        Ok(Whole::Body(body.to_ascii_uppercase()))
                    },
                ));
            }
            "replace-back" => {
                return Ok(ResponseVerdict::whole(MAX, |body, _, _, _| {
                    let length = body.len();
                    Ok(Whole::Answer(
                        Reply::new(404).text(format!("{length} bytes are not shown")),
                    ))
                }));
            }
            "sum-back" => {
                trailers::announce("x-sum")?;
                return Ok(ResponseVerdict::transform(Sum(0)));
            }
            "sum-held-back" => return Ok(ResponseVerdict::hold(Sum(0))),
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
        if self.order(request) == "fail-at-the-end" {
            return Err(Failure::new("asked to, at the end"));
        }
        let earlier = exchange.attribute("inner.told").unwrap_or_default();
        exchange.set_attribute("told", "yes")?;
        let through = response.map(|response| text(response.header("x-through")));
        let told = format!(
            "over: {} end={:?} status={:?} received={} sent={} upstream={} timed={} answered={:?} seen={:?} through={through:?} earlier={earlier} sum={:?}",
            request.path(),
            summary.end,
            summary.status,
            summary.received_bytes,
            summary.sent_bytes,
            summary.upstream.is_some(),
            summary
                .upstream_time
                .is_some_and(|time| time <= summary.duration),
            summary.answered_by,
            exchange.attribute("seen"),
            exchange.attribute("sum"),
        );
        match &self.0.tell {
            Some(origin) => {
                http_client::Request::new("POST", origin)
                    .body(told)
                    .send()?;
                info!("the record was taken");
            }
            None => info!("{told}"),
        }
        Ok(())
    }
}

witgate_plugin::export!(Guest: request, response, completion);
