//! `witgate plugin bench`: what a component costs.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use witgate_runtime::{PluginFailure, Runtime};
use witgate_testkit::{Component, Direction, End, Exchange, Message, Messages, Plugin, Summary};

use super::args::Bench;
use super::project::Project;
use super::{build, component};
use crate::Ended;
use crate::args::Format;
use crate::output;

/// Batches of 64 calls, of which the median counts: what else the machine does falls upon few of them.
const BATCHES: u32 = 200;

/// Calls before anything is measured, in batches.
const WARM_UP: u32 = 20;

/// Starts of an instance.
const STARTS: usize = 20;

/// What was measured. Times are of this machine, fuel is the same everywhere.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Costs {
    /// Of a call of `on-request`, in nanoseconds.
    request_ns: Option<f64>,
    request_fuel: Option<u64>,
    response_ns: Option<f64>,
    response_fuel: Option<u64>,
    /// Of a message of a WebSocket that the plugin looks at.
    message_ns: Option<f64>,
    message_fuel: Option<u64>,
    completion_ns: Option<f64>,
    completion_fuel: Option<u64>,
    /// To compile the component, as a start without a code cache does.
    compile_ms: f64,
    /// To make and configure an instance.
    start_us: f64,
    start_fuel: u64,
    /// Bytes of an instance's memory.
    memory: u64,
    /// Bytes of the component.
    component: u64,
}

pub(crate) fn bench(args: &Bench) -> Result<(), Ended> {
    let bytes = match &args.component {
        Some(component) => component::read(component)?,
        None => {
            let project = Project::find(&args.project)?;
            build::build_project(&project)?;
            component::read(&project.component().display().to_string())?
        }
    };
    let baseline = match &args.baseline {
        Some(file) => read(file)?,
        None => None,
    };
    let costs = measure(&bytes, &args.config)?;
    match args.format {
        Format::Json => {
            let json = serde_json::to_string_pretty(&costs).map_err(Ended::because)?;
            output::line(json)?;
        }
        Format::Text => output::print(table(&costs, baseline.as_ref()))?,
    }
    if let (Some(file), true) = (&args.baseline, args.save || baseline.is_none()) {
        let json = serde_json::to_string_pretty(&costs).map_err(Ended::because)?;
        fs::write(file, json + "\n")
            .map_err(|error| Ended::because(format!("cannot write {}: {error}", file.display())))?;
        eprintln!("saved as {}", file.display());
    }
    Ok(())
}

fn read(file: &Path) -> Result<Option<Costs>, Ended> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Ended::because(format!(
                "cannot read {}: {error}",
                file.display()
            )));
        }
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Ended::because(format!(
            "{} is no baseline of `witgate plugin bench`: {error}; write it anew with `--save`",
            file.display()
        ))
    })
}

fn measure(bytes: &[u8], config: &str) -> Result<Costs, Ended> {
    let production = Runtime::new(None).map_err(Ended::because)?;
    let begun = Instant::now();
    let component = Component::load(&production, bytes).map_err(Ended::because)?;
    let compiled = begun.elapsed();
    let metered = Runtime::metered(None).map_err(Ended::because)?;
    let counted = Component::load(&metered, bytes).map_err(Ended::because)?;
    let plugin = start(&component, config)?;
    let counted = start(&counted, config)?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        start(&component, config)?;
        starts.push(begun.elapsed());
    }
    let hooks = component.hooks();
    let (mut request, mut response) = (None, None);
    if hooks.request {
        let time = |batches| plugin.time_requests(batches, self::request);
        let call = |exchange: &mut Exchange| counted.try_on_request(exchange).map(drop);
        request = Some(hook(time, &counted, call, self::request())?);
    }
    if hooks.response {
        let make = || self::request().response(200, &[("content-type", "text/html")]);
        let time = |batches| plugin.time_responses(batches, make);
        let call = |exchange: &mut Exchange| counted.try_on_response(exchange).map(drop);
        response = Some(hook(time, &counted, call, make())?);
    }
    let on_message = match hooks.message {
        true => message(&plugin, &counted)?,
        false => None,
    };
    let completion = match hooks.completion {
        true => {
            let make = || self::request().response(200, &[("content-type", "text/html")]);
            let summary = summary();
            let time = |batches| plugin.time_completions(batches, make, &summary);
            let call = |exchange: &mut Exchange| counted.try_on_complete(exchange, &summary);
            Some(hook(time, &counted, call, make())?)
        }
        false => None,
    };
    Ok(Costs {
        message_ns: on_message.map(|(ns, _)| ns),
        message_fuel: on_message.map(|(_, fuel)| fuel),
        completion_ns: completion.map(|(ns, _)| ns),
        completion_fuel: completion.map(|(_, fuel)| fuel),
        request_ns: request.map(|(ns, _)| ns),
        request_fuel: request.map(|(_, fuel)| fuel),
        response_ns: response.map(|(ns, _)| ns),
        response_fuel: response.map(|(_, fuel)| fuel),
        compile_ms: compiled.as_secs_f64() * 1e3,
        start_us: median(starts).as_secs_f64() * 1e6,
        start_fuel: counted.start_cost(),
        memory: plugin.instance_memory() as u64,
        component: bytes.len() as u64,
    })
}

