/// A pattern of paths: `/users/{id}/posts`, `/old/{rest*}`.
///
/// `{name}` stands for one whole segment that is not empty, `{name*}` at the end for all that is left, which may be nothing:
/// `/old/{rest*}` is `/old`, `/old/` and all below. Everything else stands for itself, in the same case. Paths are taken as
/// they are, percent-encoding and all; the host has put them into one shape before a plugin sees them.
///
/// ```
/// # use witgate_plugin::PathPattern;
/// let pattern = PathPattern::parse("/users/{id}/{rest*}").unwrap();
/// assert_eq!(pattern.names(), ["id", "rest"]);
/// assert_eq!(pattern.captures("/users/7/posts/1"), Some(vec!["7", "posts/1"]));
/// assert_eq!(pattern.captures("/users/7"), Some(vec!["7", ""]));
/// assert_eq!(pattern.captures("/users//posts"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
    /// Whether `{name*}` follows.
    is_open: bool,
    names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Exact(String),
    Any,
}

impl PathPattern {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for a [`ConfigErrors`](crate::ConfigErrors).
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err("must start with `/`".into());
        };
        if path.contains(['?', '#']) {
            return Err("is about the path alone; leave the query out".into());
        }
        let mut pattern = Self {
            segments: Vec::new(),
            is_open: false,
            names: Vec::new(),
        };
        for segment in path.split('/') {
            if pattern.is_open {
                return Err("has something behind `{name*}`, which takes all that is left".into());
            }
            pattern.push(segment)?;
        }
        Ok(pattern)
    }

    fn push(&mut self, segment: &str) -> Result<(), String> {
        let inside = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let Some(inside) = inside else {
            if segment.contains(['{', '}', '*']) {
                return Err(format!(
                    "has `{segment}`, which is neither a plain segment nor a whole placeholder: `{{name}}`, or \
                     `{{name*}}` at the end"
                ));
            }
            self.segments.push(Segment::Exact(segment.to_owned()));
            return Ok(());
        };
        let (name, is_open) = match inside.strip_suffix('*') {
            Some(name) => (name, true),
            None => (inside, false),
        };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || !name.bytes().all(legal) {
            return Err(format!(
                "has a placeholder `{segment}` whose name is not of letters, digits, `-` and `_`"
            ));
        }
        if self.names.iter().any(|other| other == name) {
            return Err(format!("has `{name}` twice"));
        }
        self.names.push(name.to_owned());
        match is_open {
            true => self.is_open = true,
            false => self.segments.push(Segment::Any),
        }
        Ok(())
    }

    /// The names of its placeholders, in order.
    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    /// What its placeholders stand for in a path without its query; `None` for a path that is another.
    pub fn captures<'a>(&self, path: &'a str) -> Option<Vec<&'a str>> {
        let mut captured = Vec::new();
        let mut rest = Some(path.strip_prefix('/')?);
        for segment in &self.segments {
            let (found, behind) = match rest?.split_once('/') {
                Some((found, behind)) => (found, Some(behind)),
                None => (rest?, None),
            };
            match segment {
                Segment::Exact(wanted) if wanted == found => {}
                Segment::Any if !found.is_empty() => captured.push(found),
                _ => return None,
            }
            rest = behind;
        }
        match (self.is_open, rest) {
            (true, rest) => captured.push(rest.unwrap_or_default()),
            (false, None) => {}
            (false, Some(_)) => return None,
        }
        Some(captured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, path: &str, expected: Option<&[&str]>) {
        let parsed = PathPattern::parse(pattern).expect("a pattern");
        assert_eq!(
            parsed.captures(path),
            expected.map(<[&str]>::to_vec),
            "{pattern} of {path}"
        );
    }

    #[test]
    fn segments_are_compared_whole() {
        check("/", "/", Some(&[]));
        check("/", "/a", None);
        check("/a/b", "/a/b", Some(&[]));
        check("/a/b", "/a/b/", None);
        check("/a/b", "/a/bc", None);
        check("/a/{x}", "/a/1%2F2", Some(&["1%2F2"]));
        check("/a/{x}", "/a/", None);
        check("/a/{x}", "/A/1", None);
        check("/{x}/{y}/c", "/1/2/c", Some(&["1", "2"]));
        check("/{x}/{y}/c", "/1/2/d", None);
    }

    #[test]
    fn the_rest_may_be_nothing() {
        check("/{all*}", "/", Some(&[""]));
        check("/{all*}", "/a//b/", Some(&["a//b/"]));
        check("/old/{rest*}", "/old", Some(&[""]));
        check("/old/{rest*}", "/old/", Some(&[""]));
        check("/old/{rest*}", "/older", None);
        check("/old/{rest*}", "*", None);
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for (wrong, what) in [
            ("a", "start with `/`"),
            ("/a?b", "leave the query out"),
            ("/{a}x", "whole placeholder"),
            ("/x*", "whole placeholder"),
            ("/{}", "whose name"),
            ("/{a b}", "whose name"),
            ("/{a}/{a}", "twice"),
            ("/{a*}/b", "behind"),
        ] {
            let mistake = PathPattern::parse(wrong).expect_err(wrong);
            assert!(mistake.contains(what), "{wrong}: {mistake}");
        }
    }
}
