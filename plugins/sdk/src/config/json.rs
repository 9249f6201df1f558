//! Reads the JSON text that the host makes of a configuration.
//!
//! Of its own, because a general reader would be most of a small plugin: this one is a tenth of the size, mostly since
//! it parses floating-point numbers only for who asks for one.

use std::borrow::Cow;

/// A place in a JSON text, moving forward.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// The text is no JSON (RFC 8259), which is the host's mistake and nobody's who writes a configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError;

/// What the next value is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn kind(&mut self) -> Result<Kind, SyntaxError> {
        Ok(match self.peek() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'n') => Kind::Null,
            _ => return Err(SyntaxError),
        })
    }

    /// Takes one punctuation mark if it is next.
    pub(super) fn take(&mut self, mark: u8) -> bool {
        let found = self.peek() == Some(mark);
        if found {
            self.at += 1;
        }
        found
    }

    pub(super) fn expect(&mut self, mark: u8) -> Result<(), SyntaxError> {
        if self.take(mark) {
            Ok(())
        } else {
            Err(SyntaxError)
        }
    }

    pub(super) fn end(&mut self) -> Result<(), SyntaxError> {
        if self.peek().is_none() {
            Ok(())
        } else {
            Err(SyntaxError)
        }
    }

    pub(super) fn null(&mut self) -> Result<(), SyntaxError> {
        self.word("null")
    }

    pub(super) fn boolean(&mut self) -> Result<bool, SyntaxError> {
        if self.word("true").is_ok() {
            return Ok(true);
        }
        self.word("false").map(|()| false)
    }

    /// The digits, signs and letters of a number, as they stand.
    pub(super) fn number(&mut self) -> Result<&'a str, SyntaxError> {
        self.skip_space();
        let letters = self
            .rest()
            .bytes()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        match self.forward(letters.count())? {
            "" => Err(SyntaxError),
            number => Ok(number),
        }
    }

    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        self.expect(b'"')?;
        let mut value = Cow::Borrowed("");
        loop {
            let plain = self
                .rest()
                .bytes()
                .take_while(|byte| !matches!(byte, b'"' | b'\\'));
            let plain = self.forward(plain.count())?;
            let ends = match self.byte()? {
                b'"' => true,
                _escape => false,
            };
            match &mut value {
                Cow::Borrowed("") if ends => return Ok(Cow::Borrowed(plain)),
                value => value.to_mut().push_str(plain),
            }
            if ends {
                return Ok(value);
            }
            value.to_mut().push(self.escape()?);
        }
    }

    /// Skips one value of any kind.
    pub(super) fn skip(&mut self) -> Result<(), SyntaxError> {
        // Counted, not recursive: nothing limits how deep a value is nested.
        let mut depth = 0_usize;
        loop {
            match self.kind()? {
                Kind::Object | Kind::Array => {
                    self.at += 1;
                    depth += 1;
                }
                Kind::String => drop(self.string()?),
                Kind::Number => drop(self.number()?),
                Kind::Boolean => drop(self.boolean()?),
                Kind::Null => self.null()?,
            }
            // Marks between values; where they may stand is not checked in what nobody reads.
            loop {
                match self.peek() {
                    Some(b'}' | b']') if depth > 0 => depth -= 1,
                    Some(b',' | b':') if depth > 0 => {}
                    _ => break,
                }
                self.at += 1;
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        Ok(match self.byte()? {
            escape @ (b'"' | b'\\' | b'/') => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(SyntaxError),
        })
    }

    /// `\uXXXX`, or two of them for a character beyond the basic plane.
    fn unicode_escape(&mut self) -> Result<char, SyntaxError> {
        let mut code = self.four_digits()?;
        if (0xd800..0xdc00).contains(&code) {
            if self.forward(2)? != "\\u" {
                return Err(SyntaxError);
            }
            let low = self.four_digits()?;
            code =
                0x10000 + ((code - 0xd800) << 10) + low.checked_sub(0xdc00).ok_or(SyntaxError)?;
        }
        char::from_u32(code).ok_or(SyntaxError)
    }

    fn four_digits(&mut self) -> Result<u32, SyntaxError> {
        self.forward(4)?.chars().try_fold(0, |code, digit| {
            Ok(code * 16 + digit.to_digit(16).ok_or(SyntaxError)?)
        })
    }

    fn word(&mut self, word: &str) -> Result<(), SyntaxError> {
        self.skip_space();
        if self.rest().starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(SyntaxError)
        }
    }

    // No indexing: its panics would be a fifth of a small component.
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next `length` bytes.
    fn forward(&mut self, length: usize) -> Result<&'a str, SyntaxError> {
        let slice = self.rest().get(..length).ok_or(SyntaxError)?;
        self.at += length;
        Ok(slice)
    }

    fn byte(&mut self) -> Result<u8, SyntaxError> {
        let byte = *self.rest().as_bytes().first().ok_or(SyntaxError)?;
        self.at += 1;
        Ok(byte)
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.rest().as_bytes().first().copied()
    }

    fn skip_space(&mut self) {
        self.at += self
            .rest()
            .bytes()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_with_their_escapes() {
        let text = r#" "plain" "\"a\\\/\b\f\n\r\tb" "\u00e9\ud83d\ude00é" "" "#;
        let mut reader = Reader::new(text);
        assert!(matches!(reader.string(), Ok(Cow::Borrowed("plain"))));
        assert_eq!(reader.string().as_deref(), Ok("\"a\\/\u{8}\u{c}\n\r\tb"));
        assert_eq!(reader.string().as_deref(), Ok("é😀é"));
        assert_eq!(reader.string().as_deref(), Ok(""));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn broken_strings_are_refused() {
        for text in [
            r#"""#,
            r#""a"#,
            r#""\"#,
            r#""\x""#,
            r#""\u12""#,
            r#""\ud83d""#,
            r#""\ud83d\u0041""#,
            r#""\u12é""#,
        ] {
            assert_eq!(Reader::new(text).string(), Err(SyntaxError), "{text}");
        }
    }

    #[test]
    fn a_value_is_skipped_whole() {
        let mut reader = Reader::new(r#"{"a":[1,{"b":"}]"},null],"c":true} -1.5e+3 "]" [] {} 7"#);
        for _ in 0..5 {
            assert_eq!(reader.skip(), Ok(()));
        }
        assert_eq!(reader.number(), Ok("7"));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn an_unfinished_value_is_not_skipped() {
        for text in ["", "{", "[1,", r#"{"a":"#, r#""a"#, "nul", "}"] {
            assert_eq!(Reader::new(text).skip(), Err(SyntaxError), "{text}");
        }
    }
}