fn start(component: &Component, config: &str) -> Result<Plugin, Ended> {
    component.try_start(config).map_err(|error| {
        Ended::because(format!(
            "{error}\nName a configuration that the plugin takes with `--config JSON`."
        ))
    })
}

/// Nanoseconds and fuel of a call. The fuel is that of the second call: the first may have to set things up.
fn hook(
    time: impl Fn(u32) -> Result<Vec<Duration>, PluginFailure>,
    counted: &Plugin,
    call: impl Fn(&mut Exchange) -> Result<(), PluginFailure>,
    mut exchange: Exchange,
) -> Result<(f64, u64), Ended> {
    let mut measured = || -> Result<(f64, u64), PluginFailure> {
        time(WARM_UP)?;
        let nanoseconds = median(time(BATCHES)?).as_secs_f64() * 1e9;
        call(&mut exchange)?;
        let before = counted.cost();
        call(&mut exchange)?;
        Ok((nanoseconds, counted.cost() - before))
    };
    measured().map_err(Ended::because)
}

/// Of one message; `None` for a plugin that looks at none.
fn message(plugin: &Plugin, counted: &Plugin) -> Result<Option<(f64, u64)>, Ended> {
    let open = |plugin: &Plugin| {
        let mut exchange = request()
            .upgrade("websocket")
            .response(101, &[("upgrade", "websocket")]);
        plugin.try_on_upgrade(&mut exchange)
    };
    // Two instances: the one that counts is slower.
    let timed = open(plugin).map_err(Ended::because)?;
    let counting = open(counted).map_err(Ended::because)?;
    let (Some(timed), Some(counting)) = (timed, counting) else {
        return Ok(None);
    };
    let directions = [Direction::ToUpstream, Direction::ToClient];
    let wanted = |direction: &Direction| Messages::wants(&timed, *direction, false);
    let Some(direction) = directions.into_iter().find(wanted) else {
        return Ok(None);
    };
    let text = r#"{"id":1,"method":"Page.navigate","params":{"url":"https://www.example.com/"}}"#;
    let message = Message::Text(text.into());
    let time = |batches| plugin.time_messages(batches, &timed, direction, &message);
    let call = |_: &mut Exchange| counting.try_send(direction, message.clone()).map(drop);
    hook(time, counted, call, request()).map(Some)
}

/// An exchange that went well.
fn summary() -> Summary {
    Summary {
        end: End::Complete,
        status: Some(http::StatusCode::OK),
        received: 0,
        sent: 20_000,
        duration: Duration::from_millis(12),
        upstream_time: Some(Duration::from_millis(10)),
        upstream: Some("192.0.2.1:80".into()),
        answered_by: None,
    }
}

/// What a browser sends.
fn request() -> Exchange {
    Exchange::get("/index.html?page=2")
        .authority("www.example.com")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")
        .header("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
        .header("accept-language", "en-GB,en;q=0.5")
        .header("accept-encoding", "gzip, deflate, br")
        .header("referer", "https://www.example.com/")
        .header("cookie", "session=0123456789abcdef")
        .header("x-request-id", "4bf92f3577b34da6")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// What, its unit, and where it is found.
type Row = (&'static str, &'static str, fn(&Costs) -> Option<f64>);

fn table(costs: &Costs, baseline: Option<&Costs>) -> String {
    let rows: [Row; 13] = [
        ("on-request", "ns", |costs| costs.request_ns),
        ("on-request", "fuel", |costs| {
            costs.request_fuel.map(|fuel| fuel as f64)
        }),
        ("on-response", "ns", |costs| costs.response_ns),
        ("on-response", "fuel", |costs| {
            costs.response_fuel.map(|fuel| fuel as f64)
        }),
        ("on-message", "ns", |costs| costs.message_ns),
        ("on-message", "fuel", |costs| {
            costs.message_fuel.map(|fuel| fuel as f64)
        }),
        ("on-complete", "ns", |costs| costs.completion_ns),
        ("on-complete", "fuel", |costs| {
            costs.completion_fuel.map(|fuel| fuel as f64)
        }),
        ("start of an instance", "µs", |costs| Some(costs.start_us)),
        ("start of an instance", "fuel", |costs| {
            Some(costs.start_fuel as f64)
        }),
        ("memory of an instance", "KiB", |costs| {
            Some(costs.memory as f64 / 1024.0)
        }),
        ("compilation, uncached", "ms", |costs| {
            Some(costs.compile_ms)
        }),
        ("component", "KiB", |costs| {
            Some(costs.component as f64 / 1024.0)
        }),
    ];
    let mut text = String::new();
    for (what, unit, value) in rows {
        let Some(now) = value(costs) else { continue };
        let change = match baseline.and_then(value) {
            Some(before) if before > 0.0 => {
                format!("  {:+.1} % of {before:.0}", (now / before - 1.0) * 100.0)
            }
            _ => String::new(),
        };
        text.push_str(&format!("{what:<22} {now:>12.0} {unit:<4}{change}\n"));
    }
    text
}
