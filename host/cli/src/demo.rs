//! `witgate demo`: the built-in plugins at work in one process, before an upstream that shows what it was sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use witgate_proxy::Server;
use witgate_proxy::config::{Config, Document};

use crate::Ended;
use crate::args::Demo;
use crate::load;
use crate::log;
use crate::output;
use crate::run::{Signals, runtime};

/// What the demo serves; `UPSTREAM` and `SNAPSHOTS` are filled in.
const CONFIG: &str = include_str!("demo.toml");

/// A storage state without a sign-in.
const SNAPSHOT: &str = r#"{"cookies":[],"origins":[{"origin":"https://example.com","localStorage":[{"name":"theme","value":"dark"}]}]}"#;

pub(crate) fn demo(args: &Demo) -> Result<(), Ended> {
    let _flushes_the_log = log::start(&args.log)?;
    runtime()?.block_on(serve())
}

async fn serve() -> Result<(), Ended> {
    let mut signals = Signals::new()?;
    let snapshots = tempfile::tempdir().map_err(Ended::because)?;
    std::fs::write(snapshots.path().join("state.json"), SNAPSHOT).map_err(Ended::because)?;
    let upstream = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(Ended::because)?;
    let upstream_address = upstream.local_addr().map_err(Ended::because)?;
    tokio::spawn(echo(upstream));
    let text = CONFIG
        .replace("UPSTREAM", &upstream_address.to_string())
        .replace("SNAPSHOTS", &snapshots.path().display().to_string());
    let generation = load::build("demo.toml", parse(&text)?).await?;
    let server = Server::start(Arc::new(generation)).map_err(Ended::because)?;
    let first = server.listeners().first();
    let address = first.and_then(|listener| listener.address.internet());
    print_lines(address.ok_or_else(|| Ended::because("the demo has no listener"))?)?;
    signals.next().await;
    server.stop().cut();
    tokio::task::spawn_blocking(|| server.join())
        .await
        .map_err(Ended::because)?
        .map_err(Ended::because)
}

fn parse(text: &str) -> Result<Config, Ended> {
    let document = Document::parse("demo.toml", text).map_err(load::report)?;
    let reader = document.reader();
    let mut root = reader.root();
    let config = Config::read(&mut root);
    root.finish();
    reader
        .finish(config)
        .map(|(config, _)| config)
        .map_err(load::report)
}

fn print_lines(address: SocketAddr) -> Result<(), Ended> {
    output::line(format_args!(
        r#"witgate serves its demo on http://{address}. Try:

  host-rewrite: the upstream is sent another Host and shows it
    curl -i http://{address}/echo

  connection-close: each answer ends its connection
    curl -i http://{address}/json/protocol

  cdp-urls: URLs in DevTools answers name the host that you used
    curl -i -H 'Host: browser.example:9222' http://{address}/json/version

  bearer-auth: without the token, and with it
    curl -i http://{address}/private
    curl -i -H 'Authorization: Bearer demo-token' http://{address}/private

  snapshot-server: a file from the host, behind the same token; ask twice with its ETag for a 304
    curl -i -H 'Authorization: Bearer demo-token' http://{address}/api/snapshot

Ctrl-C ends it."#
    ))
}

/// The upstream: DevTools-like answers below `/json`, elsewhere what it was sent.
pub(crate) async fn echo(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "demo upstream: a connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "demo upstream: a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let host = request
        .headers()
        .get("host")
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let body = match request.uri().path() {
        "/json/version" => json!({
            "Browser": "Demo/1.0",
            "Protocol-Version": "1.3",
            "webSocketDebuggerUrl": format!("ws://{host}/devtools/browser/00000000-0000-0000-0000-000000000000"),
        }),
        "/json/protocol" => json!({ "version": { "major": "1", "minor": "3" }, "domains": [] }),
        path => {
            let text = |value: &hyper::header::HeaderValue| {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            let headers: serde_json::Map<_, _> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), text(value).into()))
                .collect();
            json!({ "method": request.method().as_str(), "path": path, "headers": headers })
        }
    };
    let mut response = Response::new(Full::from(format!("{body:#}\n")));
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("application/json; charset=UTF-8"),
    );
    Ok(response)
}
