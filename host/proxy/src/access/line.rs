//! What a line of the access log says, in the format that the configuration asks for.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Version, header};

use super::{Entry, milliseconds};

/// Bytes that are kept of what a client says of itself.
const LONGEST: usize = 512;

/// `log.access.format`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineFormat {
    /// An object.
    Json,
    /// Text with fields in it.
    Text(Vec<LinePiece>),
}

/// A part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinePiece {
    /// What stands there as it is.
    Text(Box<str>),
    /// What is known under this name.
    LineField(LineField),
    /// What a plugin noted: its name, and the note's.
    Attribute(Box<str>, Box<str>),
}

macro_rules! fields {
    ($($field:ident $name:literal),* $(,)?) => {
        /// What a line can say.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is told by its name")]
        pub enum LineField { $($field),* }

        impl LineFormat {
            /// The fields that text may have in it.
            pub const FIELDS: [&str; [$($name),*].len()] = [$($name),*];
        }

        impl LineField {
            fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$field),)* _ => None }
            }
        }
    };
}

fields! {
    Time "time", TimeCommon "time_common", RequestId "request_id", TraceId "trace_id", Listener "listener",
    Route "route", Client "client", Host "host", Method "method", Path "path", Protocol "protocol", Status "status",
    Upstream "upstream", Received "bytes_received", Sent "bytes_sent", Duration "duration_ms", UpstreamTime "upstream_ms",
    Referer "referer", UserAgent "user_agent", Attributes "attributes", Outcome "outcome", Fault "fault", Reason "reason",
}

/// <https://httpd.apache.org/docs/2.4/logs.html#common>, without the query, which may hold secrets.
const COMMON: &str =
    r#"{client} - - [{time_common}] "{method} {path} {protocol}" {status} {bytes_sent}"#;
const COMBINED: &str = r#"{client} - - [{time_common}] "{method} {path} {protocol}" {status} {bytes_sent} "{referer}" "{user_agent}""#;

impl LineFormat {
    /// Reads the name of a format, or text with `{fields}` in it.
    ///
    /// # Errors
    ///
    /// What is neither: the field that is not known, or all of a text without any.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "json" => return Ok(Self::Json),
            "common" => return Self::parse(COMMON),
            "combined" => return Self::parse(COMBINED),
            _ if !text.contains('{') => return Err(text.to_owned()),
            _ => {}
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or_else(|| text.to_owned())?;
            if !before.is_empty() {
                pieces.push(LinePiece::Text(before.into()));
            }
            let note = name.strip_prefix("attribute:");
            pieces.push(match note.and_then(|note| note.split_once('.')) {
                Some((plugin, note)) => LinePiece::Attribute(plugin.into(), note.into()),
                None => LinePiece::LineField(LineField::of(name).ok_or_else(|| name.to_owned())?),
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(LinePiece::Text(rest.into()));
        }
        Ok(Self::Text(pieces))
    }

    /// Whether a line says what only the request's own fields tell.
    pub(super) fn asks_for_client(&self) -> bool {
        let asks = |piece: &LinePiece| {
            matches!(
                piece,
                LinePiece::LineField(
                    LineField::Referer | LineField::UserAgent | LineField::Protocol
                )
            )
        };
        match self {
            Self::Json => true,
            Self::Text(pieces) => pieces.iter().any(asks),
        }
    }
}

/// What a request says of its client, for the formats that show it. Copies, since a header field is a part of the buffer
/// that the head was read into.
#[derive(Debug)]
pub(super) struct Said {
    protocol: &'static str,
    /// Without its query, which may hold secrets.
    referer: Option<Box<str>>,
    user_agent: Option<Box<str>>,
}

