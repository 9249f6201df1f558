//! A component as an author would write it with `wstd`, and beside that everything that can go wrong in one.

use std::convert::Infallible;

use futures_lite::stream::unfold;
use wstd::http::body::Bytes;
use wstd::http::{Body, Client, Error, Request, Response};
use wstd::time::Duration;

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let argument = request.uri().query().unwrap_or_default().to_owned();
    match path.as_str() {
        "/echo" => Ok(Response::new(request.into_body())),
        "/head" => Ok(Response::new(describe(&request).into())),
        "/stream" => Ok(Response::new(megabytes(argument.parse().unwrap_or(1)))),
        "/fetch" => fetch(&argument).await,
        "/fetch-within" => fetch_within(&argument).await,
        "/print" => {
            println!("printed by the component");
            Ok(Response::new("printed\n".to_owned().into()))
        }
        "/environment" => {
            let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
            let files = std::fs::read_dir("/")
                .map(|_| "files")
                .unwrap_or("no files");
            Ok(Response::new(format!("{names:?} {files}\n").into()))
        }
        "/framing" => Ok(Response::builder()
            .header("content-length", "5")
            .header("x-own", "kept")
            .body("12345".to_owned().into())?),
        "/short" => Ok(Response::builder()
            .header("content-length", "10")
            .body("12345".to_owned().into())?),
        "/status" => Ok(Response::builder()
            .status(argument.parse::<u16>()?)
            .body(Body::empty())?),
        "/spin" => spin(),
        "/trap" => panic!("this component panics"),
        "/trap-in-body" => Ok(Response::new(trap_in_body())),
        "/hog" => Ok(Response::new(format!("{}\n", hog()).into())),
        "/exit" => std::process::exit(0),
        "/wait" => {
            wstd::task::sleep(Duration::from_secs(3600)).await;
            Ok(Response::new(Body::empty()))
        }
        "/fail" => Err(Error::msg("this component gives up")),
        _ => Ok(Response::new("hello from wstd\n".to_owned().into())),
    }
}

/// What the component sees of a request's head.
fn describe(request: &Request<Body>) -> String {
    let mut lines = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        lines.push_str(&format!(
            "{name}: {}\n",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    lines
}

fn megabytes(count: usize) -> Body {
    Body::from_try_stream(Box::pin(unfold(count * 16, |left| async move {
        let chunk = || Ok::<_, Infallible>(Bytes::from(vec![b'x'; 1 << 16]));
        (left > 0).then(|| (chunk(), left - 1))
    })))
}

fn trap_in_body() -> Body {
    Body::from_try_stream(Box::pin(unfold(0, |sent| async move {
        assert!(sent < 2, "this component panics in its body");
        Some((
            Ok::<_, Infallible>(Bytes::from_static(b"some bytes")),
            sent + 1,
        ))
    })))
}

async fn fetch(url: &str) -> Result<Response<Body>, Error> {
    let request = Request::get(url).body(Body::empty())?;
    Ok(match Client::new().send(request).await {
        Ok(response) => Response::builder()
            .header("x-fetched", response.status().as_u16())
            .body(response.into_body())?,
        Err(error) => Response::new(format!("refused: {error:?}\n").into()),
    })
}

/// `WHICH&URL`: waits no longer than a tenth of a second for one of the things that a request waits for.
async fn fetch_within(argument: &str) -> Result<Response<Body>, Error> {
    let (which, url) = argument.split_once('&').unwrap_or_default();
    let (mut client, limit) = (Client::new(), Duration::from_millis(100));
    match which {
        "connect" => client.set_connect_timeout(limit),
        "first-byte" => client.set_first_byte_timeout(limit),
        _ => client.set_between_bytes_timeout(limit),
    }
    let request = Request::get(url).body(Body::empty())?;
    let said = match client.send(request).await {
        Ok(response) => match response.into_body().contents().await {
            Ok(bytes) => format!("{} bytes\n", bytes.len()),
            Err(error) => format!("broken off: {error:?}\n"),
        },
        Err(error) => format!("refused: {error:?}\n"),
    };
    Ok(Response::new(said.into()))
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn hog() -> usize {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(vec![1; 1 << 20]);
        std::hint::black_box(&taken);
    }
}
