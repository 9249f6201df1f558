//! Which route a request takes: the most specific one that matches.

use std::borrow::Cow;

use http::{HeaderMap, Method};

use crate::config::{HostPattern, PathPattern, Route};

/// All routes, by what they ask of a request, the most specific first. A lookup takes a binary search for each host
/// pattern and each path pattern that differs in length, however many routes there are.
#[derive(Debug)]
pub(crate) struct Router {
    by_listener: Vec<Hosts>,
}

/// The routes of a listener. Hosts are in lower case.
#[derive(Debug, Default)]
struct Hosts {
    exact: Names<Paths>,
    /// `*.example.com` as `.example.com`.
    below: Lengths<Paths>,
    any: Paths,
}

/// The routes that ask for the same host, or for none.
#[derive(Debug, Default)]
struct Paths {
    exact: Names<Vec<Entry>>,
    below: Lengths<Vec<Entry>>,
}

/// What is found by its whole name, in the order of names.
type Names<T> = Vec<(Box<str>, T)>;

/// What is found by a prefix or suffix: by its length, the longest first.
type Lengths<T> = Vec<(usize, Names<T>)>;

/// A route, among others with the same host and path. The one with the most conditions comes first, then the one that
/// stands first in the file.
#[derive(Debug)]
struct Entry {
    methods: Vec<Method>,
    headers: Vec<(http::HeaderName, http::HeaderValue)>,
    route: usize,
}

impl Router {
    /// Orders the routes. More specific is, in this order: an exact host before a wildcard (a longer one first)
    /// before none; an exact path before a prefix (a longer one first); more conditions on method and headers; what
    /// stands first in the file.
    pub(crate) fn new(listeners: usize, routes: &[Route]) -> Self {
        let mut by_listener: Vec<Hosts> = (0..listeners).map(|_| Hosts::default()).collect();
        for (index, route) in routes.iter().enumerate() {
            by_listener[route.listener].add(index, route);
        }
        Self { by_listener }
    }

    /// The index of the route, if one matches. `authority` may carry a port; `path` is normalised.
    pub(crate) fn find(
        &self,
        listener: usize,
        authority: &str,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<usize> {
        let hosts = &self.by_listener[listener];
        let find = |paths: &Paths| paths.find(path, method, headers);
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
        let entries = match &route.path {
            PathPattern::Exact(path) => of_name(&mut self.exact, path),
            PathPattern::Prefix(prefix) => of_length(&mut self.below, prefix),
        };
        let entry = Entry {
            methods: route.methods.clone(),
            headers: route.headers.clone(),
            route: index,
        };
        let at = entries.partition_point(|other| other.conditions() >= entry.conditions());
        entries.insert(at, entry);
    }

    fn find(&self, path: &str, method: &Method, headers: &HeaderMap) -> Option<usize> {
        let find = |entries: &Vec<Entry>| {
            let found = entries.iter().find(|entry| entry.admits(method, headers));
            found.map(|entry| entry.route)
        };
        let of_prefix = |(length, names): &(usize, Names<Vec<Entry>>)| {
            let ends = matches!(path.as_bytes().get(*length), None | Some(b'/'));
            find(named(names, path.get(..*length).filter(|_| ends)?)?)
        };
        let exact = named(&self.exact, path).and_then(find);
        exact.or_else(|| self.below.iter().find_map(of_prefix))
    }
}

impl Entry {
    fn conditions(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len()
    }

    fn admits(&self, method: &Method, headers: &HeaderMap) -> bool {
        let has = |(name, value): &(_, _)| headers.get_all(name).iter().any(|v| v == value);
        (self.methods.is_empty() || self.methods.contains(method)) && self.headers.iter().all(has)
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
fn host_of(authority: &str) -> &str {
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
            let found = router.find(0, host, path, &method, &HeaderMap::new());
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
            let of_path = match &route.path {
                PathPattern::Exact(exact) => (path == &**exact).then_some((1, 0))?,
                PathPattern::Prefix(prefix) => {
                    let rest = path.strip_prefix(&**prefix)?;
                    (rest.is_empty() || rest.starts_with('/')).then_some((0, prefix.len()))?
                }
            };
            let admitted = route.methods.is_empty() || route.methods.contains(method);
            admitted.then_some((of_host, of_path, usize::from(!route.methods.is_empty())))
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
        let paths = ["/*", "/a", "/a/*", "/a/b/*", "/a/b", "/ab/*", "/b/*"];
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
                "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/b", "/c/a",
            ] {
                for method in [Method::GET, Method::PUT, Method::HEAD] {
                    let found = router.find(0, host, path, &method, &HeaderMap::new());
                    let expected = most_specific(&routes, &host.to_lowercase(), path, &method);
                    assert_eq!(found, expected, "{method} {host} {path}");
                }
            }
        }
    }
}