impl Said {
    pub(super) fn by(version: Version, headers: &HeaderMap) -> Self {
        Self {
            protocol: protocol(version),
            referer: headers.get(header::REFERER).map(|value| {
                let text = shortened(value);
                text.split(['?', '#']).next().unwrap_or_default().into()
            }),
            user_agent: headers.get(header::USER_AGENT).map(shortened),
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// A field's text, cut when it is long.
pub(crate) fn shortened(value: &HeaderValue) -> Box<str> {
    let text = String::from_utf8_lossy(value.as_bytes());
    text[..text.floor_char_boundary(LONGEST)].into()
}

/// A line to be written.
pub(super) struct Line<'a> {
    pub(super) entry: &'a Entry,
    /// `exchange`, or `upgraded` for a connection that has become a tunnel.
    pub(super) event: &'static str,
    pub(super) at: SystemTime,
    /// Of an exchange that is over.
    pub(super) duration: Option<Duration>,
}

impl Line<'_> {
    /// The line with its end; `None` when the format has none for such an event.
    pub(super) fn written(&self, format: &LineFormat) -> Option<Vec<u8>> {
        match format {
            LineFormat::Json => Some(self.json()),
            LineFormat::Text(_) if self.duration.is_none() => None,
            LineFormat::Text(pieces) => Some(self.text(pieces)),
        }
    }

    fn text(&self, pieces: &[LinePiece]) -> Vec<u8> {
        let mut line = String::with_capacity(256);
        for piece in pieces {
            match piece {
                LinePiece::Text(text) => line.push_str(text),
                LinePiece::LineField(field) => push_escaped(&mut line, &self.field(*field)),
                LinePiece::Attribute(plugin, note) => {
                    let value = self.entry.attributes.get(plugin, note);
                    push_escaped(&mut line, &value.unwrap_or_default());
                }
            }
        }
        line.push('\n');
        line.into_bytes()
    }

    fn field(&self, field: LineField) -> Cow<'_, str> {
        let entry = self.entry;
        let said = entry.said.as_deref();
        let (outcome, fault, reason) = entry.outcome.words();
        let time = |time: Option<Duration>| {
            time.map_or(Cow::from(""), |time| milliseconds(time).to_string().into())
        };
        match field {
            LineField::Time => rfc3339(self.at).into(),
            LineField::TimeCommon => common_time(self.at).into(),
            LineField::RequestId => Cow::from(&*entry.request_id),
            LineField::TraceId => entry.trace.as_deref().unwrap_or_default().into(),
            LineField::Listener => Cow::from(&*entry.listener),
            LineField::Route => Cow::from(&*entry.route),
            LineField::Client => entry.client.to_string().into(),
            LineField::Host => Cow::from(&*entry.host),
            LineField::Method => entry.method.as_str().into(),
            LineField::Path => entry.path().into(),
            LineField::Protocol => said.map_or("", |said| said.protocol).into(),
            LineField::Status => entry
                .status
                .map_or(0, |status| status.as_u16())
                .to_string()
                .into(),
            LineField::Upstream => entry.upstream.as_deref().unwrap_or_default().into(),
            LineField::Received => entry.received.bytes().to_string().into(),
            LineField::Sent => entry.sent.bytes().to_string().into(),
            LineField::Duration => time(self.duration),
            LineField::UpstreamTime => time(entry.upstream_time),
            LineField::Referer => said
                .and_then(|said| said.referer.as_deref())
                .unwrap_or_default()
                .into(),
            LineField::UserAgent => said
                .and_then(|said| said.user_agent.as_deref())
                .unwrap_or_default()
                .into(),
            LineField::Attributes => entry.attributes().into(),
            LineField::Outcome => outcome.into(),
            LineField::Fault => fault.into(),
            LineField::Reason => reason,
        }
    }

