//! What a route asks of a request beside its listener and host: the path, the method, header fields and query
//! parameters, and which of two routes asks for more.

use std::cmp::Reverse;
use std::fmt;

use http::{HeaderMap, HeaderName, Method};
use regex::bytes::Regex;

/// `path`: `/users`, `/users/{id}/posts`, `/users/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    /// What comes before the first placeholder, or the whole path.
    pub(crate) head: Box<str>,
    /// Each placeholder's name, and what comes behind it up to the next one. A placeholder is a whole segment.
    pub(crate) placeholders: Vec<(Box<str>, Box<str>)>,
    /// It ends in `/*`: whatever lies below is matched as well.
    pub(crate) open: bool,
}

/// What a pattern matches, whatever its placeholders are called.
pub(crate) type Shape<'p> = (&'p str, Vec<&'p str>, bool);

impl PathPattern {
    /// This path and no other.
    pub fn exact(path: &str) -> Self {
        Self {
            head: path.into(),
            placeholders: Vec::new(),
            open: false,
        }
    }

    /// This path and all below it. The empty one is every path.
    pub fn prefix(path: &str) -> Self {
        Self {
            open: true,
            ..Self::exact(path)
        }
    }

    pub(crate) fn shape(&self) -> Shape<'_> {
        let literals = self.placeholders.iter().map(|(_, literal)| &**literal);
        (&self.head, literals.collect(), self.open)
    }

    pub(crate) fn has_placeholder(&self, name: &str) -> bool {
        self.placeholders.iter().any(|(other, _)| **other == *name)
    }

    /// What stands for each placeholder in a path, in their order, and then what stands for `/*`: nothing, or a path.
    /// `None` when the path does not match.
    pub(crate) fn captures<'a>(&self, path: &'a str) -> Option<Vec<&'a str>> {
        let mut rest = path.strip_prefix(&*self.head)?;
        let mut captures = Vec::with_capacity(self.placeholders.len() + 1);
        for (_, literal) in &self.placeholders {
            let (segment, behind) = first_segment(rest)?;
            captures.push(segment);
            rest = behind.strip_prefix(&**literal)?;
        }
        let ends = rest.is_empty() || (self.open && rest.starts_with('/'));
        captures.push(rest);
        ends.then_some(captures)
    }
}

/// As it is written.
impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        for (name, literal) in &self.placeholders {
            write!(f, "/{{{name}}}{literal}")?;
        }
        f.write_str(if self.open { "/*" } else { "" })
    }
}

/// A segment that is not empty, and the path behind it.
pub(crate) fn first_segment(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/')?;
    let end = path.find('/').unwrap_or(path.len());
    (end > 0).then(|| path.split_at(end))
}

/// One entry of `headers` or `query`: a name, and what is asked of its values.
#[derive(Debug, Clone)]
pub struct Condition<N> {
    /// Of the field or the parameter.
    pub name: N,
    /// What one of its values has to be.
    pub value: ValueMatch,
}

/// What is asked of the values of a field or parameter.
#[derive(Clone)]
pub enum ValueMatch {
    /// `"text"`: one of them is this.
    Exact(Box<[u8]>),
    /// `{ prefix = "text" }`: one of them starts so.
    Prefix(Box<[u8]>),
    /// `{ regex = "…" }`: one of them is matched, from its first to its last byte.
    Regex(Regex),
    /// `true`: there is one.
    Present,
    /// `false`: there is none.
    Absent,
}

/// Values may be secrets.
impl fmt::Debug for ValueMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact(_) => "Exact(…)",
            Self::Prefix(_) => "Prefix(…)",
            Self::Regex(_) => "Regex(…)",
            Self::Present => "Present",
            Self::Absent => "Absent",
        })
    }
}

impl PartialEq for ValueMatch {
    fn eq(&self, other: &Self) -> bool {
        self.wanted() == other.wanted()
    }
}

/// What is asked of values: of what kind, and its text.
pub(crate) type Wanted<'v> = (u8, &'v [u8]);

impl ValueMatch {
    fn admits<V: AsRef<[u8]>>(&self, mut values: impl Iterator<Item = V>) -> bool {
        match self {
            Self::Present => values.next().is_some(),
            Self::Absent => values.next().is_none(),
            Self::Exact(text) => values.any(|value| value.as_ref() == &**text),
            Self::Prefix(start) => values.any(|value| value.as_ref().starts_with(start)),
            Self::Regex(regex) => values.any(|value| regex.is_match(value.as_ref())),
        }
    }

    /// The same, in a form that can be ordered.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        match self {
            Self::Exact(text) => (4, text),
            Self::Prefix(start) => (3, start),
            Self::Regex(regex) => (2, regex.as_str().as_bytes()),
            Self::Present => (1, b""),
            Self::Absent => (0, b""),
        }
    }

    /// A value asks for more than a part of one, and that for more than that there is one.
    fn strictness(&self) -> usize {
        match self {
            Self::Exact(_) => 3,
            Self::Prefix(_) | Self::Regex(_) => 2,
            Self::Present | Self::Absent => 1,
        }
    }

    /// Whether it holds wherever `other` does.
    fn follows_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present, other) => !matches!(other, Self::Absent),
            (Self::Prefix(start), Self::Exact(text) | Self::Prefix(text)) => {
                text.starts_with(start)
            }
            (Self::Regex(regex), Self::Exact(text)) => regex.is_match(text),
            _ => self == other,
        }
    }
}

