//! What a guest writes to its standard output and error goes to the log, line by line: that is where a panic of a
//! guest built for `wasm32-wasip2` says what happened.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use crate::log_budget::LogShare;

/// Longest line kept; the rest of a longer one follows as another line.
const MAX_LINE: usize = 4096;

/// One of a guest's two output streams.
#[derive(Clone)]
pub(crate) struct LogStream {
    pub(crate) plugin: Arc<str>,
    pub(crate) stream: &'static str,
    /// Of the instance: whoever asks for its streams again and again gets no more lines.
    pub(crate) log: LogShare,
    /// Route and request id, where all that is written belongs to one exchange.
    pub(crate) exchange: Option<(Arc<str>, Arc<str>)>,
}

struct Lines {
    stream: LogStream,
    line: Vec<u8>,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Lines {
            stream: self.clone(),
            line: Vec::new(),
        })
    }
}

impl Lines {
    fn flush(&mut self) {
        if !self.line.is_empty() && self.stream.log.allows(&self.stream.plugin) {
            let line = String::from_utf8_lossy(&self.line);
            let LogStream {
                plugin,
                stream,
                exchange,
                ..
            } = &self.stream;
            let (route, request_id) = exchange.as_ref().map(|(r, id)| (&**r, &**id)).unzip();
            tracing::warn!(target: "plugin", %plugin, stream, route, request_id, "{}", line.escape_debug());
        }
        self.line.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        for &byte in bytes {
            if byte == b'\n' || self.line.len() == MAX_LINE {
                self.flush();
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush();
        Poll::Ready(Ok(()))
    }
}
