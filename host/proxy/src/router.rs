//! Which route a request takes: the most specific one that matches.

use http::{HeaderMap, Method};

use crate::config::{HostPattern, PathPattern, Route};

/// All routes, those of each listener from the most to the least specific.
#[derive(Debug)]
pub(crate) struct Router {
    /// By listener: indices into the configuration's routes.
    by_listener: Vec<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    hosts: Vec<HostPattern>,
    path: PathPattern,
    methods: Vec<Method>,
    headers: Vec<(http::HeaderName, http::HeaderValue)>,
    route: usize,
}

impl Router {
    /// Orders the routes. More specific is, in this order: an exact host before a wildcard (a longer one first)
    /// before none; an exact path before a prefix (a longer one first); more conditions on method and headers; what
    /// stands first in the file.
    pub(crate) fn new(listeners: usize, routes: &[Route]) -> Self {
        let mut by_listener: Vec<Vec<Entry>> = (0..listeners).map(|_| Vec::new()).collect();
        for (index, route) in routes.iter().enumerate() {
            by_listener[route.listener].extend(entries(index, route));
        }
        for entries in &mut by_listener {
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.specificity()));
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
        let host = host_of(authority);
        let matches = |entry: &&Entry| {
            entry.path_matches(path)
                && entry.host_matches(host)
                && (entry.methods.is_empty() || entry.methods.contains(method))
                && entry
                    .headers
                    .iter()
                    .all(|(name, value)| headers.get_all(name).iter().any(|v| v == value))
        };
        self.by_listener[listener]
            .iter()
            .find(matches)
            .map(|entry| entry.route)
    }
}

/// One entry per host, so that the host's specificity can be compared.
fn entries(index: usize, route: &Route) -> impl Iterator<Item = Entry> {
    let alternatives: Vec<Vec<HostPattern>> = match route.hosts.as_slice() {
        [] => vec![Vec::new()],
        hosts => hosts.iter().map(|host| vec![host.clone()]).collect(),
    };
    alternatives.into_iter().map(move |hosts| Entry {
        hosts,
        path: route.path.clone(),
        methods: route.methods.clone(),
        headers: route.headers.clone(),
        route: index,
    })
}

impl Entry {
    fn specificity(&self) -> ((u8, usize), (u8, usize), usize) {
        let host = match self.hosts.first() {
            Some(HostPattern::Exact(_)) => (2, 0),
            Some(HostPattern::Below(suffix)) => (1, suffix.len()),
            None => (0, 0),
        };
        let path = match &self.path {
            PathPattern::Exact(_) => (1, 0),
            PathPattern::Prefix(prefix) => (0, prefix.len()),
        };
        (
            host,
            path,
            usize::from(!self.methods.is_empty()) + self.headers.len(),
        )
    }

    fn path_matches(&self, path: &str) -> bool {
        match &self.path {
            PathPattern::Exact(exact) => path == &**exact,
            PathPattern::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    fn host_matches(&self, host: &str) -> bool {
        match self.hosts.first() {
            None => true,
            Some(HostPattern::Exact(exact)) => host.eq_ignore_ascii_case(exact),
            Some(HostPattern::Below(suffix)) => {
                host.len() > suffix.len()
                    && host
                        .get(host.len() - suffix.len()..)
                        .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
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

    fn router(routes: &str) -> (Router, Vec<String>) {
        let text = format!("[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n{routes}");
        let document = Document::parse("test.toml", &text).expect("valid TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let config = Config::read(&mut root);
        root.finish();
        let (config, _) = reader.finish(config).expect("a valid configuration");
        let names = config
            .routes
            .iter()
            .map(|route| route.name.to_string())
            .collect();
        (Router::new(1, &config.routes), names)
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
}