    /// The same names as in the process's own log.
    fn json(&self) -> Vec<u8> {
        const TOLD_OF_AN_UPGRADE: [LineField; 8] = [
            LineField::RequestId,
            LineField::Listener,
            LineField::Route,
            LineField::Client,
            LineField::Host,
            LineField::Path,
            LineField::Upstream,
            LineField::TraceId,
        ];
        const TEXTS: [(&str, LineField); 15] = [
            ("request_id", LineField::RequestId),
            ("trace_id", LineField::TraceId),
            ("listener", LineField::Listener),
            ("route", LineField::Route),
            ("client", LineField::Client),
            ("host", LineField::Host),
            ("method", LineField::Method),
            ("path", LineField::Path),
            ("protocol", LineField::Protocol),
            ("upstream", LineField::Upstream),
            ("referer", LineField::Referer),
            ("user_agent", LineField::UserAgent),
            ("outcome", LineField::Outcome),
            ("fault", LineField::Fault),
            ("reason", LineField::Reason),
        ];
        let mut line = format!("{{\"timestamp\":\"{}\"", rfc3339(self.at));
        push_json(&mut line, "message", self.event);
        for (name, field) in TEXTS {
            if self.duration.is_none() && !TOLD_OF_AN_UPGRADE.contains(&field) {
                continue;
            }
            let value = self.field(field);
            if !value.is_empty() {
                push_json(&mut line, name, &value);
            }
        }
        let numbers = [
            ("status", LineField::Status),
            ("bytes_received", LineField::Received),
            ("bytes_sent", LineField::Sent),
            ("duration_ms", LineField::Duration),
            ("upstream_ms", LineField::UpstreamTime),
        ];
        for (name, field) in numbers {
            let value = self.field(field);
            if self.duration.is_some() && !value.is_empty() {
                line.push_str(&format!(",\"{name}\":{value}"));
            }
        }
        let mut separator = ",\"attributes\":{";
        self.entry.attributes.for_each(|plugin, note, value| {
            line.push_str(separator);
            separator = ",";
            push_string(&mut line, &format!("{plugin}.{note}"));
            line.push(':');
            push_string(&mut line, value);
        });
        if separator == "," {
            line.push('}');
        }
        line.push_str("}\n");
        line.into_bytes()
    }
}

fn push_json(line: &mut String, name: &str, value: &str) {
    line.push_str(",\"");
    line.push_str(name);
    line.push_str("\":");
    push_string(line, value);
}

fn push_string(line: &mut String, value: &str) {
    let quoted = serde_json::to_string(value).expect("a string is a value of JSON");
    line.push_str(&quoted);
}

/// What a client sends must not end a line, nor a text in quotes; what is empty is a dash.
fn push_escaped(line: &mut String, value: &str) {
    if value.is_empty() {
        return line.push('-');
    }
    for character in value.chars() {
        match character {
            '"' => line.push_str("\\x22"),
            '\\' => line.push_str("\\x5C"),
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    line.push_str(&format!("\\x{byte:02X}"));
                }
            }
            other => line.push(other),
        }
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar
/// (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

fn since_1970(at: SystemTime) -> (u64, u32) {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    (since.as_secs(), since.subsec_micros())
}

/// `2026-01-31T12:34:56.123456Z`
pub(super) fn rfc3339(at: SystemTime) -> String {
    let (seconds, micros) = since_1970(at);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// `31/Jan/2026:12:34:56 +0000`
fn common_time(at: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (seconds, _) = since_1970(at);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let month = MONTHS[usize::try_from(month - 1).unwrap_or(0) % 12];
    format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_the_calendar() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_827_696, "2000-02-29T12:34:56.000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(at(seconds)), expected);
        }
        assert_eq!(common_time(at(951_827_696)), "29/Feb/2000:12:34:56 +0000");
    }

    #[test]
    fn what_is_sent_ends_neither_a_line_nor_a_quoted_text() {
        let mut line = String::new();
        push_escaped(&mut line, "a\n\"b\\\u{7f}\u{85}é");
        assert_eq!(line, r"a\x0A\x22b\x5C\x7F\xC2\x85é");
        line.clear();
        push_escaped(&mut line, "");
        assert_eq!(line, "-");
    }

    #[test]
    fn a_format_is_a_name_or_text_with_known_fields() {
        for name in ["common", "combined", "{client} {attribute:auth.user}!"] {
            assert!(
                matches!(LineFormat::parse(name), Ok(LineFormat::Text(_))),
                "{name}"
            );
        }
        for (wrong, field) in [("clf", "clf"), ("{a} b", "a"), ("{client", "{client")] {
            assert_eq!(LineFormat::parse(wrong), Err(field.to_owned()));
        }
    }
}
