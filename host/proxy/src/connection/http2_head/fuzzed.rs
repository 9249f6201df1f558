//! What is settled of a head of HTTP/2, written as HTTP/1.1, is one message and the same one.

use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header, request};

use super::settle;
use crate::framing::Framing;

/// As many fields as a listener takes by default.
const MOST_FIELDS: usize = 100;

/// A head from lines: the method, the URI that h2 makes of the pseudo-header fields, and a field in each of the others.
pub fn http2_head(data: &[u8]) {
    let Some(mut parts) = parts(data) else {
        return;
    };
    let sent = parts.headers.len();
    if settle(&mut parts, MOST_FIELDS).is_err() {
        return;
    }
    assert_eq!(parts.version, Version::HTTP_11);
    let hosts: Vec<_> = parts.headers.get_all(header::HOST).iter().collect();
    assert!(parts.uri.authority().is_none() || parts.method == Method::CONNECT);
    for once in [header::COOKIE, header::CONTENT_LENGTH, header::TE] {
        assert!(parts.headers.get_all(once).iter().count() <= 1);
    }
    // Several are refused where those of HTTP/1.1 are.
    if hosts.len() > 1 || parts.method == Method::CONNECT {
        return;
    }
    // One for `Host`, one for `TE`, one for `Transfer-Encoding`.
    assert!(parts.headers.len() <= sent + 3);
    let text = written(&parts);
    let mut followed = text.clone();
    let mut framing = Framing::default();
    assert_eq!(
        framing.follow(&mut followed),
        Ok(()),
        "{:?}",
        String::from_utf8_lossy(&text)
    );
    let ends = text.windows(4).position(|four| four == b"\r\n\r\n");
    assert_eq!(ends, Some(text.len() - 4), "it ends where it was to end");
}

fn parts(data: &[u8]) -> Option<request::Parts> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let method = Method::from_bytes(lines.next()?).ok()?;
    let uri = Uri::try_from(lines.next()?).ok()?;
    // As h2 has it.
    if uri.path_and_query().is_none() && method != Method::CONNECT {
        return None;
    }
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    for line in lines.take(2 * MOST_FIELDS) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_lowercase(&line[..colon]).ok()?;
        // hyper refuses it before.
        if matches!(
            name,
            header::TRANSFER_ENCODING | header::CONNECTION | header::UPGRADE
        ) {
            continue;
        }
        let value = HeaderValue::from_bytes(&line[colon + 1..]).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request.into_parts().0)
}

fn written(parts: &request::Parts) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
    for (name, value) in &parts.headers {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend(b"\r\n");
    text
}
