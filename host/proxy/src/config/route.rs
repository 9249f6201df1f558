//! Reads `[[route]]`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};

use super::compress::compress;
use super::http_shape::{
    header_conditions, host, method, path_pattern, prefix, query_conditions, reply_headers,
};
use super::matching::{Conditions, PathPattern};
use super::model::{
    Destination, FixedReply, Redirect, Rewrite, Route, RouteLimits, RouteTimeouts, Split, Sticky,
    Websocket,
};
use super::shape::{
    Located, boolean, duration, integer, list, located, name, one_or_many, positive_duration,
    string, table,
};
use super::suggest::{did_you_mean, enumerate};
use super::template::{path_template, url_template};
use super::{Item, Location, Problem, Section};

/// Names that a route can refer to: all that are declared, also those whose declaration is wrong otherwise.
pub(super) struct Names {
    /// `None` when a listener has no readable name, so that a reference cannot be said to lead nowhere.
    pub(super) listeners: Option<Vec<String>>,
    pub(super) upstreams: Vec<String>,
    pub(super) plugins: Vec<String>,
}

/// A route, and the places that only the checks across routes need.
pub(super) struct Read {
    pub(super) route: Route,
    pub(super) name: Located<String>,
    /// Dotted path of the table.
    pub(super) path: String,
    /// The place to point at when the route can never be reached.
    pub(super) match_location: Location,
}

/// `position` counts from 1.
pub(super) fn read(section: &mut Section<'_>, names: &Names, position: usize) -> Option<Read> {
    let name = section
        .optional("name", located(name))
        .unwrap_or_else(|| Located {
            value: format!("route-{position}"),
            location: section.location(),
            path: section.path().to_owned(),
        });
    let listener = read_listener(section, names);
    let hosts = section.default("host", Vec::new(), one_or_many(host));
    let given = section.item("path");
    let path = given.as_ref().and_then(located(path_pattern));
    let conditions = Conditions {
        methods: section.default("methods", Vec::new(), list(method)),
        headers: section.default("headers", Vec::new(), header_conditions),
        query: section.default("query", Vec::new(), query_conditions),
    };
    let rewrite = read_rewrite(section, path.as_ref());
    let plugins = read_plugins(section, names);
    let destination = read_destination(section, names, plugins.is_some(), path.as_ref());
    if let (Some(_), Some(Destination::Redirect(_))) = (&rewrite, &destination) {
        let message = "a redirect says itself what becomes of the path";
        let problem = Problem::error(section.location(), section.path(), message);
        section.reader().report(
            problem.with_help(
                "leave `strip-prefix` and `rewrite` out; `{rest}` is what stands for `/*`",
            ),
        );
    }
    let (plugins, plugin_locations) = plugins.unwrap_or_default().into_iter().unzip();
    let compress = section.optional("compress", compress);
    let access_log = section.default("access-log", true, boolean);
    let websocket = section.optional("websocket", table(read_websocket));
    let timeouts = section.default("timeouts", RouteTimeouts::default(), table(read_timeouts));
    let limits = section.default("limits", RouteLimits::default(), table(read_limits));
    let match_location = match &path {
        Some(path) => path.location.clone(),
        None => section.location(),
    };
    // One that cannot be read matches nothing, rather than everything.
    let path_value = match (given, path) {
        (None, _) => PathPattern::prefix(""),
        (Some(_), path) => path?.value,
    };
    Some(Read {
        route: Route {
            name: name.value.as_str().into(),
            listener: listener?,
            hosts,
            path: path_value,
            conditions,
            rewrite,
            plugins,
            plugin_locations,
            destination: destination?,
            compress,
            access_log,
            websocket,
            timeouts,
            limits,
            location: section.location(),
        },
        name,
        path: section.path().to_owned(),
        match_location,
    })
}

fn read_listener(section: &mut Section<'_>, names: &Names) -> Option<usize> {
    let given = section.item("listener");
    let Some(listeners) = &names.listeners else {
        return None;
    };
    if let Some(item) = given {
        return reference(&item, "listener", "[[listener]]", listeners);
    }
    match listeners.len() {
        // That there is no listener at all is reported once, and not for every route.
        0 => None,
        1 => Some(0),
        _ => {
            let problem = Problem::error(
                section.location(),
                format!("{}.listener", section.path()),
                "`listener` is missing in a route, and there are several to choose from",
            );
            let known = enumerate(listeners.iter().map(String::as_str));
            section
                .reader()
                .report(problem.with_help(format!("add `listener = NAME`, one of {known}")));
            None
        }
    }
}

