//! The DevTools HTTP endpoint: which browser answers at an address, and under which WebSocket path.
//!
//! One `GET /json/version` per connection, written by hand: Chromium's answer is always `Content-Length`-framed and
//! its server never closes a connection, so nothing of a general HTTP client would be used.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The most that is read of an answer. Chromium's is under 1 KB.
const MAX_ANSWER: usize = 64 * 1024;

/// What `/json/version` says about a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Product and version: `Chrome/156.0.8078.79`.
    pub browser: String,
    /// Path of the browser's WebSocket: `/devtools/browser/GUID`. The GUID changes at every start.
    pub websocket_path: String,
}

/// No usable DevTools endpoint at an address.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The connection could not be made or broke.
    #[error("no DevTools endpoint at {address}: {source}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Connected, but no whole answer in time: the browser hangs, or something else listens there.
    #[error("no answer from the DevTools endpoint at {address} within {limit:?}")]
    Timeout {
        /// Where.
        address: SocketAddr,
        /// The limit that passed.
        limit: Duration,
    },
    /// An answer, but not that of a DevTools endpoint.
    #[error("what listens at {address} is no DevTools endpoint: {problem}")]
    Foreign {
        /// Where.
        address: SocketAddr,
        /// What gave it away.
        problem: &'static str,
    },
}

/// Asks `address` for `/json/version`, within `limit` in all.
///
/// # Errors
/// [`EndpointError`], by what is missing: a listener, an answer in time, or the right kind of answer.
pub async fn version(address: SocketAddr, limit: Duration) -> Result<Version, EndpointError> {
    let answer = timeout(limit, exchange(address))
        .await
        .map_err(|_elapsed| EndpointError::Timeout { address, limit })?
        .map_err(|source| EndpointError::Unreachable { address, source })?;
    parse(&answer).map_err(|problem| EndpointError::Foreign { address, problem })
}

/// The path (`/devtools/browser/GUID`) of a DevTools WebSocket URL.
pub(crate) fn websocket_path(url: &str) -> Option<&str> {
    let authority_and_path = url.strip_prefix("ws://")?;
    let (_authority, path) = authority_and_path.split_at(authority_and_path.find('/')?);
    path.starts_with("/devtools/browser/").then_some(path)
}

async fn exchange(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("GET /json/version HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !is_whole(&answer) && answer.len() < MAX_ANSWER {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(answer)
}

fn head_and_body(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((
        std::str::from_utf8(&answer[..end]).ok()?,
        &answer[end + 4..],
    ))
}

fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })
}

fn is_whole(answer: &[u8]) -> bool {
    head_and_body(answer)
        .is_some_and(|(head, body)| content_length(head).is_some_and(|length| body.len() >= length))
}

fn parse(answer: &[u8]) -> Result<Version, &'static str> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "Browser")]
        browser: String,
        #[serde(rename = "webSocketDebuggerUrl")]
        websocket: String,
    }
    let (head, body) = head_and_body(answer).ok_or("no HTTP answer")?;
    let status = head.split(' ').nth(1).ok_or("no HTTP answer")?;
    if !head.starts_with("HTTP/1.") || status != "200" {
        return Err("/json/version is not answered with 200");
    }
    let length = content_length(head).ok_or("/json/version has no Content-Length")?;
    let body = body.get(..length).ok_or("the answer is cut short")?;
    let document: Document =
        serde_json::from_slice(body).map_err(|_| "/json/version is not the JSON of a browser")?;
    let path = websocket_path(&document.websocket)
        .ok_or("webSocketDebuggerUrl is not that of a browser")?;
    Ok(Version {
        browser: document.browser,
        websocket_path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const BODY: &str = r#"{"Browser":"Chrome/1.2","webSocketDebuggerUrl":"ws://127.0.0.1:9/devtools/browser/G-1"}"#;
    const LIMIT: Duration = Duration::from_secs(5);

    /// Answers one connection with `answer` and keeps it open, as Chromium does.
    async fn serve(answer: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        address
    }

    #[tokio::test]
    async fn a_version_is_read_from_a_connection_that_stays_open() {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length:{}\r\n\r\n{BODY}",
            BODY.len()
        );
        let version = version(serve(answer).await, LIMIT).await.unwrap();
        assert_eq!(version.browser, "Chrome/1.2");
        assert_eq!(version.websocket_path, "/devtools/browser/G-1");
    }

    #[tokio::test]
    async fn a_listener_that_never_answers_is_a_timeout() {
        let address = serve(String::new()).await;
        let error = version(address, Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(matches!(error, EndpointError::Timeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn another_server_is_foreign() {
        for answer in [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        ] {
            let error = version(serve(answer.into()).await, LIMIT)
                .await
                .unwrap_err();
            assert!(matches!(error, EndpointError::Foreign { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = version(address, LIMIT).await.unwrap_err();
        assert!(
            matches!(error, EndpointError::Unreachable { .. }),
            "{error}"
        );
    }

    #[test]
    fn the_path_of_a_url_is_taken_whatever_its_authority() {
        assert_eq!(
            websocket_path("ws://[::1]:9/devtools/browser/G"),
            Some("/devtools/browser/G")
        );
        assert_eq!(
            websocket_path("ws:///devtools/browser/G"),
            Some("/devtools/browser/G")
        );
        assert_eq!(websocket_path("ws://a/devtools/page/G"), None);
        assert_eq!(websocket_path("http://a/devtools/browser/G"), None);
    }
}
