//! What a client presents: `Authorization: Bearer TOKEN` (RFC 6750 §2.1), or a query parameter.

/// What a request carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credentials<'a> {
    /// No `Authorization`, or one of another scheme, and no parameter.
    None,
    /// A bearer token that cannot be one: no token68, or more than one `Authorization` or parameter, of which another
    /// reader of the request might take the other.
    Malformed,
    /// A token.
    Token(&'a str),
}

impl<'a> Credentials<'a> {
    /// From all values of `Authorization`.
    pub(crate) fn of(values: &'a [Vec<u8>]) -> Self {
        match values {
            [] => Self::None,
            [value] => Self::parse(value),
            _ => Self::Malformed,
        }
    }

    /// From all values of the query parameter, decoded.
    pub(crate) fn of_parameter(values: &'a [Vec<u8>]) -> Self {
        match values {
            [] => Self::None,
            [value] => Self::token(value),
            _ => Self::Malformed,
        }
    }

    /// `Bearer 1*SP token68` (RFC 9110 §11.4); the scheme's case has no meaning (§11.1).
    fn parse(value: &'a [u8]) -> Self {
        let value = value.trim_ascii();
        let end = value
            .iter()
            .position(|&byte| byte == b' ')
            .unwrap_or(value.len());
        let (scheme, rest) = value.split_at(end);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Self::None;
        }
        Self::token(rest.trim_ascii_start())
    }

    fn token(bytes: &'a [u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(token) if is_token68(token) => Self::Token(token),
            _ => Self::Malformed,
        }
    }
}

/// At least one of `A`–`Z`, `a`–`z`, `0`–`9`, `-._~+/`, then any number of `=` (RFC 9110 §11.2).
pub(crate) fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && body.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> String {
        let values: Vec<Vec<u8>> = values
            .iter()
            .map(|value| value.as_bytes().to_vec())
            .collect();
        format!("{:?}", Credentials::of(&values))
    }

    #[test]
    fn a_token_is_found_whatever_the_case_of_the_scheme() {
        for value in [
            "Bearer abc.-_~+/1==",
            "bearer abc.-_~+/1==",
            "BEARER   abc.-_~+/1== ",
        ] {
            assert_eq!(of(&[value]), r#"Token("abc.-_~+/1==")"#, "{value}");
        }
    }

    #[test]
    fn another_scheme_is_no_bearer_token() {
        for value in ["", "Basic YTpi", "Bearerx abc", "Bear er", "Bearer\tabc"] {
            assert_eq!(of(&[value]), "None", "{value}");
        }
        assert_eq!(of(&[]), "None");
    }

    #[test]
    fn what_cannot_be_a_token_is_malformed() {
        for value in [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer =",
            "Bearer a=b",
            "Bearer \"a\"",
            "Bearer a,b",
            "Bearer ü",
        ] {
            assert_eq!(of(&[value]), "Malformed", "{value}");
        }
        assert_eq!(of(&["Bearer a", "Bearer a"]), "Malformed");
    }

    #[test]
    fn a_parameter_is_a_token_alone() {
        let of = |values: &[&[u8]]| {
            let values: Vec<Vec<u8>> = values.iter().map(|value| value.to_vec()).collect();
            format!("{:?}", Credentials::of_parameter(&values))
        };
        assert_eq!(of(&[]), "None");
        assert_eq!(of(&[b"a+/b=="]), r#"Token("a+/b==")"#);
        for malformed in [
            &[&b""[..]][..],
            &[b"Bearer abc"],
            &[b" abc"],
            &[b"\xff"],
            &[b"a", b"a"],
        ] {
            assert_eq!(of(malformed), "Malformed", "{malformed:?}");
        }
    }
}