/// The index of the name that the item holds.
fn reference(item: &Item<'_>, noun: &str, header: &str, declared: &[String]) -> Option<usize> {
    let text = item.text(&format!("the name of {header}"))?;
    let index = declared.iter().position(|name| name == text);
    if index.is_none() {
        let known = || declared.iter().map(String::as_str);
        let problem = item.problem(format!("there is no {noun} {}", item.shown()));
        let list = match declared {
            [] => format!("the file declares no {noun}; add `{header}`"),
            _ => format!("declared here: {}", enumerate(known())),
        };
        let suggestion = did_you_mean(text, known()).filter(|_| !item.is_interpolated());
        item.reader().report(match suggestion {
            Some(suggestion) => problem.with_help(suggestion).with_note(list),
            None => problem.with_help(list),
        });
    }
    index
}

/// `strip-prefix` or `rewrite`.
fn read_rewrite(section: &mut Section<'_>, path: Option<&Located<PathPattern>>) -> Option<Rewrite> {
    let strip = read_strip_prefix(section, path);
    let Some(item) = section.item("rewrite") else {
        return strip;
    };
    let pattern = path.map_or_else(|| PathPattern::prefix(""), |path| path.value.clone());
    let rewrite = table(|rewrite| read_new_path(rewrite, &pattern))(&item);
    if strip.is_some() {
        return item.reject(
            "`strip-prefix` and `rewrite` both say what becomes of the path",
            "leave one out: `rewrite = { prefix = \"/v2\" }` replaces what comes before `/*`",
        );
    }
    rewrite
}

fn read_new_path(section: &mut Section<'_>, pattern: &PathPattern) -> Option<Rewrite> {
    match (section.item("path"), section.item("prefix")) {
        (Some(path), None) => path_template(&path, pattern).map(Rewrite::Path),
        (None, Some(prefix)) if !pattern.open => prefix.reject(
            "the route's `path` does not end in `/*`, so there is nothing behind a prefix",
            "write `rewrite = { path = \"…\" }`",
        ),
        (None, Some(prefix)) => {
            let template = path_template(&prefix, pattern)?;
            if prefix.text("the start of a path")?.ends_with('/') {
                return prefix.reject(
                    "what comes behind the prefix begins with a `/`",
                    "leave the last `/` out; `strip-prefix` takes a prefix off and puts none in its place",
                );
            }
            Some(Rewrite::Prefix(template))
        }
        _ => {
            let message = "one of `path` and `prefix` says what the path becomes";
            let problem = Problem::error(section.location(), section.path(), message);
            section
                .reader()
                .report(problem.with_help("write `rewrite = { path = \"/v2/{id}\" }`"));
            None
        }
    }
}

