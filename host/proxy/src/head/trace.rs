//! W3C Trace Context: a trace that a request is part of is continued, or one is begun.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::TraceContext;
use crate::telemetry::traceparent;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A trace, as `traceparent` tells of it: `00-TRACE-PARENT-FLAGS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent<'a> {
    /// 32 hex digits, not all 0.
    trace: &'a str,
    /// Not 0.
    span: u64,
    flags: u8,
}

/// The trace that an exchange is part of, and our span in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    /// 32 hex digits.
    pub(crate) trace: Arc<str>,
    pub(crate) span: u64,
    /// The caller's span.
    pub(crate) parent: Option<u64>,
    flags: u8,
}

impl Joined {
    /// Whether the trace is recorded.
    pub(crate) fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// `traceparent` with another span of ours.
    pub(crate) fn field(&self, span: u64) -> HeaderValue {
        traceparent(&self.trace, span, self.flags)
    }
}

/// The caller records the trace.
const SAMPLED: u8 = 0b1;

/// What [`TraceContext::sampled`] is a part of.
const MILLION: u64 = 1_000_000;

/// That the caller records the trace, and that its id is random (level 2).
const KNOWN_FLAGS: u8 = 0b11;

/// Puts a span of ours in the place of the caller's, in the caller's trace. Without one that can be read, `tracestate` means
/// nothing and goes; then a trace is begun, if that is wanted.
pub(crate) fn carry_on(
    headers: &mut HeaderMap,
    config: &TraceContext,
    random: impl Fn() -> u64,
) -> Option<Joined> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let parent = match (given.next(), given.next()) {
        (Some(one), None) => one.to_str().ok().and_then(parse),
        _ => None,
    };
    let is_drawn = || random() % MILLION < u64::from(config.sampled);
    let (trace, flags, above): (Arc<str>, u8, _) = match parent {
        Some(parent) => {
            let flags = match (config.parent_based, is_drawn) {
                (true, _) => parent.flags,
                (false, is_drawn) => parent.flags & !SAMPLED | u8::from(is_drawn()),
            };
            (parent.trace.into(), flags, Some(parent.span))
        }
        None => {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
            if !config.begin {
                return None;
            }
            let id = u128::from(some(&random)) << 64 | u128::from(random());
            (format!("{id:032x}").into(), u8::from(is_drawn()), None)
        }
    };
    if !is_trace_state(headers) {
        headers.remove(TRACESTATE);
    }
    let joined = Joined {
        trace,
        span: some(&random),
        parent: above,
        flags,
    };
    headers.insert(TRACEPARENT, joined.field(joined.span));
    Some(joined)
}

/// An id must not be 0.
fn some(random: &impl Fn() -> u64) -> u64 {
    random().max(1)
}

/// Of a version that is not known yet, only what this one has is read (§4.3).
fn parse(field: &str) -> Option<Parent<'_>> {
    let bytes = field.as_bytes();
    let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
    if !dashes || !field.is_ascii() {
        return None;
    }
    let digits = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (version, trace) = (field.get(..2)?, field.get(3..35)?);
    let (span, flags) = (field.get(36..52)?, field.get(53..55)?);
    let is_zero = |id: &str| id.bytes().all(|digit| digit == b'0');
    let ends = match version {
        "00" => bytes.len() == 55,
        _ => matches!(bytes.get(55), None | Some(b'-')),
    };
    let legal = [version, trace, span, flags].into_iter().all(digits)
        && version != "ff"
        && !is_zero(trace)
        && !is_zero(span)
        && ends;
    let flags = u8::from_str_radix(flags, 16).ok()? & KNOWN_FLAGS;
    let span = u64::from_str_radix(span, 16).ok()?;
    legal.then_some(Parent { trace, span, flags })
}

/// Whether all of it can be read (§3.3.1): at most 32 members `key=value`. Nothing at all is fine.
fn is_trace_state(headers: &HeaderMap) -> bool {
    let mut members = 0;
    headers.get_all(TRACESTATE).iter().all(|field| {
        let Ok(list) = field.to_str() else {
            return false;
        };
        list.split(',').map(str::trim).all(|member| {
            members += usize::from(!member.is_empty());
            members <= 32 && (member.is_empty() || is_member(member))
        })
    })
}

fn is_member(member: &str) -> bool {
    let legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    member.split_once('=').is_some_and(|(key, value)| {
        (1..=256).contains(&key.len())
            && key.bytes().all(legal)
            && (1..=256).contains(&value.len())
            && !value.contains('=')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn carried(fields: &[(&'static str, String)], begin: bool) -> (HeaderMap, Option<Arc<str>>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = value.parse().expect("a header value");
            headers.append(HeaderName::from_static(name), value);
        }
        let config = TraceContext {
            begin,
            sampled: 1_000_000,
            parent_based: true,
        };
        let joined = carry_on(&mut headers, &config, || 0xabc);
        (headers, joined.map(|joined| joined.trace))
    }

    #[test]
    fn a_trace_is_continued_with_a_span_of_ours() {
        for (sent, continued) in [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), "01"),
            (format!("00-{TRACE}-00f067aa0ba902b7-00"), "00"),
            (format!("00-{TRACE}-00f067aa0ba902b7-fd"), "01"),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01-what-comes"), "01"),
        ] {
            let fields = [
                ("traceparent", sent.clone()),
                ("tracestate", "a=1,b@c=x y".into()),
            ];
            let (headers, trace) = carried(&fields, false);
            assert_eq!(trace.as_deref(), Some(TRACE), "{sent}");
            let expected = format!("00-{TRACE}-0000000000000abc-{continued}");
            assert_eq!(headers["traceparent"], expected, "{sent}");
            assert_eq!(headers["tracestate"], "a=1,b@c=x y");
        }
    }

    #[test]
    fn what_is_malformed_is_replaced_or_taken_off() {
        let zeros = "0".repeat(32);
        for sent in [
            String::new(),
            "00".into(),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("00-{TRACE}-00f067aa0ba902b7-1"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{zeros}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("cc-{TRACE}-00f067aa0ba902b7-01x"),
        ] {
            let fields = [("traceparent", sent.clone()), ("tracestate", "a=1".into())];
            let (headers, trace) = carried(&fields, false);
            assert_eq!((headers.len(), trace), (0, None), "{sent}");
            let (headers, trace) = carried(&fields, true);
            let trace = trace.expect("one is begun");
            assert_eq!(
                headers["traceparent"],
                format!("00-{trace}-0000000000000abc-01")
            );
            assert_eq!(headers.len(), 1, "{sent}");
        }
        let twice = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let (headers, _) = carried(
            &[("traceparent", twice.clone()), ("traceparent", twice)],
            false,
        );
        assert!(headers.is_empty());
    }

    #[test]
    fn a_state_that_cannot_be_read_goes_and_the_trace_stays() {
        for state in ["a", "a=", "=b", "A=b", "a=b=c", &"a=b,".repeat(33)] {
            let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
            let fields = [("traceparent", parent), ("tracestate", state.to_owned())];
            let (headers, trace) = carried(&fields, false);
            assert_eq!(
                (headers.len(), trace.as_deref()),
                (1, Some(TRACE)),
                "{state}"
            );
        }
    }
}
