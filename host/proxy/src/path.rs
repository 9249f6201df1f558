//! The path of a request: its one normal form, and what else servers might read into it.
//!
//! RFC 3986 §6.2.2 says which spellings are one path. Servers go further, each its own way: some decode `%2F` before they
//! look at segments, some take `\` for `/`, several slashes for one, or leave out what follows a `;`. A path that one of
//! them reads otherwise than the router would get past whatever stands before the path that it really means.

use std::fmt::Write as _;

/// What about a path has to be looked at more closely.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// It is not in its normal form, or may not be.
    pub(crate) normalise: bool,
    /// Servers differ in how they read it.
    pub(crate) readings: bool,
}

/// Looks at a path, once and without copying it.
pub(crate) fn look(path: &str) -> Look {
    let mut look = Look::default();
    let mut before = 0;
    for byte in path.bytes() {
        match byte {
            b'%' | b'\\' => look.normalise = true,
            b'.' if before == b'/' => look.normalise = true,
            b'/' if before == b'/' => look.readings = true,
            b';' => look.readings = true,
            _ => {}
        }
        before = byte;
    }
    look
}

/// Whether servers differ in how they read a path in its normal form.
pub(crate) fn has_other_readings(normal: &str) -> bool {
    let escapes = ["%2F", "%5C", "%3B", "%25"];
    look(normal).readings || escapes.iter().any(|escape| normal.contains(escape))
}

/// Characters that say what a path's parts are once they are decoded.
const STRUCTURAL: &[u8] = b"/\\;%";
/// How often a path is decoded to find what it may mean. A proxy and what stands behind it may both do so, and one of them
/// twice.
const ROUNDS: usize = 3;

/// The normal form: dot segments resolved, unreserved characters decoded, other escapes in capitals (RFC 3986 §6.2.2).
///
/// # Errors
///
/// What has no reading at all: a broken escape, a NUL, a backslash, or a character of UTF-8 that is longer than it has
/// to be.
pub(crate) fn normal(path: &str) -> Result<String, &'static str> {
    if path.contains('\\') {
        return Err("the path holds a backslash");
    }
    Ok(remove_dot_segments(&decode_unreserved(path)?))
}

/// Every other way in which a server might read a path in its normal form, each in its normal form.
pub(crate) fn other_readings(path: &str) -> impl Iterator<Item = String> {
    // Whether a backslash is a slash, a semicolon begins a segment's parameters, and several slashes are one.
    let habits = (0..8).map(|bits| (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0));
    let habits: Vec<_> = habits.collect();
    spellings(path).into_iter().flat_map(move |spelling| {
        let read = move |(backslash, parameters, slashes)| {
            let mut path = spelling.clone();
            if backslash {
                path = path.replace('\\', "/");
            }
            if parameters {
                path = without_parameters(&path);
            }
            if slashes {
                path = with_single_slashes(&path);
            }
            remove_dot_segments(&path)
        };
        habits.clone().into_iter().map(read)
    })
}

/// Whether some server finds `.` or `..` among the segments of a path in its normal form. Such a path leads out of
/// whatever is put before it, wherever it goes.
pub(crate) fn hides_dot_segments(path: &str) -> bool {
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    let hides = |spelling: &String| spelling.split(['/', '\\']).any(is_dots);
    spellings(path).iter().any(hides)
}

/// A path as it is, and as it is once decoded, twice, and so on.
fn spellings(path: &str) -> Vec<String> {
    let mut spellings = vec![path.to_owned()];
    let mut spelling = path;
    let mut decoded;
    for _ in 0..ROUNDS {
        decoded = decode_leniently(spelling);
        if decoded == spelling {
            break;
        }
        spellings.push(decoded);
        spelling = spellings.last().expect("one was pushed");
    }
    spellings
}

/// What divides a path, and unreserved characters. Other escapes stay, since that is how routes write them; so does what
/// is none, and hides none that follows it.
fn decode_leniently(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        let byte = escaped(rest).filter(|byte| is_unreserved(*byte) || STRUCTURAL.contains(byte));
        decoded.push(byte.map_or('%', char::from));
        rest = &rest[if byte.is_some() { 3 } else { 1 }..];
    }
    decoded.push_str(rest);
    decoded
}

/// The byte that an escape at the beginning of `text` stands for.
fn escaped(text: &str) -> Option<u8> {
    let hex = text.get(1..3)?;
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(hex, 16).ok())?
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn without_parameters(path: &str) -> String {
    let segments = path.split('/');
    let names: Vec<&str> = segments
        .map(|segment| segment.split(';').next().unwrap_or(segment))
        .collect();
    names.join("/")
}

fn with_single_slashes(path: &str) -> String {
    let mut single = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !single.ends_with('/') {
            single.push(character);
        }
    }
    single
}

