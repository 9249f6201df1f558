//! One message, one reading: what a client's bytes pass before hyper parses them.
//!
//! hyper is lenient where RFC 9112 lets a recipient be: it takes a bare LF for the end of a line, equal lengths that are
//! repeated for one, `Transfer-Encoding` for the winner over `Content-Length`. Each of these is a message that somebody
//! else in the chain may read otherwise, which is what request smuggling is made of. [`Framing`] follows the messages of
//! a connection and spoils whatever has two readings, so that hyper refuses it with 400 and the connection ends. What hyper
//! refuses itself is not looked for again: control bytes, white space before a colon, `Transfer-Encoding` in HTTP/1.0, a chunk
//! without its CRLF.

use std::fmt;

use memchr::memchr;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;

/// How much is kept of a line whose end has not come. The fields that matter here are shorter; of a longer line only its
/// beginning is looked at.
const KEPT: usize = 256;

/// A chunk's size has as many digits as 64 bits need.
const MOST_DIGITS: u8 = 16;

/// Why a message is refused. The sections are those of RFC 9112.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    BareLineFeed,
    BlankLines,
    FoldedLine,
    BadLength,
    RepeatedLength,
    UnknownCoding,
    RepeatedCoding,
    LengthAndCoding,
    BadChunkSize,
    BadChunkExtension,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareLineFeed => "a line ends with LF alone (§2.2)",
            Self::BlankLines => "blank lines come before the request (§2.2)",
            Self::FoldedLine => "a field is folded over lines (§5.2)",
            Self::BadLength => "Content-Length is no number (§6.2)",
            Self::RepeatedLength => "there are two Content-Length (§6.3)",
            Self::UnknownCoding => "Transfer-Encoding is not `chunked` alone (§6.1)",
            Self::RepeatedCoding => "there are two Transfer-Encoding (§6.1)",
            Self::LengthAndCoding => "there are both Content-Length and Transfer-Encoding (§6.1)",
            Self::BadChunkSize => "the size of a chunk is no number (§7.1)",
            Self::BadChunkExtension => {
                "there is a control byte behind the size of a chunk (§7.1.1)"
            }
        })
    }
}

impl std::error::Error for Refusal {}

/// Follows the requests of one connection of HTTP/1.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    state: State,
    head: Head,
    /// The beginning of a line whose end has not come.
    kept: Vec<u8>,
    /// The line goes on behind what is kept of it; whether the last byte there was CR.
    cut: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a request line, behind a blank line or not.
    Start {
        blank: bool,
    },
    /// Within the fields of a head.
    Fields,
    /// So many bytes of the content are still to come.
    Content(u64),
    /// Within the size of a chunk.
    ChunkSize {
        size: u64,
        digits: u8,
    },
    /// Behind the size, in the extensions, up to the end of its line.
    ChunkLine {
        size: u64,
        after_cr: bool,
    },
    /// So many bytes of the chunk, and the CRLF behind it, are still to come.
    Chunk(u64),
    /// Within the trailer section.
    Trailers,
    /// The client asks for another protocol, and nobody has answered: what comes next may be of that protocol.
    Asked {
        more: bool,
    },
    Refused(Refusal),
}

impl Default for State {
    fn default() -> Self {
        Self::Start { blank: false }
    }
}

/// A request for another protocol that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Bytes came behind it, of a protocol that is not known yet: they cannot be read as HTTP later.
    pub(crate) more: bool,
}

