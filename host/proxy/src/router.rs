//! Which route a request takes: the most specific one that matches.

use std::borrow::Cow;

use http::{HeaderMap, Method};

use crate::config::{Conditions, HostPattern, PathPattern, Route, first_segment};

/// All routes, by what they ask of a request, the most specific first. A lookup takes a binary search for each host
/// pattern and each path pattern that differs in length, however many routes there are; and the same again behind each
/// placeholder that a path gets through.
#[derive(Debug)]
pub(crate) struct Router {
    by_listener: Vec<Hosts>,
}

/// What routes ask about, beside listener and host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Normalised.
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
}

/// The routes of a listener. Hosts are in lower case.
#[derive(Debug, Default)]
struct Hosts {
    exact: Names<Paths>,
    /// `*.example.com` as `.example.com`.
    below: Lengths<Paths>,
    any: Paths,
}

/// The routes that ask for the same host, or for none, by their paths; or by what is left of these behind a
/// placeholder.
#[derive(Debug, Default)]
struct Paths {
    exact: Names<Vec<Entry>>,
    below: Lengths<Below>,
}

/// The routes whose paths begin the same and then go on in more than one way.
#[derive(Debug, Default)]
struct Below {
    /// With a placeholder: it stands for one segment, and so asks for more than `/*`.
    placeholder: Option<Box<Paths>>,
    /// With `/*`.
    open: Vec<Entry>,
}

/// What is found by its whole name, in the order of names.
type Names<T> = Vec<(Box<str>, T)>;

/// What is found by a prefix or suffix: by its length, the longest first.
type Lengths<T> = Vec<(usize, Names<T>)>;

/// A route, among others with the same host and path. The one with the greater rank comes first, then the one that
/// stands first in the file.
#[derive(Debug)]
struct Entry {
    conditions: Conditions,
    route: usize,
}

impl Router {
    /// Orders the routes. More specific is, in this order: an exact host before a wildcard (a longer one first)
    /// before none; of two paths the one that at their first difference has text, then a placeholder, then `/*`; more
    /// conditions, stricter ones, fewer methods; what stands first in the file.
    pub(crate) fn new(listeners: usize, routes: &[Route]) -> Self {
        let mut by_listener: Vec<Hosts> = (0..listeners).map(|_| Hosts::default()).collect();
        for (index, route) in routes.iter().enumerate() {
            by_listener[route.listener].add(index, route);
        }
        Self { by_listener }
    }

    /// The index of the route, if one matches. `authority` may carry a port.
    pub(crate) fn find(&self, listener: usize, authority: &str, asked: Asked<'_>) -> Option<usize> {
        let hosts = &self.by_listener[listener];
        let find = |paths: &Paths| paths.find(asked.path, asked);
        if hosts.exact.is_empty() && hosts.below.is_empty() {
            return find(&hosts.any);
        }
        let host = lower_case(host_of(authority));
        let of_suffix = |(length, names): &(usize, Names<Paths>)| {
            let start = host.len().checked_sub(*length).filter(|start| *start > 0)?;
            find(named(names, host.get(start..)?)?)
        };
        let exact = named(&hosts.exact, &host).and_then(find);
        exact
            .or_else(|| hosts.below.iter().find_map(of_suffix))
            .or_else(|| find(&hosts.any))
    }
}

impl Hosts {
    fn add(&mut self, index: usize, route: &Route) {
        if route.hosts.is_empty() {
            self.any.add(index, route);
        }
        for host in &route.hosts {
            let paths = match host {
                HostPattern::Exact(name) => of_name(&mut self.exact, &lower_case(name)),
                HostPattern::Below(suffix) => of_length(&mut self.below, &lower_case(suffix)),
            };
            paths.add(index, route);
        }
    }
}

