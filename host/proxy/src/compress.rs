//! Compresses responses on their way out, where a route asks for it and the client takes it.
//!
//! What an encoder has taken in is flushed as soon as the upstream pauses, so that an event or a message is not held until
//! the next one comes. An encoder sees small pieces and gives way to other connections in between; its window, and
//! with it its memory, is bounded.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::{Body as _, Frame};

use crate::body::{Body, BodyError};
use crate::config::{Algorithm, Compress, Level};

/// What one call of an encoder is given at most: tens of microseconds at the fastest level, a millisecond at the slowest.
const PIECE: usize = 16 * 1024;

/// What is compressed at one go when the client and the upstream never pause. Other connections of the worker come next.
const BURST: usize = 4 * PIECE;

/// Binary logarithm of the bytes that an encoder looks back, for zstd and brotli; gzip's is 15. Most of what an encoder
/// takes is a few times this.
const WINDOW: u32 = 18;

/// What a client takes of a route's algorithms, read before any plugin has edited the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    config: &'a Compress,
    coding: Option<Algorithm>,
    head_only: bool,
}

impl<'a> Wanted<'a> {
    pub(crate) fn by(config: &'a Compress, method: &Method, headers: &HeaderMap) -> Self {
        Self {
            config,
            coding: choose(headers, &config.algorithms),
            head_only: *method == Method::HEAD,
        }
    }

    /// Compresses the response, if it may be and is worth it.
    ///
    /// # Errors
    ///
    /// An encoder that cannot be made, which takes memory.
    pub(crate) fn apply(&self, response: Response<Body>) -> io::Result<Response<Body>> {
        if !self.is_worth_it(&response) {
            return Ok(response);
        }
        let (mut parts, body) = response.into_parts();
        vary(&mut parts.headers);
        let Some(coding) = self
            .coding
            .filter(|_| parts.status != StatusCode::NOT_MODIFIED)
        else {
            return Ok(Response::from_parts(parts, body));
        };
        // RFC 9110 §8.6: the length that a response to HEAD says is that of the response to GET.
        parts.headers.remove(header::CONTENT_LENGTH);
        if self.head_only {
            return Ok(Response::from_parts(parts, Body::empty()));
        }
        rename(&mut parts.headers, coding);
        let body = Body::compressed(body, Encoder::new(coding, self.config.level)?);
        Ok(Response::from_parts(parts, body))
    }

    /// Whether it is compressed for a client that takes it, or stands for a response that is.
    fn is_worth_it(&self, response: &Response<Body>) -> bool {
        let (status, headers) = (response.status(), response.headers());
        if status == StatusCode::NOT_MODIFIED {
            return !headers.contains_key(header::CONTENT_ENCODING);
        }
        let has_content = !status.is_informational()
            && !matches!(
                status,
                StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT
            );
        has_content
            && self.is_long_enough(response)
            && !headers.contains_key(header::CONTENT_ENCODING)
            && !headers.contains_key(header::CONTENT_RANGE)
            && !tokens(headers, header::CACHE_CONTROL)
                .any(|token| token.eq_ignore_ascii_case("no-transform"))
            && self.is_of_a_type(headers)
    }

    fn is_long_enough(&self, response: &Response<Body>) -> bool {
        let said = response.headers().get(header::CONTENT_LENGTH);
        let said = said.and_then(|length| length.to_str().ok()?.parse().ok());
        let known = match self.head_only {
            true => said,
            false => said.or_else(|| response.body().exact_size()),
        };
        known.is_none_or(|length: u64| length >= self.config.min_size.max(1))
    }

    fn is_of_a_type(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::CONTENT_TYPE);
        let Some(text) = value.and_then(|value| value.to_str().ok()) else {
            return false;
        };
        let name = text.split(';').next().unwrap_or_default().trim();
        let name = name.to_ascii_lowercase();
        self.config
            .types
            .iter()
            .any(|pattern| pattern.admits(&name))
    }
}

