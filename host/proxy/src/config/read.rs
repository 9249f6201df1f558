//! Reads a whole configuration: every table, then what only shows when they are compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::model::{Config, KeyValueStore, Listener, Server, Traces};
use super::route::Names;
use super::shape::{Located, located, named, table, tables};
use super::{Contents, Document, Item, Problem, Problems, Reader, Section};
use super::{
    admin, keyvalue, listener, log, plugin, route, route_check, server, telemetry, upstream, weak,
};

impl Config {
    /// Reads a file that holds nothing but what this crate knows. The second value holds the warnings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file.
    pub fn load(path: &Path) -> Result<(Self, Problems), Problems> {
        let document = Document::read(path)?;
        let reader = document.reader();
        let mut root = reader.root();
        let config = Self::read(&mut root);
        root.finish();
        reader.finish(config)
    }

    /// Reads the tables of this crate, and leaves others in `root` for whoever owns them.
    ///
    /// `None` when there was an error; which, the section's [`Reader`](super::Reader) knows.
    pub fn read(root: &mut Section<'_>) -> Option<Self> {
        let reader = root.reader();
        let server = root.optional("server", located(table(server::read)));
        let traces = root.optional("telemetry", table(telemetry::read)).flatten();
        let server = with_traces(reader, server, traces.as_ref());
        let admin = root.optional("admin", table(admin::read));
        let access_log = root.optional("log", table(log::read)).flatten();
        let declared = root.default("listener", Vec::new(), tables("listener", listener::read));
        let upstreams = root.default(
            "upstream",
            Vec::new(),
            named("upstream", |name, section| {
                Some((name.to_owned(), upstream::read(section)))
            }),
        );
        let stores = root.default(
            "keyvalue",
            Vec::new(),
            named("keyvalue", |name, section| {
                Some((name.to_owned(), keyvalue::read(section)))
            }),
        );
        let plugins = root.default(
            "plugin",
            Vec::new(),
            named("plugin", |name, section| {
                Some((name.to_owned(), plugin::read(name, section)))
            }),
        );
        let none = |item: Item<'_>| item.is_list() && declared.is_empty();
        if root.item("listener").is_none_or(none) && !root.has_misspelt("listener") {
            report_no_listener(root);
        }
        let names = Names {
            listeners: listener_names(&declared),
            upstreams: upstreams.iter().map(|(name, _)| name.clone()).collect(),
            plugins: plugins.iter().map(|(name, _)| name.clone()).collect(),
        };
        check_listeners(root, &server, &declared);
        keyvalue::check(reader, &stores, &plugins);
        let routes = read_routes(root, &names);
        if reader.has_errors() {
            return None;
        }
        let listeners: Vec<_> = declared
            .into_iter()
            .filter_map(|declared| declared.listener)
            .collect();
        let routes: Vec<_> = routes.into_iter().map(|read| read.route).collect();
        let config = Self {
            contents: Contents::of(root, &listeners, &routes),
            location: root.location(),
            server,
            listeners,
            routes,
            upstreams: complete(upstreams),
            stores: with_default(root, complete(stores)),
            plugins: complete(plugins),
            access_log,
            traces,
            admin,
        };
        route_check::unused(reader, &config);
        weak::warn(reader, &config);
        Some(config)
    }
}

/// Traces join and begin as their own table says.
fn with_traces(
    reader: &Reader<'_>,
    server: Option<Located<Server>>,
    traces: Option<&Traces>,
) -> Server {
    let (location, mut server) = match server {
        Some(server) => (Some(server.location), server.value),
        None => (None, Server::default()),
    };
    if let Some(traces) = traces {
        if let Some(location) = location
            && server.trace_context.is_some()
        {
            let message = "`telemetry.traces` says itself which traces are joined and recorded";
            let problem = Problem::warning(location, "server.trace-context", message);
            reader.report(problem.with_help("remove `trace-context`"));
        }
        server.trace_context = Some(traces.context);
    }
    server
}