/// What a route asks of a request once listener, host and path fit. Empty, it is content with all.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// `methods`. Empty: any.
    pub methods: Vec<Method>,
    /// `headers`
    pub headers: Vec<Condition<HeaderName>>,
    /// `query`: names and values as they are without percent-encoding.
    pub query: Vec<Condition<Box<str>>>,
}

/// Of two routes with the same host and path, the one with the greater rank comes first: the one with more conditions,
/// then with stricter ones, then with fewer methods.
pub(crate) type Rank = (usize, usize, Reverse<usize>);

impl Conditions {
    pub(crate) fn rank(&self) -> Rank {
        let values = self.headers.iter().map(|condition| &condition.value);
        let values = values.chain(self.query.iter().map(|condition| &condition.value));
        let methods = usize::from(!self.methods.is_empty());
        (
            methods + self.headers.len() + self.query.len(),
            values.map(ValueMatch::strictness).sum(),
            Reverse(self.methods.len()),
        )
    }

    pub(crate) fn admit(&self, method: &Method, headers: &HeaderMap, query: &str) -> bool {
        let field = |condition: &Condition<HeaderName>| {
            let values = headers.get_all(&condition.name).iter();
            condition.value.admits(values)
        };
        let parameter = |condition: &Condition<Box<str>>| {
            condition.value.admits(values(query, &condition.name))
        };
        (self.methods.is_empty() || self.methods.contains(method))
            && self.headers.iter().all(field)
            && self.query.iter().all(parameter)
    }

    /// Whether they hold wherever `other` does.
    pub(crate) fn follow_from(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty()
                && other.methods.iter().all(|one| self.methods.contains(one)));
        methods
            && follow_from(&self.headers, &other.headers)
            && follow_from(&self.query, &other.query)
    }
}

fn follow_from<N: PartialEq>(these: &[Condition<N>], those: &[Condition<N>]) -> bool {
    these.iter().all(|one| {
        let mut same = those.iter().filter(|other| other.name == one.name);
        same.any(|other| one.value.follows_from(&other.value))
    })
}

/// The values of a parameter, without percent-encoding; that of one without `=` is empty.
fn values<'q>(query: &'q str, name: &str) -> impl Iterator<Item = Vec<u8>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.filter_map(move |pair: &'q str| {
        let (one, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(one) == name.as_bytes()).then(|| decoded(value))
    })
}

/// As forms are encoded: `+` is a space. An escape that is none stands for itself.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = match behind {
            [high, low, ..] if first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        rest = match escaped {
            Some(_) => &behind[2..],
            None => behind,
        };
        bytes.push(match (escaped, first) {
            (Some((high, low)), _) => high << 4 | low,
            (None, b'+') => b' ',
            (None, other) => other,
        });
    }
    bytes
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> ValueMatch {
        ValueMatch::Exact(text.as_bytes().into())
    }

    fn prefix(text: &str) -> ValueMatch {
        ValueMatch::Prefix(text.as_bytes().into())
    }

    #[test]
    fn a_parameter_is_compared_as_what_it_means() {
        for (query, value, admitted) in [
            ("a=1", exact("1"), true),
            ("b=2&a=1", exact("1"), true),
            ("a=2&a=1", exact("1"), true),
            ("%61=%31", exact("1"), true),
            ("a=x+y%20z", exact("x y z"), true),
            ("a=%zz%4", exact("%zz%4"), true),
            ("a", exact(""), true),
            ("ab=1", exact("1"), false),
            ("", exact("1"), false),
            ("a=v1.2", prefix("v1"), true),
            ("a=v2", prefix("v1"), false),
            ("a", ValueMatch::Present, true),
            ("aa", ValueMatch::Present, false),
            ("%61=1", ValueMatch::Absent, false),
            ("b=a", ValueMatch::Absent, true),
        ] {
            let conditions = Conditions {
                query: vec![Condition {
                    name: "a".into(),
                    value: value.clone(),
                }],
                ..Conditions::default()
            };
            assert_eq!(
                conditions.admit(&Method::GET, &HeaderMap::new(), query),
                admitted,
                "{query} {value:?}"
            );
        }
    }

    #[test]
    fn a_pattern_captures_whole_segments_that_are_not_empty() {
        let pattern = PathPattern {
            head: "/users".into(),
            placeholders: vec![("id".into(), "/posts".into())],
            open: true,
        };
        for (path, captures) in [
            ("/users/7/posts", Some(vec!["7", ""])),
            ("/users/7%2F8/posts/a/b", Some(vec!["7%2F8", "/a/b"])),
            ("/users//posts", None),
            ("/users/7/postscript", None),
            ("/users/7/8/posts", None),
            ("/users", None),
        ] {
            assert_eq!(pattern.captures(path), captures, "{path}");
        }
    }

    #[test]
    fn a_looser_condition_follows_from_a_stricter_one() {
        let regex = ValueMatch::Regex(Regex::new("^(?:v[0-9])$").expect("a regex"));
        for (looser, stricter) in [
            (&ValueMatch::Present, &exact("v1")),
            (&prefix("v"), &exact("v1")),
            (&prefix("v"), &prefix("v1")),
            (&regex, &exact("v1")),
        ] {
            assert!(looser.follows_from(stricter), "{looser:?} {stricter:?}");
            assert!(!stricter.follows_from(looser), "{looser:?} {stricter:?}");
        }
        assert!(!ValueMatch::Present.follows_from(&ValueMatch::Absent));
    }
}