/// What the fields of the current head say about its framing.
#[derive(Debug, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl Framing {
    /// Looks at the bytes that came next. What has two readings, and all that comes behind it, is overwritten by NUL, which
    /// hyper refuses wherever a head or the size of a chunk may stand.
    ///
    /// # Errors
    ///
    /// The first refusal, at this call and at each one after it.
    pub(crate) fn follow(&mut self, bytes: &mut [u8]) -> Result<(), Refusal> {
        let mut at = 0;
        while at < bytes.len() {
            match self.step(&bytes[at..]) {
                Ok(taken) => at += taken,
                Err(refusal) => {
                    self.state = State::Refused(refusal);
                    bytes[at..].fill(0);
                    return Err(refusal);
                }
            }
        }
        Ok(())
    }

    /// The client has asked for another protocol, and the answer decides what comes behind the request.
    pub(crate) fn asked(&self) -> Option<Asked> {
        match self.state {
            State::Asked { more } => Some(Asked { more }),
            State::Start { .. } | State::Fields | State::Refused(_) => None,
            _ => self.head.upgrade.then_some(Asked { more: false }),
        }
    }

    /// The other protocol was refused: what comes behind the request, whose content may still be on its way, is HTTP.
    pub(crate) fn go_on(&mut self) {
        self.head.upgrade = false;
        if matches!(self.state, State::Asked { .. }) {
            self.state = State::default();
        }
    }

    /// The next byte begins a message: the client owes nothing of the one before.
    pub(crate) fn is_between_messages(&self) -> bool {
        match self.state {
            State::Start { .. } => self.kept.is_empty(),
            State::Asked { .. } => true,
            _ => false,
        }
    }

    /// What was refused before.
    pub(crate) fn refused(&self) -> Option<Refusal> {
        match self.state {
            State::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// One line, or one stretch of a body: how many bytes of `rest`, which is not empty, it took.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Refusal> {
        match self.state {
            State::Start { .. } | State::Fields | State::Trailers => self.line(rest),
            State::Content(left) => {
                let taken = clamp(left, rest);
                self.state = match left - taken as u64 {
                    0 => self.head.behind(),
                    left => State::Content(left),
                };
                Ok(taken)
            }
            State::ChunkSize { size, digits } => {
                self.state = chunk_size(size, digits, rest[0])?;
                Ok(1)
            }
            State::ChunkLine {
                size,
                after_cr: false,
            } => {
                // CR is no part of an extension: it begins the end of the line.
                let control = rest.iter().position(|&byte| is_control(byte));
                match control.map(|at| (at, rest[at])) {
                    None => Ok(rest.len()),
                    Some((at, b'\r')) => {
                        let after_cr = true;
                        self.state = State::ChunkLine { size, after_cr };
                        Ok(at + 1)
                    }
                    Some((_, b'\n')) => Err(Refusal::BareLineFeed),
                    Some(_) => Err(Refusal::BadChunkExtension),
                }
            }
            State::ChunkLine {
                size,
                after_cr: true,
            } => {
                if rest[0] != b'\n' {
                    return Err(Refusal::BadChunkExtension);
                }
                self.state = match size {
                    0 => State::Trailers,
                    size => State::Chunk(size.saturating_add(2)),
                };
                Ok(1)
            }
            State::Chunk(left) => {
                let taken = clamp(left, rest);
                self.state = match left - taken as u64 {
                    0 => State::ChunkSize { size: 0, digits: 0 },
                    left => State::Chunk(left),
                };
                Ok(taken)
            }
            State::Asked { .. } => {
                self.state = State::Asked { more: true };
                Ok(rest.len())
            }
            State::Refused(refusal) => Err(refusal),
        }
    }

    /// A line of a head or of trailers, or the part of it that is there.
    fn line(&mut self, rest: &[u8]) -> Result<usize, Refusal> {
        let Some(end) = memchr(b'\n', rest) else {
            self.keep(rest);
            return Ok(rest.len());
        };
        let part = &rest[..end];
        if self.kept.is_empty() {
            let line = part.strip_suffix(b"\r").ok_or(Refusal::BareLineFeed)?;
            self.ended(line, false)?;
            return Ok(end + 1);
        }
        self.keep(part);
        let mut line = std::mem::take(&mut self.kept);
        let cut = self.cut.take();
        if !cut.unwrap_or_else(|| line.pop() == Some(b'\r')) {
            return Err(Refusal::BareLineFeed);
        }
        self.ended(&line, cut.is_some())?;
        Ok(end + 1)
    }

    fn keep(&mut self, part: &[u8]) {
        let room = KEPT - self.kept.len();
        let kept = &part[..part.len().min(room)];
        self.kept.extend_from_slice(kept);
        if part.len() > room {
            self.cut = Some(part.ends_with(b"\r"));
        }
    }

    /// A line without its end, or what is kept of one that was cut.
    fn ended(&mut self, line: &[u8], cut: bool) -> Result<(), Refusal> {
        match self.state {
            State::Start { blank } => {
                if line.is_empty() {
                    if blank {
                        return Err(Refusal::BlankLines);
                    }
                    self.state = State::Start { blank: true };
                    return Ok(());
                }
                self.head = Head::default();
                self.state = State::Fields;
            }
            State::Trailers if line.is_empty() => self.state = self.head.behind(),
            State::Fields if line.is_empty() => self.state = self.head.end(),
            _ if line.starts_with(b" ") || line.starts_with(b"\t") => {
                return Err(Refusal::FoldedLine);
            }
            State::Fields => self.head.field(line, cut)?,
            _ => {}
        }
        Ok(())
    }
}