fn complete<T>(declared: Vec<(String, Option<T>)>) -> BTreeMap<Arc<str>, T> {
    declared
        .into_iter()
        .filter_map(|(name, value)| Some((Arc::from(name), value?)))
        .collect()
}

fn with_default(
    root: &Section<'_>,
    mut stores: BTreeMap<Arc<str>, KeyValueStore>,
) -> BTreeMap<Arc<str>, KeyValueStore> {
    let default = || KeyValueStore {
        kind: keyvalue::default_kind(),
        location: root.location(),
    };
    stores
        .entry(keyvalue::DEFAULT_STORE.into())
        .or_insert_with(default);
    stores
}

fn report_no_listener(root: &Section<'_>) {
    let problem = Problem::error(
        root.location(),
        "listener",
        "there is no listener to accept connections",
    );
    root.reader().report(problem.with_help(
        "add `[[listener]]` with a name and an address: name = \"main\", bind = \"0.0.0.0:8080\"",
    ));
}

/// `None` when one of them has no readable name.
fn listener_names(declared: &[listener::Declared]) -> Option<Vec<String>> {
    let name = |declared: &listener::Declared| Some(declared.name.as_ref()?.value.clone());
    declared.iter().map(name).collect()
}

fn check_listeners(root: &Section<'_>, server: &Server, declared: &[listener::Declared]) {
    let names = declared
        .iter()
        .filter_map(|declared| declared.name.as_ref());
    route_check::unique_names(root.reader(), "listener", names);
    let listeners: Vec<&Listener> = declared
        .iter()
        .filter_map(|declared| declared.listener.as_ref())
        .collect();
    for (index, listener) in listeners.iter().enumerate() {
        if listener.proxy_protocol && server.trusted_proxies.is_empty() && !server.trusts_unix {
            let key = format!("listener.{index}.proxy-protocol");
            let message = "nobody is believed who says whom a connection is from";
            let problem = Problem::error(listener.bind_location.clone(), key, message);
            let help = "name the load balancers: `[server] trusted-proxies = [\"10.0.0.0/8\"]`";
            root.reader().report(problem.with_help(help));
        }
    }
    for (index, later) in listeners.iter().enumerate() {
        let same = |earlier: &&&Listener| earlier.bind.is_same_place(&later.bind);
        if let Some(earlier) = listeners[..index].iter().find(same) {
            let message = format!("{} is bound twice", later.bind);
            root.reader().report(
                Problem::error(
                    later.bind_location.clone(),
                    format!("listener.{index}.bind"),
                    message,
                )
                .with_help(
                    "choose another port, or tell the routes of one listener apart by `host`",
                )
                .with_related(earlier.bind_location.clone(), "bound here first"),
            );
        }
    }
}