impl Paths {
    fn add(&mut self, index: usize, route: &Route) {
        let entries = self.entries(&route.path);
        let rank = route.conditions.rank();
        let at = entries.partition_point(|other| other.conditions.rank() >= rank);
        let entry = Entry {
            conditions: route.conditions.clone(),
            route: index,
        };
        entries.insert(at, entry);
    }

    fn entries(&mut self, pattern: &PathPattern) -> &mut Vec<Entry> {
        let (mut paths, mut literal) = (self, &pattern.head);
        for (_, behind) in &pattern.placeholders {
            let below: &mut Below = of_length(&mut paths.below, literal);
            paths = below.placeholder.get_or_insert_default();
            literal = behind;
        }
        match pattern.open {
            true => &mut of_length(&mut paths.below, literal).open,
            false => of_name(&mut paths.exact, literal),
        }
    }

    /// `path` is what is left of the one that was asked for.
    fn find(&self, path: &str, asked: Asked<'_>) -> Option<usize> {
        let find = |entries: &Vec<Entry>| {
            let found = entries.iter().find(|entry| entry.admits(asked));
            found.map(|entry| entry.route)
        };
        let of_prefix = |(length, names): &(usize, Names<Below>)| {
            let ends = matches!(path.as_bytes().get(*length), None | Some(b'/'));
            let below = named(names, path.get(..*length).filter(|_| ends)?)?;
            let behind = below.placeholder.as_ref().and_then(|paths| {
                let (_, rest) = first_segment(&path[*length..])?;
                paths.find(rest, asked)
            });
            behind.or_else(|| find(&below.open))
        };
        let exact = named(&self.exact, path).and_then(find);
        exact.or_else(|| self.below.iter().find_map(of_prefix))
    }
}

impl Entry {
    fn admits(&self, asked: Asked<'_>) -> bool {
        self.conditions
            .admit(asked.method, asked.headers, asked.query)
    }
}

fn named<'a, T>(names: &'a Names<T>, name: &str) -> Option<&'a T> {
    let at = names.binary_search_by(|(one, _)| (**one).cmp(name)).ok()?;
    Some(&names[at].1)
}

fn of_name<'a, T: Default>(names: &'a mut Names<T>, name: &str) -> &'a mut T {
    let at = match names.binary_search_by(|(one, _)| (**one).cmp(name)) {
        Ok(at) => at,
        Err(at) => {
            names.insert(at, (name.into(), T::default()));
            at
        }
    };
    &mut names[at].1
}

fn of_length<'a, T: Default>(lengths: &'a mut Lengths<T>, name: &str) -> &'a mut T {
    let at = match lengths.binary_search_by(|(length, _)| name.len().cmp(length)) {
        Ok(at) => at,
        Err(at) => {
            lengths.insert(at, (name.len(), Vec::new()));
            at
        }
    };
    of_name(&mut lengths[at].1, name)
}

fn lower_case(text: &str) -> Cow<'_, str> {
    match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => text.to_ascii_lowercase().into(),
        false => text.into(),
    }
}