impl Head {
    fn field(&mut self, line: &[u8], cut: bool) -> Result<(), Refusal> {
        let Some(colon) = memchr(b':', line) else {
            return Ok(());
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(value.trim_ascii()).filter(|_| !cut);
            let length = length.ok_or(Refusal::BadLength)?;
            if self.length.replace(length).is_some() {
                return Err(Refusal::RepeatedLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if cut || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::UnknownCoding);
            }
            if std::mem::replace(&mut self.chunked, true) {
                return Err(Refusal::RepeatedCoding);
            }
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
        if self.length.is_some() && self.chunked {
            return Err(Refusal::LengthAndCoding);
        }
        Ok(())
    }

    /// What comes behind this head.
    fn end(&self) -> State {
        match self.length {
            _ if self.chunked => State::ChunkSize { size: 0, digits: 0 },
            Some(length) if length > 0 => State::Content(length),
            _ => self.behind(),
        }
    }

    /// What comes behind the whole request. Another protocol begins there, not before (RFC 9110 §7.8).
    fn behind(&self) -> State {
        match self.upgrade {
            true => State::Asked { more: false },
            false => State::default(),
        }
    }
}

/// The next byte of a line that begins with a chunk's size.
fn chunk_size(size: u64, digits: u8, byte: u8) -> Result<State, Refusal> {
    match char::from(byte).to_digit(16) {
        Some(digit) if digits < MOST_DIGITS => Ok(State::ChunkSize {
            size: size << 4 | u64::from(digit),
            digits: digits + 1,
        }),
        None if digits > 0 && (byte == b';' || byte == b'\r') => Ok(State::ChunkLine {
            size,
            after_cr: byte == b'\r',
        }),
        _ => Err(Refusal::BadChunkSize),
    }
}

/// Digits and nothing else, and no more than any body has.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

/// What stands in no field and in no chunk extension (RFC 9110 §5.6.4).
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

fn clamp(left: u64, rest: &[u8]) -> usize {
    usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of `sent`, in pieces that end at these places.
    fn follow(sent: &str, cuts: &[usize]) -> (Vec<u8>, Option<Refusal>) {
        let mut framing = Framing::default();
        let mut bytes = sent.as_bytes().to_vec();
        let mut from = 0;
        for &to in cuts.iter().chain([&sent.len()]) {
            let followed = framing.follow(&mut bytes[from..to]);
            assert_eq!(followed.err(), framing.refused());
            from = to;
        }
        (bytes, framing.refused())
    }

    /// The same in every pair of pieces, and byte by byte.
    #[track_caller]
    fn is(sent: &str, expected: Option<Refusal>) {
        let single: Vec<usize> = (1..sent.len()).collect();
        let pairs = (0..sent.len()).map(|cut| vec![cut]);
        for cuts in pairs.chain([single]) {
            let (bytes, refused) = follow(sent, &cuts);
            assert_eq!(refused, expected, "{sent:?} cut at {cuts:?}");
            match expected {
                None => assert_eq!(bytes, sent.as_bytes(), "what is sound stays as it is"),
                Some(_) => assert!(bytes.ends_with(b"\0"), "what is refused is spoilt"),
            }
        }
    }

    #[track_caller]
    fn sound(sent: &str) {
        // Whatever comes behind it is looked at as the head of another request.
        is(sent, None);
        is(
            &format!("{sent}GET / HTTP/1.1\nhost: a\r\n\r\n"),
            Some(Refusal::BareLineFeed),
        );
    }

    #[track_caller]
    fn refused(sent: &str, expected: Refusal) {
        is(sent, Some(expected));
    }

    #[test]
    fn sound_messages_stay_as_they_are() {
        sound("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        sound("\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
        sound("POST / HTTP/1.1\r\nContent-LENGTH:  5 \r\n\r\n\nab\n\n");
        sound("POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
        sound("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\n\nab\n\n\r\n0\r\n\r\n");
        sound(
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0a;a=\"b\"\r\n0123456789\r\n00;x\r\nt: 1\r\n\r\n",
        );
        sound("POST / HTTP/1.0\r\ncontent-length: 1\r\n\r\na");
    }

    #[test]
    fn a_request_for_another_protocol_is_the_last_one_that_is_read() {
        is(
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\n\n\x01\x02GET / HTTP/1.1\n",
            None,
        );
    }

    #[test]
    fn behind_a_refused_protocol_comes_http_again() {
        let mut framing = Framing::default();
        let mut asked = *b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(framing.follow(&mut asked), Ok(()));
        assert_eq!(framing.asked(), Some(Asked { more: false }));
        framing.go_on();
        let mut next = *b"GET / HTTP/1.1\n";
        assert_eq!(framing.follow(&mut next), Err(Refusal::BareLineFeed));
    }

    #[test]
    fn a_request_for_another_protocol_may_have_content() {
        let head = "POST / HTTP/1.1\r\nUpgrade: a\r\n";
        let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
        for request in [
            format!("{head}content-length: 3\r\n\r\n\nb\n"),
            format!("{chunked}3\r\n\nb\n\r\n0\r\nt: 1\r\n\r\n"),
        ] {
            is(&request, None);
            is(&format!("{request}\n\x01GET / HTTP/1.1\n"), None);
            let mut framing = Framing::default();
            assert_eq!(framing.follow(&mut request.into_bytes()), Ok(()));
            assert_eq!(framing.asked(), Some(Asked { more: false }));
        }
        refused(&format!("{chunked}1;a\nb\r\n"), Refusal::BareLineFeed);
    }

    #[test]
    fn content_that_comes_when_the_protocol_was_refused_is_no_head() {
        let mut framing = Framing::default();
        let mut head = *b"POST / HTTP/1.1\r\nUpgrade: a\r\ncontent-length: 28\r\n\r\n";
        assert_eq!(framing.follow(&mut head), Ok(()));
        assert_eq!(framing.asked(), Some(Asked { more: false }));
        framing.go_on();
        assert_eq!(framing.asked(), None);
        let mut content = *b"\na\r\ncontent-length: 999\r\n\r\n\n";
        assert_eq!(content.len(), 28);
        assert_eq!(framing.follow(&mut content), Ok(()));
        let mut next = *b"GET / HTTP/1.1\n";
        assert_eq!(framing.follow(&mut next), Err(Refusal::BareLineFeed));
    }

    #[test]
    fn a_line_ends_with_both_its_bytes() {
        refused("GET / HTTP/1.1\nhost: a\r\n\r\n", Refusal::BareLineFeed);
        refused("GET / HTTP/1.1\r\nhost: a\n\r\n", Refusal::BareLineFeed);
        refused("GET / HTTP/1.1\r\nhost: a\r\n\n", Refusal::BareLineFeed);
        refused("\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Refusal::BareLineFeed);
        let long = "x".repeat(2 * KEPT);
        refused(
            &format!("GET / HTTP/1.1\r\na: {long}\nb: c\r\n\r\n"),
            Refusal::BareLineFeed,
        );
        is(&format!("GET / HTTP/1.1\r\na: {long}\r\n\r\n"), None);
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        refused(&format!("{chunked}1;a\nb\r\n"), Refusal::BareLineFeed);
        refused(&format!("{chunked}0\r\nt: 1\n\r\n"), Refusal::BareLineFeed);
        refused(&format!("{chunked}0\r\n\n"), Refusal::BareLineFeed);
    }

    #[test]
    fn nothing_stands_between_two_requests_but_one_blank_line() {
        refused("\r\n\r\nGET / HTTP/1.1\r\n", Refusal::BlankLines);
    }

    #[test]
    fn a_field_is_one_line() {
        refused("GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", Refusal::FoldedLine);
        refused("GET / HTTP/1.1\r\n\thost: a\r\n\r\n", Refusal::FoldedLine);
        refused(
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nt: 1\r\n u\r\n\r\n",
            Refusal::FoldedLine,
        );
    }

    #[test]
    fn there_is_one_length_and_it_is_a_number() {
        for value in [
            "",
            "+1",
            "-1",
            "1, 1",
            "0x1",
            "1 1",
            "1a",
            "99999999999999999999",
        ] {
            refused(
                &format!("POST / HTTP/1.1\r\ncontent-length: {value}\r\n\r\n"),
                Refusal::BadLength,
            );
        }
        refused(
            "POST / HTTP/1.1\r\ncontent-length: 1\r\nContent-Length: 1\r\n\r\n",
            Refusal::RepeatedLength,
        );
    }

    #[test]
    fn there_is_one_coding_and_it_is_chunked() {
        for value in [
            "",
            "identity",
            "gzip, chunked",
            "chunked, chunked",
            "xchunked",
            "\"chunked\"",
            "chunked;q=1",
        ] {
            refused(
                &format!("POST / HTTP/1.1\r\ntransfer-encoding: {value}\r\n\r\n"),
                Refusal::UnknownCoding,
            );
        }
        let chunked = "transfer-encoding: chunked\r\n";
        refused(
            &format!("POST / HTTP/1.1\r\n{chunked}{chunked}\r\n"),
            Refusal::RepeatedCoding,
        );
        let padded = format!("chunked{:KEPT$}, chunked", "");
        refused(
            &format!("POST / HTTP/1.1\r\ntransfer-encoding: {padded}\r\n\r\n"),
            Refusal::UnknownCoding,
        );
    }

    #[test]
    fn there_is_a_length_or_a_coding() {
        let (length, chunked) = ("content-length: 1\r\n", "transfer-encoding: chunked\r\n");
        for (first, second) in [(length, chunked), (chunked, length)] {
            refused(
                &format!("POST / HTTP/1.1\r\n{first}{second}\r\n"),
                Refusal::LengthAndCoding,
            );
        }
    }

    #[test]
    fn a_chunk_extension_is_text_within_one_line() {
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        sound(&format!(
            "{chunked}1;a;b=c;d=\"\t e; f\u{e9}\"\r\na\r\n0\r\n\r\n"
        ));
        for extension in ["\0", "a=\x01", "a\rb", "a\x7f", "\r"] {
            refused(
                &format!("{chunked}1;{extension}\r\na\r\n0\r\n\r\n"),
                Refusal::BadChunkExtension,
            );
        }
        refused(&format!("{chunked}1\ra\r\n"), Refusal::BadChunkExtension);
    }

    #[test]
    fn a_chunk_begins_with_its_size() {
        for line in [
            "",
            "0x1",
            "+1",
            "1 ",
            " 1",
            "1\t;a",
            "g",
            "11111111111111111",
            ";a",
        ] {
            refused(
                &format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{line}\r\n"),
                Refusal::BadChunkSize,
            );
        }
    }
}