/// RFC 9110 §12.5.3: of what the client takes best, what stands first in the list. A client that says nothing may take
/// anything, and gets what all understand.
fn choose(headers: &HeaderMap, algorithms: &[Algorithm]) -> Option<Algorithm> {
    let offers: Vec<(&str, u16)> = tokens(headers, header::ACCEPT_ENCODING)
        .filter_map(offer)
        .collect();
    let weight = |name: &str| {
        let find = |name: &str| {
            let mut named = offers.iter();
            named.find(|(offered, _)| offered.eq_ignore_ascii_case(name))
        };
        find(name).map(|(_, weight)| *weight)
    };
    let of = |algorithm: Algorithm| {
        let named = match algorithm {
            Algorithm::Gzip => weight("gzip").or_else(|| weight("x-gzip")),
            other => weight(other.name()),
        };
        named.or_else(|| weight("*")).unwrap_or(0)
    };
    let best = algorithms.iter().map(|algorithm| of(*algorithm)).max()?;
    let as_it_is = weight("identity").unwrap_or(0);
    let mut taken = algorithms.iter().copied();
    taken.find(|algorithm| best > 0 && best >= as_it_is && of(*algorithm) == best)
}

/// A coding and its weight in thousandths; `None` for what cannot be read.
fn offer(text: &str) -> Option<(&str, u16)> {
    let Some((name, parameter)) = text.split_once(';') else {
        return Some((text, 1000));
    };
    let (q, weight) = parameter.split_once('=')?;
    let weight: f32 = weight.trim().parse().ok()?;
    let legal = q.trim().eq_ignore_ascii_case("q") && (0.0..=1.0).contains(&weight);
    // In thousandths, as the grammar has it; the cast cannot truncate what is at most 1000.
    legal.then_some((name.trim(), (weight * 1000.0) as u16))
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(name).into_iter();
    let lists = lists.filter_map(|value| value.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

fn vary(headers: &mut HeaderMap) {
    let known = tokens(headers, header::VARY)
        .any(|token| token == "*" || token.eq_ignore_ascii_case("accept-encoding"));
    if !known {
        let value = HeaderValue::from_static("Accept-Encoding");
        headers.append(header::VARY, value);
    }
}

/// Takes off the head what was said of other bytes: a range of it cannot be asked for, and a strong validator would call the
/// two the same.
fn rename(headers: &mut HeaderMap, coding: Algorithm) {
    let coding = HeaderValue::from_static(coding.name());
    headers.insert(header::CONTENT_ENCODING, coding);
    headers.remove(header::ACCEPT_RANGES);
    for digest in ["content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(digest);
    }
    let strong = headers.get(header::ETAG).map(HeaderValue::as_bytes);
    if let Some(tag) = strong.filter(|tag| tag.starts_with(b"\"")) {
        let weak = [b"W/", tag].concat();
        match HeaderValue::from_bytes(&weak) {
            Ok(weak) => drop(headers.insert(header::ETAG, weak)),
            Err(_) => drop(headers.remove(header::ETAG)),
        }
    }
}

/// One of the algorithms, writing into memory.
pub(crate) enum Encoder {
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Zstd(_) => "Zstd",
            Self::Brotli(_) => "Brotli",
            Self::Gzip(_) => "Gzip",
        })
    }
}

impl Encoder {
    fn new(coding: Algorithm, level: Level) -> io::Result<Self> {
        let of = |fast, balanced, small| match level {
            Level::Fast => fast,
            Level::Balanced => balanced,
            Level::Small => small,
        };
        Ok(match coding {
            Algorithm::Zstd => {
                let level = of(1, 3, 7).try_into().unwrap_or(1);
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.window_log(WINDOW)?;
                Self::Zstd(Box::new(encoder))
            }
            Algorithm::Brotli => {
                let quality = of(1, 4, 6);
                let encoder = brotli::CompressorWriter::new(Vec::new(), PIECE, quality, WINDOW);
                Self::Brotli(Box::new(encoder))
            }
            Algorithm::Gzip => {
                let level = Compression::new(of(1, 5, 7));
                Self::Gzip(Box::new(GzEncoder::new(Vec::new(), level)))
            }
        })
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        match self {
            Self::Zstd(encoder) => encoder.write_all(piece)?,
            Self::Brotli(encoder) => encoder.write_all(piece)?,
            Self::Gzip(encoder) => encoder.write_all(piece)?,
        }
        Ok(self.take())
    }

    /// Everything that was written can be read from what has come out then.
    fn flush(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Zstd(encoder) => encoder.flush()?,
            Self::Brotli(encoder) => encoder.flush()?,
            Self::Gzip(encoder) => encoder.flush()?,
        }
        Ok(self.take())
    }

    fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Gzip(encoder) => encoder.finish()?,
        }
        .into())
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        })
        .into()
    }
}