/// The host without port and without the dot that ends a fully qualified name.
pub(crate) fn host_of(authority: &str) -> &str {
    let host = match authority.rfind(']') {
        Some(end) => &authority[..=end],
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Document};

    fn parsed(routes: &str) -> (Router, Vec<Route>) {
        let text = format!("[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n{routes}");
        let document = Document::parse("test.toml", &text).expect("valid TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let config = Config::read(&mut root);
        root.finish();
        let (config, _) = reader.finish(config).expect("a valid configuration");
        (Router::new(1, &config.routes), config.routes)
    }

    fn asked<'a>(
        path: &'a str,
        query: &'a str,
        method: &'a Method,
        headers: &'a HeaderMap,
    ) -> Asked<'a> {
        Asked {
            path,
            query,
            method,
            headers,
        }
    }

    fn router(routes: &str) -> (Router, Vec<String>) {
        let (router, routes) = parsed(routes);
        let names = routes.iter().map(|route| route.name.to_string()).collect();
        (router, names)
    }

    #[test]
    fn the_most_specific_route_wins_whatever_the_order() {
        let reply = "reply = { status = 200 }";
        let (router, names) = router(&format!(
            r#"
            [[route]]
            name = "all"
            path = "/*"
            {reply}
            [[route]]
            name = "api"
            path = "/api/*"
            {reply}
            [[route]]
            name = "snapshot"
            path = "/api/snapshot"
            {reply}
            [[route]]
            name = "post"
            path = "/api/snapshot"
            methods = ["POST"]
            {reply}
            [[route]]
            name = "below"
            host = ["*.example.com"]
            {reply}
            [[route]]
            name = "exact"
            host = ["a.example.com"]
            {reply}
            "#
        ));
        let find = |host: &str, path: &str, method: Method| {
            let found = router.find(0, host, asked(path, "", &method, &HeaderMap::new()));
            found.map(|index| names[index].as_str())
        };
        assert_eq!(find("h", "/", Method::GET), Some("all"));
        assert_eq!(find("h", "/api", Method::GET), Some("api"));
        assert_eq!(find("h", "/apix", Method::GET), Some("all"));
        assert_eq!(find("h", "/api/snapshot", Method::GET), Some("snapshot"));
        assert_eq!(find("h", "/api/snapshot", Method::POST), Some("post"));
        assert_eq!(
            find("b.EXAMPLE.com:80", "/api/snapshot", Method::GET),
            Some("below")
        );
        assert_eq!(find("a.example.com.", "/", Method::GET), Some("exact"));
        assert_eq!(find("example.com", "/", Method::GET), Some("all"));
    }

    /// What a pattern has at each place of a path that it matches: text, a placeholder or `/*`, the first of which that
    /// differs decides.
    fn in_order(pattern: &PathPattern, path: &str) -> Option<Vec<u8>> {
        let rest = pattern.captures(path)?.pop().expect("the rest is there");
        let covered = path.len() - rest.len();
        let text = |text: &str| text.matches('/').map(|_| 2).collect::<Vec<u8>>();
        let mut places = text(&pattern.head);
        for (_, behind) in &pattern.placeholders {
            places.push(1);
            places.extend(text(behind));
        }
        assert_eq!(path[..covered].matches('/').count(), places.len());
        // That nothing follows is more than that anything may.
        places.push(if pattern.open { 0 } else { 2 });
        Some(places)
    }

    /// What the documentation says, one route after the other.
    fn most_specific(routes: &[Route], host: &str, path: &str, method: &Method) -> Option<usize> {
        let rank = |route: &Route| {
            let of_host = |pattern: &HostPattern| match pattern {
                HostPattern::Exact(name) => (**name == *host).then_some((2, 0)),
                HostPattern::Below(suffix) => (host.len() > suffix.len()
                    && host.ends_with(&**suffix))
                .then_some((1, suffix.len())),
            };
            let of_host = match route.hosts.is_empty() {
                true => (0, 0),
                false => route.hosts.iter().filter_map(of_host).max()?,
            };
            let of_path = in_order(&route.path, path)?;
            let admitted = route.conditions.admit(method, &HeaderMap::new(), "");
            admitted.then_some((of_host, of_path, route.conditions.rank()))
        };
        let ranked = routes.iter().enumerate();
        let ranked = ranked.filter_map(|(at, route)| Some((rank(route)?, std::cmp::Reverse(at))));
        ranked.max().map(|(_, at)| at.0)
    }

    #[test]
    fn every_request_takes_the_most_specific_of_many_routes() {
        let hosts = [
            "",
            "host = ['b.c']",
            "host = ['*.c', 'c']",
            "host = ['*.b.c']",
        ];
        let paths = [
            "/*",
            "/a",
            "/a/*",
            "/a/b/*",
            "/a/b",
            "/ab/*",
            "/b/*",
            "/{x}",
            "/{x}/b",
            "/{x}/*",
            "/a/{x}",
            "/a/{x}/c",
            "/{x}/{y}/*",
            "/a/{x}/",
        ];
        let methods = ["", "methods = ['GET']", "methods = ['POST', 'PUT']"];
        let mut all: Vec<(usize, String)> = Vec::new();
        for (h, host) in hosts.iter().enumerate() {
            for (p, path) in paths.iter().enumerate() {
                for (m, method) in methods.iter().enumerate() {
                    // Some are left out, and the order is mixed, so that there is something to decide.
                    if (h * 31 + p * 17 + m * 7) % 5 != 0 {
                        let route = format!(
                            "[[route]]\n{host}\npath = '{path}'\n{method}\nreply = {{ status = 200 }}\n"
                        );
                        all.push(((h * 13 + p * 5 + m * 3) % 11, route));
                    }
                }
            }
        }
        all.sort();
        let text: Vec<String> = all.into_iter().map(|(_, route)| route).collect();
        let (router, routes) = parsed(&text.concat());
        for host in ["b.c", "c", "a.c", "a.b.c", "x.a.b.c", "d", "B.C", ".c"] {
            for path in [
                "/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/abc", "/b", "/c/a", "/c/b",
                "/c//b", "//b", "/a/d/c", "/c/d/e/f",
            ] {
                for method in [Method::GET, Method::PUT, Method::HEAD] {
                    let headers = HeaderMap::new();
                    let found = router.find(0, host, asked(path, "", &method, &headers));
                    let expected = most_specific(&routes, &host.to_lowercase(), path, &method);
                    assert_eq!(found, expected, "{method} {host} {path}");
                }
            }
        }
    }

    #[test]
    fn more_and_stricter_conditions_come_first() {
        let (router, names) = router(
            r#"
            [[route]]
            name = "any"
            reply = {}
            [[route]]
            name = "versioned"
            headers = { x-version = true }
            reply = {}
            [[route]]
            name = "one"
            headers = { x-version = { prefix = "1." } }
            reply = {}
            [[route]]
            name = "one-point-two"
            headers = { x-version = "1.2" }
            reply = {}
            [[route]]
            name = "two"
            headers = { x-version = { regex = '2(\.[0-9]+)?' } }
            reply = {}
            [[route]]
            name = "debug"
            headers = { x-version = "1.2" }
            query = { debug = true }
            reply = {}
            [[route]]
            name = "untold"
            query = { debug = true, version = false }
            reply = {}
            [[route]]
            name = "read"
            path = "/p"
            methods = ["GET", "HEAD"]
            reply = {}
            [[route]]
            name = "get"
            path = "/p"
            methods = ["GET"]
            reply = {}
            "#,
        );
        let find = |path: &str, version: Option<&str>, query: &str, method: Method| {
            let mut headers = HeaderMap::new();
            if let Some(version) = version {
                headers.insert("x-version", version.parse().expect("a header value"));
            }
            let found = router.find(0, "h", asked(path, query, &method, &headers));
            found.map_or("none", |index| names[index].as_str())
        };
        assert_eq!(find("/", None, "", Method::GET), "any");
        assert_eq!(find("/", Some("3"), "", Method::GET), "versioned");
        assert_eq!(find("/", Some("1.3"), "", Method::GET), "one");
        assert_eq!(find("/", Some("1.2"), "", Method::GET), "one-point-two");
        assert_eq!(find("/", Some("2"), "", Method::GET), "two");
        assert_eq!(find("/", Some("2.x"), "", Method::GET), "versioned");
        assert_eq!(find("/", Some("1.2"), "a&debug", Method::GET), "debug");
        assert_eq!(find("/", None, "debug=1", Method::GET), "untold");
        assert_eq!(find("/", None, "debug=1&version=1", Method::GET), "any");
        assert_eq!(find("/p", None, "", Method::GET), "get");
        assert_eq!(find("/p", None, "", Method::HEAD), "read");
        assert_eq!(find("/p", None, "", Method::POST), "any");
    }
}