fn read_strip_prefix(
    section: &mut Section<'_>,
    path: Option<&Located<PathPattern>>,
) -> Option<Rewrite> {
    let item = section.item("strip-prefix")?;
    let stripped = prefix(&item)?;
    let fixed = path.map_or("", |path| &*path.value.head);
    let fits = fixed
        .strip_prefix(stripped.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if fits {
        return Some(Rewrite::Strip(stripped.into()));
    }
    let shown = item.shown();
    let problem = item
        .problem(format!(
            "the route also matches paths that do not start with {shown}"
        ))
        .with_help(if item.is_interpolated() {
            "let `path` start with the same prefix".to_owned()
        } else {
            format!("let `path` start with it: path = \"{stripped}/*\"")
        });
    item.reader().report(match path {
        Some(path) => problem.with_related(path.location.clone(), "the paths that it matches"),
        None => problem.with_note("without `path` a route matches every path"),
    });
    None
}

/// `None` when no plugin is listed; a list that is all wrong is an empty chain.
fn read_plugins(section: &mut Section<'_>, names: &Names) -> Option<Vec<(Arc<str>, Location)>> {
    let listed = section.item("plugins")?.elements("a list of plugin names");
    if listed.as_ref().is_some_and(Vec::is_empty) {
        return None;
    }
    let mut chain: Vec<(Arc<str>, Location)> = Vec::new();
    for item in listed.unwrap_or_default() {
        let Some(index) = reference(&item, "plugin", "[plugin.NAME]", &names.plugins) else {
            continue;
        };
        let name: Arc<str> = names.plugins[index].as_str().into();
        match chain.iter().find(|(earlier, _)| *earlier == name) {
            None => chain.push((name, item.location())),
            Some((_, earlier)) => item.reader().report(
                item.problem(format!("{} stands twice in the chain", item.shown()))
                    .with_help(
                        "leave one out; a second `[plugin.NAME]` of the same component can differ",
                    )
                    .with_related(earlier.clone(), "it stands here first"),
            ),
        }
    }
    Some(chain)
}

fn read_destination(
    section: &mut Section<'_>,
    names: &Names,
    has_plugins: bool,
    path: Option<&Located<PathPattern>>,
) -> Option<Destination> {
    let ends = ["upstream", "component", "reply", "redirect"].map(|key| section.item(key));
    let mut given = ends.iter().flatten();
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        second.reader().report(
            second
                .problem("a route ends in an upstream, in a component, in a fixed reply or in a redirect, not in two of them")
                .with_help("remove one of them, or split the route")
                .with_related(first.location(), format!("the {}", first.name())),
        );
        return None;
    }
    let [upstream, component, reply, redirect] = ends;
    if upstream.as_ref().is_none_or(|item| !item.is_list())
        && let Some(sticky) = section.item("sticky")
    {
        return sticky.reject(
            "`sticky` keeps clients with one of several upstreams, and there are none to choose from",
            "leave it out, or list upstreams: upstream = [{ name = \"a\", weight = 9 }, { name = \"b\" }]",
        );
    }
    match (upstream, component, reply, redirect) {
        (Some(item), ..) if item.is_list() => read_split(section, &item, names),
        (Some(item), ..) => upstream_name(&item, names).map(Destination::Upstream),
        (_, Some(item), ..) => {
            let index = reference(&item, "plugin", "[plugin.NAME]", &names.plugins)?;
            Some(Destination::Component {
                name: names.plugins[index].as_str().into(),
                location: item.location(),
            })
        }
        (_, _, Some(item), _) => table(read_reply)(&item).map(Destination::Reply),
        (.., Some(item)) => {
            let pattern = path.map_or_else(|| PathPattern::prefix(""), |path| path.value.clone());
            let read = |redirect: &mut Section<'_>| read_redirect(redirect, &pattern);
            table(read)(&item).map(Destination::Redirect)
        }
        (None, None, None, None) if has_plugins => Some(Destination::Plugins),
        (None, None, None, None) => {
            let message = "nothing answers this route: it has no upstream, no component, no reply, no redirect and no plugins";
            section.reader().report(
                Problem::error(section.location(), section.path(), message).with_help(
                    "add `upstream = NAME`, `component = NAME`, `reply = { body = TEXT }`, `redirect = { to = URL }`, or `plugins` of which one answers",
                ),
            );
            None
        }
    }
}

fn upstream_name(item: &Item<'_>, names: &Names) -> Option<Arc<str>> {
    let index = reference(item, "upstream", "[upstream.NAME]", &names.upstreams)?;
    Some(names.upstreams[index].as_str().into())
}

/// `upstream = [{ name = "a", weight = 9 }, "b"]`
fn read_split(section: &mut Section<'_>, item: &Item<'_>, names: &Names) -> Option<Destination> {
    let sticky = section.optional("sticky", table(read_sticky));
    let listed = item.elements("a list of upstreams")?;
    let mut shares: Vec<(Arc<str>, u32)> = Vec::new();
    for item in &listed {
        let share = match item.is_table() {
            true => table(|share| read_share(share, names))(item)?,
            false => (upstream_name(item, names)?, 1),
        };
        if shares.iter().any(|(name, _)| *name == share.0) {
            return item.reject(
                format!("upstream `{}` stands twice in the list", share.0),
                "leave one out, and add its weight to the other",
            );
        }
        shares.push(share);
    }
    if shares.iter().all(|(_, weight)| *weight == 0) {
        return item.reject(
            "no upstream of the list has a weight, so that no request would go anywhere",
            "give one of them a weight of 1 or more",
        );
    }
    Some(Destination::Split(Split { shares, sticky }))
}

fn read_share(section: &mut Section<'_>, names: &Names) -> Option<(Arc<str>, u32)> {
    let name = section.required("name", "\"origin\"", |item| upstream_name(item, names));
    let weight = section.default("weight", 1, integer(0..=1_000_000));
    Some((name?, weight))
}

