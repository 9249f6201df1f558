//! What can only be said of routes when all of them are known.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;

use super::matching::{Shape, Wanted};
use super::model::{Config, Destination, HostPattern, Route, RouteLimits};
use super::route::Read;
use super::shape::Located;
use super::{Location, Problem, Reader};

/// Reports each name that was given before.
pub(super) fn unique_names<'n>(
    reader: &Reader<'_>,
    noun: &str,
    names: impl Iterator<Item = &'n Located<String>>,
) {
    let mut seen: BTreeMap<&str, &Location> = BTreeMap::new();
    for name in names {
        if let Some(first) = seen.get(name.value.as_str()) {
            reader.report(
                Problem::error(
                    name.location.clone(),
                    &name.path,
                    format!("there are two {noun}s of the name `{}`", name.value),
                )
                .with_help("choose another name for one of them")
                .with_related((*first).clone(), "the first one"),
            );
        } else {
            seen.insert(&name.value, &name.location);
        }
    }
}

/// Reports each route whose requests an earlier one takes, because it matches exactly the same.
pub(super) fn conflicts(reader: &Reader<'_>, routes: &[Read]) {
    let mut seen: BTreeMap<MatchKey<'_>, &Read> = BTreeMap::new();
    for later in routes {
        let earlier = *seen.entry(match_key(&later.route)).or_insert(later);
        if std::ptr::eq(earlier, later) {
            continue;
        }
        let message = format!(
            "route `{}` matches exactly what route `{}` matches, so it is never reached",
            later.name.value, earlier.name.value
        );
        reader.report(
            Problem::error(later.match_location.clone(), &later.path, message)
                .with_help(
                    "change `host`, `path`, `methods`, `headers` or `query` of one of them, or remove it",
                )
                .with_related(earlier.match_location.clone(), "the earlier route"),
        );
    }
}

/// Everything that decides whether a route matches, without the order in which it was written.
type MatchKey<'r> = (
    usize,
    BTreeSet<&'r HostPattern>,
    Shape<'r>,
    BTreeSet<&'r str>,
    BTreeSet<(&'r str, Wanted<'r>)>,
    BTreeSet<(&'r str, Wanted<'r>)>,
);

fn match_key(route: &Route) -> MatchKey<'_> {
    let conditions = &route.conditions;
    let headers = conditions.headers.iter();
    let query = conditions.query.iter();
    (
        route.listener,
        route.hosts.iter().collect(),
        route.path.shape(),
        conditions.methods.iter().map(Method::as_str).collect(),
        headers
            .map(|one| (one.name.as_str(), one.value.wanted()))
            .collect(),
        query.map(|one| (&*one.name, one.value.wanted())).collect(),
    )
}

/// The routes of a listener that are told apart by their conditions alone.
type Group<'r> = (usize, Option<&'r HostPattern>, Shape<'r>);

/// Warns of each route that others leave no request to, for some of its hosts or for all.
pub(super) fn unreachable(reader: &Reader<'_>, routes: &[Read]) {
    let mut groups: BTreeMap<Group<'_>, Vec<&Read>> = BTreeMap::new();
    for read in routes {
        for group in groups_of(&read.route) {
            groups.entry(group).or_default().push(read);
        }
    }
    for group in groups.values_mut() {
        // Stable, so that what stands first in the file stays first.
        group.sort_by_key(|read| Reverse(read.route.conditions.rank()));
    }
    for read in routes {
        let of_route = groups_of(&read.route);
        let taken: Vec<_> = (of_route.iter())
            .filter_map(|group| Some((group.1, taker(&groups[group], read)?)))
            .collect();
        if let Some((host, taker)) = taken.first() {
            report_taken(
                reader,
                read,
                taker,
                host.filter(|_| taken.len() < of_route.len()),
            );
        }
    }
}

fn groups_of(route: &Route) -> Vec<Group<'_>> {
    let group = |host| (route.listener, host, route.path.shape());
    match route.hosts.is_empty() {
        true => vec![group(None)],
        false => {
            let hosts: BTreeSet<_> = route.hosts.iter().collect();
            hosts.into_iter().map(|host| group(Some(host))).collect()
        }
    }
}