fn read_routes(root: &mut Section<'_>, names: &Names) -> Vec<route::Read> {
    let mut position = 0;
    let mut route_names: Vec<Located<String>> = Vec::new();
    let routes = root.default(
        "route",
        Vec::new(),
        tables("route", |section| {
            position += 1;
            let read = route::read(section, names, position)?;
            route_names.push(read.name.clone());
            Some(read)
        }),
    );
    route_check::unique_names(root.reader(), "route", route_names.iter());
    route_check::conflicts(root.reader(), &routes);
    route_check::unreachable(root.reader(), &routes);
    routes
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::super::PathPattern;
    use super::super::model::{CodeCache, Destination, HostPattern, Rewrite};
    use super::super::shape;
    use super::*;

    const LISTENER: &str = "[[listener]]\nname = 'main'\nbind = '127.0.0.1:0'\n";

    fn config(text: &str) -> Result<(Config, Problems), Problems> {
        let document = Document::parse("etc/a.toml", text)?;
        let reader = document.reader();
        let mut root = reader.root();
        let config = Config::read(&mut root);
        root.finish();
        reader.finish(config)
    }

    /// The messages and places for a route beside one listener, one upstream and two plugins.
    fn route_problems(route: &str) -> Vec<String> {
        let text = format!(
            "{LISTENER}[upstream.origin]\nendpoints = ['http://a']\n\
             [plugin.a]\ncomponent = 'builtin:a'\n[plugin.b]\ncomponent = 'builtin:b'\n\
             [[route]]\n{route}\n"
        );
        let problems = config(&text).expect_err("the route is wrong");
        problems
            .iter()
            .map(|problem| {
                format!(
                    "{} {}",
                    problem.location.line().unwrap_or(0),
                    problem.message
                )
            })
            .collect()
    }

    #[test]
    fn a_whole_configuration_is_read() {
        let text = r#"
            [server]
            workers = 2
            code-cache = false

            [[listener]]
            name = "cdp"
            bind = "0.0.0.0:9222"

            [[listener]]
            name = "snapshots"
            bind = "0.0.0.0:8088"

            [[route]]
            listener = "cdp"
            host = ["Example.com", "*.example.org"]
            path = "/json/*"
            methods = ["GET"]
            strip-prefix = "/json"
            plugins = ["close", "token"]
            upstream = "chromium"

            [[route]]
            name = "health"
            listener = "snapshots"
            reply = { status = 201, body = "ok" }

            [upstream.chromium]
            endpoints = ["http://127.0.0.1:9223"]
            health = { path = "/json/version", interval = "5s" }

            [plugin.close]
            component = "builtin:connection-close"

            [plugin.token]
            component = "builtin:bearer-auth"
            config.tokens = [{ name = "devbox", value = "0123456789abcdef" }]
        "#;
        let (config, warnings) = config(text).expect("it is valid");
        assert!(warnings.is_empty(), "{warnings}");
        assert_eq!(
            (config.server.workers, config.server.code_cache),
            (2, CodeCache::Off)
        );
        let names: Vec<_> = config
            .listeners
            .iter()
            .map(|listener| &*listener.name)
            .collect();
        assert_eq!(names, ["cdp", "snapshots"]);
        let [cdp, health] = &config.routes[..] else {
            panic!("two routes were written");
        };
        assert_eq!((&*cdp.name, cdp.listener), ("route-1", 0));
        let hosts = [
            HostPattern::Exact("example.com".into()),
            HostPattern::Below(".example.org".into()),
        ];
        assert_eq!(cdp.hosts, hosts);
        assert_eq!(cdp.path, PathPattern::prefix("/json"));
        assert_eq!(cdp.rewrite, Some(Rewrite::Strip("/json".into())));
        assert_eq!(cdp.plugins, ["close", "token"].map(Arc::<str>::from));
        assert!(matches!(&cdp.destination, Destination::Upstream(name) if &**name == "chromium"));
        assert_eq!((&*health.name, health.listener), ("health", 1));
        let Destination::Reply(reply) = &health.destination else {
            panic!("a reply was written");
        };
        assert_eq!(
            (reply.status, &reply.body[..]),
            (StatusCode::CREATED, &b"ok"[..])
        );
        assert_eq!(reply.headers[0].1, "text/plain; charset=utf-8");
        assert_eq!(config.upstreams.len(), 1);
        assert_eq!(
            config.plugins["token"].config["tokens"][0]["name"],
            "devbox"
        );
    }

    #[test]
    fn the_listener_of_a_route_may_be_left_out_when_there_is_one() {
        let (config, _) =
            config(&format!("{LISTENER}[[route]]\nreply = {{}}")).expect("it is valid");
        assert_eq!(config.routes[0].listener, 0);
    }

    #[test]
    fn tables_of_other_crates_are_left_to_them() {
        let text = format!("{LISTENER}[[route]]\nreply = {{}}\n[chrome]\nport = 1\n");
        let report = config(&text).expect_err("nobody read it").to_string();
        assert!(report.contains("unknown table `chrome`"), "{report}");

        let document = Document::parse("a.toml", &text).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let config = Config::read(&mut root);
        let port = root.optional(
            "chrome",
            table(|chrome| chrome.required("port", "1", shape::integer::<u16>(1..=9))),
        );
        root.finish();
        assert!(reader.finish(config).is_ok());
        assert_eq!(port, Some(1));
    }

    #[test]
    fn what_is_never_used_is_a_warning_unless_there_are_errors() {
        let text = format!(
            "{LISTENER}[plugin.a]\ncomponent = 'builtin:a'\n[upstream.b]\nendpoints = ['http://b']\n"
        );
        let (_, warnings) = config(&text).expect("warnings are no errors");
        let messages: Vec<_> = warnings
            .iter()
            .map(|warning| warning.message.as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "plugin `a` stands in no route's chain, so it is never called",
                "upstream `b` is used by no route",
                "listener `main` has no route, so every request to it is a 404",
            ]
        );
        let problems = config(&format!("{text}x = 1")).expect_err("there is an unknown key");
        assert_eq!(problems.len(), 1, "{problems}");
    }

    #[test]
    fn a_reference_to_something_broken_is_no_second_problem() {
        let text = "[[listener]]\nname = 'main'\nbind = 'x'\n[upstream.a]\n[plugin.b]\n\
                    [[route]]\nlistener = 'main'\nupstream = 'a'\nplugins = ['b']\n";
        let problems = config(text).expect_err("three tables are incomplete");
        let messages: Vec<_> = problems
            .iter()
            .map(|problem| problem.message.as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "'x' is no address with a port",
                "`endpoints` is missing in `[upstream.a]`",
                "`component` is missing in `[plugin.b]`",
            ]
        );
    }

    #[test]
    fn each_mistake_in_a_route_is_on_the_line_of_its_value() {
        for (route, expected) in [
            ("upstream = 'orign'", "11 there is no upstream 'orign'"),
            (
                "listener = 'mian'\nreply = {}",
                "11 there is no listener 'mian'",
            ),
            (
                "reply = {}\nplugins = [\n'a',\n'c']",
                "14 there is no plugin 'c'",
            ),
            (
                "reply = {}\nplugins = ['a', 'b', 'a']",
                "12 'a' stands twice in the chain",
            ),
            (
                "plugins = []",
                "10 nothing answers this route: it has no upstream, no component, no reply, no redirect and no plugins",
            ),
            (
                "upstream = 'origin'\nreply = {}",
                "12 a route ends in an upstream, in a component, in a fixed reply or in a redirect, not in two of them",
            ),
            (
                "upstream = 'origin'\npath = '/apis/*'\nstrip-prefix = '/api'",
                "13 the route also matches paths that do not start with '/api'",
            ),
            (
                "upstream = 'origin'\nstrip-prefix = '/api'",
                "12 the route also matches paths that do not start with '/api'",
            ),
            ("reply = { status = 199 }", "11 199 is out of range"),
            (
                "upstream = [{ name = 'origin', weight = 0 }]",
                "11 no upstream of the list has a weight, so that no request would go anywhere",
            ),
            (
                "upstream = []",
                "11 no upstream of the list has a weight, so that no request would go anywhere",
            ),
            (
                "upstream = ['origin', 'orign']",
                "11 there is no upstream 'orign'",
            ),
            (
                "upstream = ['origin', { name = 'origin' }]",
                "11 upstream `origin` stands twice in the list",
            ),
            (
                "upstream = 'origin'\nsticky = { cookie = 'a' }",
                "12 `sticky` keeps clients with one of several upstreams, and there are none to choose from",
            ),
            (
                "upstream = ['origin']\nsticky = { cookie = 'a b' }",
                "12 '***' is no name of a cookie",
            ),
            (
                "redirect = { to = 'example.com' }",
                "11 'example.com' is no URL",
            ),
            (
                "redirect = { to = 'https://' }",
                "11 'https://' leads to no host",
            ),
            (
                "redirect = { to = 'https://{path}' }",
                "11 'https://{path}' leads to no host",
            ),
            (
                "path = '/{id}'\nredirect = { to = 'https://a.example{id}' }",
                "12 'https://a.example{id}' leads to no host",
            ),
            ("redirect = { to = '/a b' }", "11 '/a b' is no URL"),
            (
                "redirect = { to = '/{id}' }",
                "11 nothing stands for `{id}` here",
            ),
            (
                "redirect = { to = '/', status = 304 }",
                "11 304 sends nobody elsewhere",
            ),
            (
                "redirect = { to = '/' }\nrewrite = { path = '/' }",
                "10 a redirect says itself what becomes of the path",
            ),
            (
                "upstream = 'origin'\npath = '/a'\nrewrite = { prefix = '/b' }",
                "13 the route's `path` does not end in `/*`, so there is nothing behind a prefix",
            ),
            (
                "upstream = 'origin'\nrewrite = { path = '/a/{rest}' }",
                "12 a path in '/a/{rest}' does not stand between two segments",
            ),
            (
                "upstream = 'origin'\nrewrite = { path = '{rest}..' }",
                "12 a path in '{rest}..' does not stand between two segments",
            ),
            (
                "upstream = 'origin'\nrewrite = { path = '/a/../b' }",
                "12 servers differ in how they read '/a/../b'",
            ),
            (
                "upstream = 'origin'\nrewrite = { path = 'a' }",
                "12 'a' is no path",
            ),
            (
                "upstream = 'origin'\nrewrite = { path = '/a?b' }",
                "12 '/a?b' is no path",
            ),
            (
                "upstream = 'origin'\nrewrite = {}",
                "12 one of `path` and `prefix` says what the path becomes",
            ),
            (
                "[route.reply]\nstatus = 204\nbody = 'x'",
                "12 a 204 has no body",
            ),
            (
                "reply.headers = { Transfer-Encoding = 'chunked' }",
                "11 `transfer-encoding` is written by the proxy itself",
            ),
        ] {
            assert_eq!(route_problems(route), [expected]);
        }
    }

    #[test]
    fn routes_that_match_the_same_conflict_in_whatever_order_it_is_written() {
        let route = |rest: &str| format!("[[route]]\nreply = {{}}\n{rest}\n");
        let same = [
            route("host = ['a', 'b']\nmethods = ['GET', 'PUT']\npath = '/*'"),
            route("host = ['B', 'A']\nmethods = ['PUT', 'GET']"),
        ];
        let problems =
            config(&format!("{LISTENER}{}{}", same[0], same[1])).expect_err("both match the same");
        assert_eq!(problems.len(), 1, "{problems}");
        assert!(
            problems
                .to_string()
                .contains("route `route-2` matches exactly what route `route-1`")
        );
        let other = route("host = ['a', 'b']\nmethods = ['GET']");
        assert!(config(&format!("{LISTENER}{}{other}", same[0])).is_ok());
    }

    #[test]
    fn names_and_addresses_are_given_once() {
        let text = format!(
            "{LISTENER}[[listener]]\nname = 'main'\nbind = '127.0.0.1:81'\n\
             [[listener]]\nname = 'third'\nbind = '127.0.0.1:81'\n\
             [[route]]\nlistener = 'main'\nname = 'route-2'\nreply = {{}}\n\
             [[route]]\nlistener = 'third'\nreply = {{}}\n"
        );
        let problems = config(&text).expect_err("three things stand twice");
        let messages: Vec<_> = problems
            .iter()
            .map(|problem| problem.message.as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "there are two listeners of the name `main`",
                "127.0.0.1:81 is bound twice",
                "there are two routes of the name `route-2`",
            ]
        );
    }

    #[test]
    fn without_a_listener_there_is_one_problem_for_the_file() {
        for text in ["", "listener = []", "[[route]]\nreply = {}"] {
            let problems = config(text).expect_err("nothing would be served");
            assert_eq!(
                problems
                    .iter()
                    .map(|problem| problem.message.as_str())
                    .collect::<Vec<_>>(),
                ["there is no listener to accept connections"],
                "{text}"
            );
        }
    }
}
