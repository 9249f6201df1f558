//! Reads `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::model::{AccessLog, AccessLogTo};
use super::shape::{path, size_within, table};
use super::suggest::{did_you_mean, enumerate};
use super::value::Value;
use super::{Item, Section};
use crate::access::LineFormat;

/// 4 MiB: some ten thousand lines, a second of a busy machine.
const BUFFER: usize = 4 << 20;

pub(super) fn read(section: &mut Section<'_>) -> Option<Option<AccessLog>> {
    Some(section.optional("access", table(access)))
}

fn access(section: &mut Section<'_>) -> Option<AccessLog> {
    let to = section.required("to", "\"stdout\"", destination);
    let format = section.default("format", LineFormat::Json, format);
    let buffer = section.default("buffer", BUFFER, size_within(64 << 10..=1 << 30));
    Some(AccessLog {
        to: to?,
        format,
        buffer,
        location: section.location(),
    })
}

fn destination(item: &Item<'_>) -> Option<AccessLogTo> {
    const WORDS: &str =
        "\"stdout\", \"stderr\", { file = \"access.log\" } or { syslog = \"/dev/log\" }";
    match item.value() {
        Value::String(text) if text == "stdout" => Some(AccessLogTo::Stdout),
        Value::String(text) if text == "stderr" => Some(AccessLogTo::Stderr),
        Value::Table(_) => table(|section: &mut Section<'_>| {
            let to_file = section.optional("file", file);
            let to_syslog = section.optional("syslog", syslog);
            match (to_file, to_syslog) {
                (Some(path), None) => Some(AccessLogTo::File(path)),
                (None, Some(to)) => Some(to),
                _ if section.reader().has_errors() => None,
                _ => item.reject("this is not one place", format!("write {WORDS}")),
            }
        })(item),
        Value::String(_) => item.reject(
            format!("{} is no place that lines are written to", item.shown()),
            format!("write {WORDS}"),
        ),
        _ => item.mismatch(WORDS),
    }
}

fn file(item: &Item<'_>) -> Option<PathBuf> {
    let path = path(item)?;
    let directory = path.parent().unwrap_or(&path);
    if path.is_dir() {
        return item.reject("this is a directory", "name a file in it");
    }
    match directory.as_os_str().is_empty() || directory.is_dir() {
        true => Some(path),
        false => item.reject(
            format!("the directory of {} is not there", item.shown()),
            "make it first; the file itself is made with mode 0640",
        ),
    }
}

fn syslog(item: &Item<'_>) -> Option<AccessLogTo> {
    let text = item.text("a socket, such as \"/dev/log\" or \"udp://192.0.2.1:514\"")?;
    if text.starts_with('/') {
        return path(item).map(AccessLogTo::SyslogSocket);
    }
    let address = text.strip_prefix("udp://");
    let address = address.and_then(|address| address.parse::<SocketAddr>().ok());
    address.map(AccessLogTo::SyslogUdp).or_else(|| {
        item.reject(
            format!("{} is no place of a syslog daemon", item.shown()),
            "write the path of a socket, \"/dev/log\", or an address with its port, \"udp://192.0.2.1:514\"",
        )
    })
}

fn format(item: &Item<'_>) -> Option<LineFormat> {
    let text = item.text("\"json\", \"common\", \"combined\" or text with {fields} in it")?;
    LineFormat::parse(text).map_or_else(
        |unknown| {
            if unknown != text {
                let known = LineFormat::FIELDS;
                let help = did_you_mean(&unknown, known).unwrap_or_else(|| {
                    format!("there are {} and {{attribute:PLUGIN.NOTE}}", enumerate(known))
                });
                return item.reject(format!("{{{unknown}}} is no field of a line"), help);
            }
            let help = "write \"json\", \"common\", \"combined\", or text with fields in it, such as \"{client} {method} {path} {status}\"";
            item.reject(format!("{} is no format", item.shown()), help)
        },
        Some,
    )
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::*;

    fn log(text: &str) -> Result<Option<AccessLog>, String> {
        let document =
            Document::parse("etc/a.toml", &format!("[log.access]\n{text}")).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let log = root.optional("log", table(read));
        root.finish();
        let read = reader.finish(log);
        read.map(|(log, _)| log).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn a_place_is_a_stream_a_file_or_a_syslog_daemon() {
        for (text, expected) in [
            ("to = 'stdout'", AccessLogTo::Stdout),
            ("to = 'stderr'", AccessLogTo::Stderr),
            (
                "to = { file = '/dev/full' }",
                AccessLogTo::File("/dev/full".into()),
            ),
            (
                "to = { syslog = '/dev/log' }",
                AccessLogTo::SyslogSocket("/dev/log".into()),
            ),
            (
                "to = { syslog = 'udp://127.0.0.1:514' }",
                AccessLogTo::SyslogUdp(([127, 0, 0, 1], 514).into()),
            ),
        ] {
            let log = log(text).expect(text).expect(text);
            assert_eq!(log.to, expected, "{text}");
            assert_eq!((log.format, log.buffer), (LineFormat::Json, BUFFER));
        }
    }

    #[test]
    fn what_is_no_place_and_what_is_no_format_is_told_with_what_would_be() {
        for (text, expected) in [
            ("to = 'syslog'", "no place that lines are written to"),
            ("to = {}", "not one place"),
            ("to = { file = '/no/such/directory/a' }", "is not there"),
            (
                "to = { syslog = 'udp://localhost:514' }",
                "no place of a syslog daemon",
            ),
            ("to = 'stdout'\nformat = 'clf'", "is no format"),
            ("to = 'stdout'\nformat = '{stauts}'", "status"),
            ("to = 'stdout'\nbuffer = '1kiB'", "buffer"),
        ] {
            let report = log(text).expect_err(text);
            assert!(report.contains(expected), "{text}: {report}");
        }
    }
}