/// `%41` → `A`, `%2e` → `.`; everything else keeps its percent sign.
fn decode_unreserved(path: &str) -> Result<String, &'static str> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    let mut before = 0;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        if at > 0 {
            before = 0;
        }
        let byte = escaped(&rest[at..]);
        match byte {
            None | Some(0) => return Err("the path has a broken or forbidden percent escape"),
            // `%C0%AE` is a dot to whoever does not mind that UTF-8 has a shorter one.
            Some(next)
                if matches!(
                    (before, next),
                    (0xC0 | 0xC1, 0x80..=0xBF) | (0xE0, 0x80..=0x9F) | (0xF0, 0x80..=0x8F)
                ) =>
            {
                return Err("the path has a character of UTF-8 that is longer than it has to be");
            }
            Some(byte) if is_unreserved(byte) => decoded.push(char::from(byte)),
            Some(byte) => write!(decoded, "%{byte:02X}").expect("a String takes everything"),
        }
        before = byte.unwrap_or_default();
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Ok(decoded)
}

/// RFC 3986 §5.2.4, for an absolute path.
fn remove_dot_segments(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(segment) = parts.next() {
        let last = parts.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            other => {
                segments.push(other);
                continue;
            }
        }
        if last {
            segments.push("");
        }
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_normal_form() {
        for (sent, expected) in [
            ("/a/b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/../../etc", "/etc"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a%2fb%20c", "/a%2Fb%20c"),
            ("/%7euser/%c3%a4", "/~user/%C3%A4"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("//a", "//a"),
            ("/a//../b", "/a/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
        ] {
            assert_eq!(normal(sent).as_deref(), Ok(expected), "{sent}");
            assert_eq!(normal(expected).as_deref(), Ok(expected), "{expected}");
        }
    }

    #[test]
    fn what_has_no_reading_is_refused() {
        for broken in [
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/a%00b",
            "/a\\b",
            "/%c0%ae/",
            "/%C1%9c",
            "/%E0%80%AE",
            "/%e0%80%af",
            "/%F0%80%80%AF",
        ] {
            assert!(normal(broken).is_err(), "{broken}");
        }
        assert!(normal("/%C0x%AE").is_ok(), "this is Latin-1");
        assert!(
            normal("/%E0%A4%85%F0%9F%A6%80").is_ok(),
            "these are as short as can be"
        );
    }

    #[test]
    fn hidden_dot_segments_are_found() {
        for path in [
            "/x/..%2Fy",
            "/x%2F..",
            "/x/..;/y",
            "/x/.;a=b/y",
            "/x/..%3B/y",
            "/x%5C..%5Cy",
            "/x/%252E%252E/y",
            "/..%252Fy",
            "/x/%25252E%25252E/y",
            "/x/%25/%252E%252E/y",
            "/x/%25zz/%2500/%252E%252E/y",
        ] {
            let path = normal(path).expect(path);
            assert!(
                has_other_readings(&path) && hides_dot_segments(&path),
                "{path}"
            );
        }
        for path in [
            "/x%2Fy", "/..a;b/c", "/a..%2Fb", "/x//y", "/...;a", "/100%25",
        ] {
            assert!(!hides_dot_segments(path), "{path}");
        }
    }

    #[test]
    fn a_look_sees_what_may_not_be_as_it_seems() {
        for (path, normalise, readings) in [
            ("/", false, false),
            ("/a.b/c..d/e", false, false),
            ("/a/.b", true, false),
            ("/a%20", true, false),
            ("/a\\b", true, false),
            ("/a//b", false, true),
            ("//", false, true),
            ("/a;b", false, true),
        ] {
            let expected = Look {
                normalise,
                readings,
            };
            assert_eq!(look(path), expected, "{path}");
        }
        for path in ["/a%2Fb", "/a%5Cb", "/a%3Bb", "/%2561"] {
            assert!(has_other_readings(path), "{path}");
        }
        assert!(!has_other_readings("/a%20b"));
    }

    #[test]
    fn no_server_reads_a_path_in_a_way_that_is_not_known() {
        for (path, reading) in [
            ("//admin/x", "/admin/x"),
            ("/admin%2Fx", "/admin/x"),
            ("/public/..%2Fadmin", "/admin"),
            ("/public/%2E%2E%2Fadmin", "/admin"),
            ("/public%5C..%5Cadmin", "/admin"),
            ("/admin;v=1/x", "/admin/x"),
            ("/public/..;/admin", "/admin"),
            ("/public/..;x=%2F/admin", "/admin"),
            ("/public/..%3B/admin", "/admin"),
            ("/%2561dmin", "/admin"),
            ("/public/%252e%252e/admin", "/admin"),
            ("/public/..%252Fadmin", "/admin"),
            ("/public/..%255Cadmin", "/admin"),
            (
                "/public/x%2F..%2F..%2Fadmin%2F..;%2F..;%2Fpublic",
                "/admin/..;/..;/public",
            ),
            ("/.%25;;/%252e%252e/admin;a", "/admin"),
            ("/public/%25zz/%252e%252e/%252e%252e/admin", "/admin"),
            ("/%25252561dmin", "/%61dmin"),
            ("/my%20files//x", "/my%20files/x"),
        ] {
            let path = normal(path).expect(path);
            let mut readings = other_readings(&path);
            assert!(has_other_readings(&path), "{path}");
            assert!(readings.any(|other| other == reading), "{path}");
        }
    }
}
