//! What comes before HTTP on a connection: whom it is from, TLS, and which version of HTTP it is.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::socket::Socket;
use super::stream::Stream;
use super::{Context, FIRST_REQUEST, Peer, Served, frames, peek, proxy_protocol};
use crate::config::Protocols;
use crate::refusal::Reason;
use crate::tls::{self, Secured, Tls};

/// The first byte of a client that wants TLS: the type of the record that its hello is in (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// What a client is told that speaks HTTP where TLS is spoken.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 39\r\nconnection: close\r\n\r\nthis port speaks HTTPS: write https://\n";

/// How long such a client may take to read that, and how much it may go on sending.
const FAREWELL: Duration = Duration::from_secs(1);
const MOST_DISCARDED: usize = 64 << 10;

/// A connection's stream, and whether it speaks HTTP/2; `None` when it comes to nothing.
pub(super) async fn begin(
    served: &mut Served,
    protocols: Protocols,
    mut socket: Socket,
) -> Option<(Stream, bool)> {
    let context = served.listener.context();
    let limit = context.limits.header_timeout;
    let mut stop = served.listener.end_requested();
    let mut is_introduced = !context.proxy_protocol;
    let beginning = async {
        if context.proxy_protocol {
            introduce(&context, &mut socket, &mut served.peer).await?;
            is_introduced = true;
        }
        match &context.tls {
            Some(tls) => secured(tls, protocols, socket, &mut served.peer).await,
            None => plain(protocols, socket).await,
        }
    };
    let begun = {
        let began = Instant::now();
        let mut beginning = std::pin::pin!(timeout(limit, beginning));
        tokio::select! {
            begun = beginning.as_mut() => begun,
            () = stop.requested() => timeout_at(began + FIRST_REQUEST, beginning).await.ok()?,
        }
    };
    let (why, refusal) = match begun {
        Ok(Ok(begun)) => return begun,
        Ok(Err(error)) if is_introduced => (error.to_string(), None),
        Ok(Err(error)) => (error.to_string(), Some(Reason::ProxyProtocol)),
        Err(_) => {
            let why = format!("nothing whole came within {limit:?} (`limits.header-timeout`)");
            (why, Some(Reason::SlowHead))
        }
    };
    if let Some(reason) = refusal {
        context.refusals.count(reason);
    }
    let (listener, client) = (&*context.name, served.peer.address);
    match context.tls.is_some() && is_introduced {
        true => {
            context.worker.handshake_failed(context.listener);
            tracing::debug!(listener, %client, why, "a TLS handshake failed");
        }
        false => tracing::debug!(listener, %client, why, "connection ended"),
    }
    None
}

/// Takes the client for whom the load balancer says that it is.
async fn introduce(context: &Context, socket: &mut Socket, peer: &mut Rc<Peer>) -> io::Result<()> {
    let balancer = peer.address.client().to_canonical();
    if !context.worker.server().trusts(balancer) {
        return Err(io::Error::other(
            "it is none of `trusted-proxies`, who alone may speak the PROXY protocol",
        ));
    }
    if let Some(client) = proxy_protocol::read(socket).await? {
        *peer = Rc::new(Peer::new(client));
    }
    Ok(())
}

async fn secured(
    tls: &Tls,
    protocols: Protocols,
    mut socket: Socket,
    peer: &mut Rc<Peer>,
) -> io::Result<Option<(Stream, bool)>> {
    match peek::first_byte(&socket).await? {
        None => return Ok(None),
        Some(first) if first.is_ascii_uppercase() && first != HANDSHAKE => {
            refuse_plain_http(&mut socket).await?;
            return Err(io::Error::other("the client speaks HTTP without TLS"));
        }
        Some(_) => {}
    }
    let mut stream = tls.accept(socket).await?;
    if tls::is_validation(&stream) {
        stream.shutdown().await?;
        return Ok(None);
    }
    Rc::make_mut(peer).tls = Some(Secured::of(&stream));
    let (_, session) = stream.get_ref();
    let is_http2 = match session.alpn_protocol() {
        Some(protocol) => protocol == b"h2",
        None => !protocols.http1,
    };
    Ok(Some((Stream::Tls(Box::new(stream)), is_http2)))
}

async fn plain(protocols: Protocols, socket: Socket) -> io::Result<Option<(Stream, bool)>> {
    let is_http2 = match protocols.http1 {
        true => protocols.http2 && peek::begins_with(&socket, frames::PREFACE).await?,
        false => true,
    };
    Ok(Some((Stream::Plain(socket), is_http2)))
}

async fn refuse_plain_http(socket: &mut Socket) -> io::Result<()> {
    socket.write_all(PLAIN_HTTP).await?;
    socket.shutdown().await?;
    // Closed with bytes unread, the connection would be reset and the answer lost.
    let mut rest = socket.take(MOST_DISCARDED as u64);
    let mut piece = [0; 1024];
    let reading = async {
        while rest.read(&mut piece).await? > 0 {}
        Ok(())
    };
    timeout(FAREWELL, reading).await.unwrap_or(Ok(()))
}