/// A body on its way through an encoder.
#[derive(Debug)]
pub(crate) struct Compressed {
    source: Body,
    /// `None` when it has ended.
    encoder: Option<Encoder>,
    /// What of the last piece the encoder has not seen yet.
    input: Bytes,
    /// The encoder may hold back something.
    unflushed: bool,
    /// Bytes since this gave way the last time.
    burst: usize,
    trailers: Option<HeaderMap>,
}

impl Compressed {
    pub(crate) fn source(&self) -> &Body {
        &self.source
    }

    pub(crate) fn new(source: Body, encoder: Encoder) -> Self {
        Self {
            source,
            encoder: Some(encoder),
            input: Bytes::new(),
            unflushed: false,
            burst: 0,
            trailers: None,
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let made = match ready!(self.poll_made(cx)) {
                Some(made) => made,
                None => return Poll::Ready(self.trailers.take().map(|t| Ok(Frame::trailers(t)))),
            };
            match made {
                Ok(made) if made.is_empty() => {}
                Ok(made) => return Poll::Ready(Some(Ok(Frame::data(made)))),
                Err(error) => {
                    self.encoder = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// What comes out of the encoder next, perhaps nothing; `None` at its end.
    fn poll_made(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(encoder) = &mut self.encoder else {
            return Poll::Ready(None);
        };
        if !self.input.is_empty() {
            if self.burst >= BURST {
                self.burst = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let piece = self.input.split_to(self.input.len().min(PIECE));
            self.burst += piece.len();
            self.unflushed = true;
            return Poll::Ready(Some(encoder.write(&piece).map_err(BodyError::from)));
        }
        match Pin::new(&mut self.source).poll_frame(cx) {
            Poll::Pending if self.unflushed => {
                self.unflushed = false;
                Poll::Ready(Some(encoder.flush().map_err(BodyError::from)))
            }
            Poll::Pending => {
                self.burst = 0;
                Poll::Pending
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    self.input = data;
                    Poll::Ready(Some(Ok(Bytes::new())))
                }
                Err(frame) => {
                    self.trailers = frame.into_trailers().ok();
                    Poll::Ready(self.finish())
                }
            },
            Poll::Ready(None) => Poll::Ready(self.finish()),
        }
    }

    fn finish(&mut self) -> Option<Result<Bytes, BodyError>> {
        let finished = self.encoder.take()?.finish();
        Some(finished.map_err(BodyError::from))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::config::TypePattern;

    fn chosen(accepted: &[&str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for value in accepted {
            headers.append(header::ACCEPT_ENCODING, value.parse().expect("a value"));
        }
        let all = [Algorithm::Zstd, Algorithm::Brotli, Algorithm::Gzip];
        choose(&headers, &all).map(Algorithm::name)
    }

    #[test]
    fn a_client_gets_what_it_takes_best_and_the_operator_prefers() {
        for (accepted, coding) in [
            (&[][..], None),
            (&[""], None),
            (&["gzip, deflate, br, zstd"], Some("zstd")),
            (&["gzip, br"], Some("br")),
            (&["gzip", "br;q=0.9"], Some("gzip")),
            (&["gzip;q=0.5, br;q=0.501"], Some("br")),
            (&["GZIP ; Q=1"], Some("gzip")),
            (&["x-gzip"], Some("gzip")),
            (&["*"], Some("zstd")),
            (&["zstd;q=0, *"], Some("br")),
            (&["*;q=0"], None),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000"], None),
            (&["identity, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip"], Some("gzip")),
            (&["gzip;q=2"], None),
            (&["gzip;q=nan"], None),
            (&["gzip;level=9"], None),
            (&["deflate"], None),
        ] {
            assert_eq!(chosen(accepted), coding, "{accepted:?}");
        }
    }

    fn decoded(coding: Algorithm, bytes: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        // What was flushed can be read, though the end has not come; how far that goes is what counts.
        let _unfinished = match coding {
            Algorithm::Zstd => zstd::stream::read::Decoder::new(bytes)
                .expect("a decoder")
                .read_to_end(&mut decoded),
            Algorithm::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut decoded),
            Algorithm::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut decoded),
        };
        decoded
    }

    #[test]
    fn what_was_flushed_can_be_read_and_the_end_is_one() {
        for coding in [Algorithm::Zstd, Algorithm::Brotli, Algorithm::Gzip] {
            for level in [Level::Fast, Level::Balanced, Level::Small] {
                let mut encoder = Encoder::new(coding, level).expect("an encoder");
                let mut sent = encoder.write(b"first ").expect("it is written").to_vec();
                sent.extend_from_slice(&encoder.flush().expect("it is flushed"));
                assert_eq!(decoded(coding, &sent), b"first ", "{coding:?} {level:?}");
                let large = b"and what comes then ".repeat(20_000);
                for piece in large.chunks(PIECE) {
                    sent.extend_from_slice(&encoder.write(piece).expect("it is written"));
                }
                sent.extend_from_slice(&encoder.finish().expect("it ends"));
                assert_eq!(decoded(coding, &sent).len(), 6 + large.len(), "{coding:?}");
                assert!(sent.len() * 20 < large.len(), "{coding:?}: {}", sent.len());
            }
        }
    }

    fn response(headers: &[(&str, &str)], status: u16, length: usize) -> Response<Body> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let body = Body::full(vec![b'a'; length]);
        response.body(body).expect("a response")
    }

    fn applied(response: Response<Body>, method: &Method) -> Response<Body> {
        let config = Compress {
            algorithms: vec![Algorithm::Gzip],
            types: vec![TypePattern::parse("text/*")],
            min_size: 100,
            level: Level::Fast,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let wanted = Wanted::by(&config, method, &headers);
        wanted.apply(response).expect("an encoder")
    }

    #[test]
    fn a_compressed_response_says_what_it_is() {
        let sent = response(
            &[
                ("content-type", "Text/HTML; charset=utf-8"),
                ("content-length", "100"),
                ("etag", "\"x\""),
                ("vary", "Origin"),
                ("accept-ranges", "bytes"),
                ("content-digest", "sha-256=:x:"),
            ],
            200,
            100,
        );
        let response = applied(sent, &Method::GET);
        let headers = response.headers();
        assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
        assert_eq!(headers[header::ETAG], "W/\"x\"");
        let vary: Vec<_> = headers.get_all(header::VARY).iter().collect();
        assert_eq!(vary, ["Origin", "Accept-Encoding"]);
        for gone in ["content-length", "accept-ranges", "content-digest"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(response.body().exact_size(), None);
    }

    #[test]
    fn what_may_not_be_compressed_or_is_not_worth_it_stays_as_it_is() {
        let text = ("content-type", "text/plain");
        for (why, sent) in [
            ("too short", response(&[text], 200, 99)),
            (
                "said to be too short",
                response(&[text, ("content-length", "99")], 200, 0),
            ),
            ("empty", response(&[text], 200, 0)),
            (
                "another type",
                response(&[("content-type", "image/png")], 200, 500),
            ),
            ("no type", response(&[], 200, 500)),
            (
                "coded already",
                response(&[text, ("content-encoding", "br")], 200, 500),
            ),
            (
                "a part",
                response(&[text, ("content-range", "bytes 0-499/900")], 206, 500),
            ),
            (
                "no-transform",
                response(&[text, ("cache-control", "public, No-Transform")], 200, 500),
            ),
            ("101", response(&[text], 101, 0)),
            ("204", response(&[text], 204, 0)),
            ("205", response(&[text], 205, 0)),
        ] {
            let before = sent.headers().clone();
            assert_eq!(*applied(sent, &Method::GET).headers(), before, "{why}");
        }
    }

    #[test]
    fn what_stands_for_a_compressed_response_varies_and_has_no_length() {
        let text = ("content-type", "text/plain");
        let head = applied(
            response(&[text, ("content-length", "500")], 200, 0),
            &Method::HEAD,
        );
        assert_eq!(head.headers()[header::VARY], "Accept-Encoding");
        assert!(!head.headers().contains_key(header::CONTENT_LENGTH));
        assert!(!head.headers().contains_key(header::CONTENT_ENCODING));
        let unchanged = applied(response(&[("etag", "\"x\"")], 304, 0), &Method::GET);
        assert_eq!(unchanged.headers()[header::VARY], "Accept-Encoding");
        assert_eq!(unchanged.headers()[header::ETAG], "\"x\"");
    }
}