/// The route that takes all that this one asks for, among those that are asked first.
fn taker<'r>(group: &[&'r Read], read: &Read) -> Option<&'r Read> {
    let mut before = group
        .iter()
        .take_while(|other| !std::ptr::eq(**other, read));
    let conditions = &read.route.conditions;
    let found = before.find(|other| other.route.conditions.follow_from(conditions))?;
    // Of routes that are the same in all, it was said already.
    (match_key(&found.route) != match_key(&read.route)).then_some(*found)
}

fn report_taken(reader: &Reader<'_>, read: &Read, taker: &Read, host: Option<&HostPattern>) {
    let (name, taker_name) = (&read.name.value, &taker.name.value);
    let message = match host {
        Some(host) => {
            format!(
                "route `{name}` is never reached for host {host}: route `{taker_name}` takes what it asks for"
            )
        }
        None => {
            format!("route `{name}` is never reached: route `{taker_name}` takes what it asks for")
        }
    };
    reader.report(
        Problem::warning(read.match_location.clone(), &read.path, message)
            .with_help("ask for more in it, or for less in the other, or remove it")
            .with_related(taker.match_location.clone(), "the route that comes first"),
    );
}

/// Warns of what is declared and never used. Only for a configuration without errors: before that, a reference with a
/// misspelt name would show up here a second time.
pub(super) fn unused(reader: &Reader<'_>, config: &Config) {
    let chained: BTreeSet<&Arc<str>> = config
        .routes
        .iter()
        .flat_map(|route| route.plugins.iter().chain(component_of(route)))
        .collect();
    for (name, plugin) in &config.plugins {
        if !chained.contains(name) {
            let message =
                format!("plugin `{name}` stands in no route's chain, so it is never called");
            let problem =
                Problem::warning(plugin.location.clone(), format!("plugin.{name}"), message);
            reader.report(problem.with_help(format!(
                "add \"{name}\" to `plugins` of a route, or remove it"
            )));
        }
    }
    let reached: BTreeSet<&Arc<str>> = config.routes.iter().flat_map(upstreams_of).collect();
    for (name, upstream) in &config.upstreams {
        if !reached.contains(name) {
            let message = format!("upstream `{name}` is used by no route");
            let problem = Problem::warning(
                upstream.location.clone(),
                format!("upstream.{name}"),
                message,
            );
            reader.report(problem.with_help(format!(
                "write `upstream = \"{name}\"` in a route, or remove it"
            )));
        }
    }
    upgrade_keys_without_upgrades(reader, config);
    for (index, listener) in config.listeners.iter().enumerate() {
        if !config.routes.iter().any(|route| route.listener == index) {
            let name = &listener.name;
            let message =
                format!("listener `{name}` has no route, so every request to it is a 404");
            let problem = Problem::warning(
                listener.bind_location.clone(),
                format!("listener.{index}"),
                message,
            );
            reader.report(
                problem.with_help(format!("add a `[[route]]` with `listener = \"{name}\"`")),
            );
        }
    }
}

fn upgrade_keys_without_upgrades(reader: &Reader<'_>, config: &Config) {
    for (index, route) in config.routes.iter().enumerate() {
        let about_upgrades = route.websocket.is_some() || route.limits != RouteLimits::default();
        if about_upgrades && upstreams_of(route).is_empty() {
            let name = &route.name;
            let message = format!("route `{name}` limits or watches upgrades, and has none");
            let problem =
                Problem::warning(route.location.clone(), format!("route.{index}"), message);
            reader.report(problem.with_help(
                "only an upstream grants upgrades: add `upstream`, or remove `websocket` and `limits`",
            ));
        }
    }
}

fn upstreams_of(route: &Route) -> Vec<&Arc<str>> {
    match &route.destination {
        Destination::Upstream(name) => vec![name],
        Destination::Split(split) => split.shares.iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    }
}

fn component_of(route: &Route) -> Option<&Arc<str>> {
    match &route.destination {
        Destination::Component { name, .. } => Some(name),
        _ => None,
    }
}
