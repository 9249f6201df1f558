//! The token in the query, for clients that can send no header (the client's side of RFC 6750 §2.3).

/// The query parameter that holds the token.
pub(crate) struct Parameter(String);

/// A target or URL without the parameter, and what the parameter was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Fit to be sent on: what RFC 3986 does not allow is percent-encoded, everything else stands as it came.
    pub(crate) rest: String,
    /// Every value, decoded.
    pub(crate) values: Vec<Vec<u8>>,
}

impl Parameter {
    /// `None` unless the name is 1 to 64 letters, digits, `-`, `_`, `.` or `~`, which stand for themselves in a query.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let legal = (1..=64).contains(&name.len()) && name.bytes().all(is_unreserved);
        legal.then(|| Self(name.to_owned()))
    }

    /// Takes the parameter out of a path with query, or of a URL without fragment.
    ///
    /// A name counts however it is percent-encoded, or the token would go on to the upstream under another spelling.
    /// `+` stands for itself and not for a space: it may be part of a token, and a space may not.
    pub(crate) fn take(&self, target: &str) -> Taken {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut rest = legal(path);
        let mut separator = '?';
        let mut values = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if decoded(name) == self.0.as_bytes() {
                values.push(decoded(value));
            } else if target.len() > path.len() {
                rest.push(separator);
                rest.push_str(&legal(pair));
                separator = '&';
            }
        }
        Taken { rest, values }
    }
}

/// Undoes percent-encoding. A percent sign without two hex digits behind it stands for itself.
fn decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        match (byte, escape(rest)) {
            (_, Some(byte)) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            (byte, None) => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
    decoded
}

/// The byte that `%XX` at the start stands for.
fn escape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Percent-encodes what may not stand in a path or query (RFC 3986 §3.3, §3.4) and clients send all the same.
fn legal(text: &str) -> String {
    const HEX: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    let bytes = text.as_bytes();
    let mut legal = String::with_capacity(text.len());
    for (at, &byte) in bytes.iter().enumerate() {
        let stays = match byte {
            b'%' => escape(bytes.get(at..).unwrap_or_default()).is_some(),
            byte => is_unreserved(byte) || b"!$&'()*+,;=:@/?".contains(&byte),
        };
        if stays {
            legal.push(char::from(byte));
        } else {
            legal.push('%');
            legal.extend([byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]));
        }
    }
    legal
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(target: &str) -> (String, Vec<String>) {
        let Taken { rest, values } = Parameter::new("token").expect("legal").take(target);
        let text = |value: Vec<u8>| String::from_utf8(value).expect("UTF-8");
        (rest, values.into_iter().map(text).collect())
    }

    #[test]
    fn the_parameter_is_taken_out_wherever_it_stands() {
        for (target, rest, values) in [
            ("/json", "/json", &[][..]),
            ("/json?", "/json?", &[]),
            ("/json?a=b&&c", "/json?a=b&&c", &[]),
            ("/json?token=abc", "/json", &["abc"]),
            ("/json?token=abc&for_tab", "/json?for_tab", &["abc"]),
            ("/json?a&token=abc&b", "/json?a&b", &["abc"]),
            ("/json?token=a=b==", "/json", &["a=b=="]),
            ("/json?token", "/json", &[""]),
            ("/json?token=", "/json", &[""]),
            ("/json?token=a&token=b", "/json", &["a", "b"]),
            (
                "/json?tokens=a&atoken=b&TOKEN=c",
                "/json?tokens=a&atoken=b&TOKEN=c",
                &[],
            ),
            ("/token=a?x", "/token=a?x", &[]),
            (
                "/json/new?token=a&https://b/?c=d",
                "/json/new?https://b/?c=d",
                &["a"],
            ),
        ] {
            let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
            assert_eq!(taken(target), (rest.to_owned(), values), "{target}");
        }
    }

    #[test]
    fn names_and_values_count_as_what_they_are_decoded_to() {
        assert_eq!(
            taken("/?%74o%6Ben=a%2Bb%2f%3D&x=%41"),
            ("/?x=%41".to_owned(), vec!["a+b/=".to_owned()])
        );
        assert_eq!(taken("/?token=a+b").1, ["a+b"]);
        assert_eq!(taken("/?token=%4&token=%zz&token=%").1, ["%4", "%zz", "%"]);
    }

    #[test]
    fn what_a_url_may_not_hold_is_encoded_and_nothing_else() {
        assert_eq!(
            taken("/a|b\"c?token=t&d={e}&f=%7b%zz&g=\u{e9}[]").0,
            "/a%7Cb%22c?d=%7Be%7D&f=%7b%25zz&g=%C3%A9%5B%5D"
        );
    }

    #[test]
    fn a_name_that_would_have_to_be_encoded_is_none() {
        let long = "x".repeat(65);
        for name in ["", "a b", "a&b", "a=b", "a%20", "ä", &long] {
            assert!(Parameter::new(name).is_none(), "{name}");
        }
        assert!(Parameter::new(&long[1..]).is_some());
    }
}