fn read_sticky(section: &mut Section<'_>) -> Option<Sticky> {
    match (section.item("cookie"), section.item("header")) {
        (Some(cookie), None) => cookie_name(&cookie).map(Sticky::Cookie),
        (None, Some(header)) => field_name(&header).map(Sticky::Header),
        _ => {
            let message = "one of `cookie` and `header` says what keeps a client with its upstream";
            let problem = Problem::error(section.location(), section.path(), message);
            let help = "write `sticky = { cookie = \"session\" }`";
            section.reader().report(problem.with_help(help));
            None
        }
    }
}

fn field_name(item: &Item<'_>) -> Option<HeaderName> {
    let name = item.text("the name of a field")?.parse().ok();
    name.or_else(|| {
        item.reject(
            format!("{} is no header name", item.shown()),
            "write one such as \"x-user\"",
        )
    })
}

/// A token, as RFC 6265 §4.1.1 wants it.
fn cookie_name(item: &Item<'_>) -> Option<Box<str>> {
    let text = item.text("the name of a cookie")?;
    match text.parse::<HeaderName>() {
        Ok(_) => Some(text.into()),
        Err(_) => item.reject(
            format!("{} is no name of a cookie", item.shown()),
            "write one such as \"session\"",
        ),
    }
}

fn read_redirect(section: &mut Section<'_>, pattern: &PathPattern) -> Option<Redirect> {
    let to = section.required("to", "\"https://{host}{path}\"", |item| {
        url_template(item, pattern)
    });
    let status = section.default("status", StatusCode::PERMANENT_REDIRECT, redirect_status);
    Some(Redirect { to: to?, status })
}

fn redirect_status(item: &Item<'_>) -> Option<StatusCode> {
    let code: u16 = integer(300..=399)(item)?;
    if ![301, 302, 303, 307, 308].contains(&code) {
        return item.reject(
            format!("{code} sends nobody elsewhere"),
            "write 301, 302, 303, 307 or 308; 307 (for now) and 308 (for good) keep method and body",
        );
    }
    StatusCode::from_u16(code).ok()
}

fn read_websocket(section: &mut Section<'_>) -> Option<Websocket> {
    let interval = section.required("ping-interval", "\"10s\"", ping_time);
    let timeout = section.default("ping-timeout", Duration::from_secs(10), ping_time);
    Some(Websocket {
        ping_interval: interval?,
        ping_timeout: timeout,
    })
}

/// Shorter would load the worker for nothing, and take a pause of the client for its death.
fn ping_time(item: &Item<'_>) -> Option<Duration> {
    const SHORTEST: Duration = Duration::from_millis(100);
    let time = duration(item)?;
    if time < SHORTEST {
        return item.reject(
            format!("{} is too short", item.shown()),
            "write at least \"100ms\"; \"10s\" is usual",
        );
    }
    Some(time)
}

fn read_timeouts(section: &mut Section<'_>) -> Option<RouteTimeouts> {
    Some(RouteTimeouts {
        response: section.optional("response", positive_duration),
        idle: section.optional("idle", positive_duration),
        total: section.optional("total", positive_duration),
    })
}

fn read_limits(section: &mut Section<'_>) -> Option<RouteLimits> {
    let count = || integer(1..=10_000_000);
    Some(RouteLimits {
        upgrades: section.optional("upgrades", count()),
        upgrades_per_client: section.optional("upgrades-per-client", count()),
    })
}

fn read_reply(section: &mut Section<'_>) -> Option<FixedReply> {
    let status = section.optional("status", located(integer::<u16>(200..=599)));
    let mut headers = section.default("headers", Vec::new(), reply_headers);
    let body = section.default("body", String::new(), string);
    let code = status.as_ref().map_or(200, |status| status.value);
    if [204, 205, 304].contains(&code) && !body.is_empty() {
        let place = status.map_or_else(|| section.location(), |status| status.location);
        section.reader().report(
            Problem::error(
                place,
                format!("{}.status", section.path()),
                format!("a {code} has no body"),
            )
            .with_help("leave `body` out, or choose another status"),
        );
    }
    if !body.is_empty() && !headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.push((CONTENT_TYPE, text));
    }
    Some(FixedReply {
        status: StatusCode::from_u16(code).ok()?,
        headers,
        body: Bytes::from(body),
    })
}
