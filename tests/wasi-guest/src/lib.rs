//! Does with WASI what the headers of its request say, and answers with what came of it. Without `x-do` it lets the
//! exchange pass.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::TcpStream;
use std::time::{Instant, SystemTime};

use witgate_plugin::{
    ConfigErrors, Exchange, Failure, NoConfig, Plugin, Reply, Request, RequestHook, RequestVerdict,
};

use bindings::wasi::config::store;
use bindings::wasi::keyvalue::{atomics, store as keyvalue};

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
mod bindings {
    witgate_plugin::__private::wit_bindgen::generate!({
        path: "wit",
        runtime_path: "witgate_plugin::__private::wit_bindgen::rt",
        generate_all,
    });
}

/// The plugin.
pub struct Wasi {
    started: Instant,
}

impl Plugin for Wasi {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, ConfigErrors> {
        Ok(Self {
            started: Instant::now(),
        })
    }
}

fn order(request: &Request, name: &str) -> Option<String> {
    let value = request.header(name)?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// The kind of the error, which is the same on every machine.
fn outcome<T>(result: io::Result<T>, shown: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => shown(value),
        Err(error) => format!("error: {:?}", error.kind()),
    }
}

fn list(directory: &str) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join(" "))
}

/// Opens a file again and again, and closes none.
fn leak(file: &str) -> io::Result<String> {
    let mut open = Vec::new();
    loop {
        open.push(File::open(file)?);
    }
}

/// What passes while the clock of the machine is asked: some time, and not none.
fn time() -> String {
    let (monotonic, wall) = (Instant::now(), SystemTime::UNIX_EPOCH.elapsed());
    while monotonic.elapsed().is_zero() {}
    match wall {
        Ok(since_1970) if since_1970.as_secs() > 1_700_000_000 => "it passes".into(),
        other => format!("{other:?}"),
    }
}

/// What a test sees that has a clock of its own.
fn now(since: Instant) -> String {
    let wall = SystemTime::UNIX_EPOCH
        .elapsed()
        .map(|time| time.as_millis());
    format!("{} {:?}", since.elapsed().as_millis(), wall.ok())
}

/// The seed of a map that nobody can foresee, unless a test chose it.
fn seed() -> String {
    format!("{:016x}", RandomState::new().hash_one(7))
}

fn configured(key: &str) -> String {
    match store::get(key) {
        Ok(Some(value)) => value,
        Ok(None) => "nothing".into(),
        Err(error) => format!("error: {error:?}"),
    }
}

/// One more than the last time, in the words of the standard.
fn counted(store: &str) -> String {
    let count = keyvalue::open(store).and_then(|bucket| {
        atomics::increment(&bucket, "orders", 1)?;
        bucket.get("orders")
    });
    match count {
        Ok(count) => String::from_utf8_lossy(&count.unwrap_or_default()).into_owned(),
        Err(error) => format!("error: {error:?}"),
    }
}

fn done(what: &str, on: &str, with: &str) -> String {
    match what {
        "env" => std::env::var(on).unwrap_or_else(|_| "nothing".into()),
        "all-env" => std::env::vars()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
            .join(" "),
        "config" => configured(on),
        "count" => counted(on),
        "read" => outcome(fs::read_to_string(on), |text| text),
        "write" => outcome(fs::write(on, with), |()| "written".into()),
        "remove" => outcome(fs::remove_file(on), |()| "removed".into()),
        "list" => outcome(list(on), |names| names),
        "leak" => outcome(leak(on), |text| text),
        "connect" => outcome(TcpStream::connect(on), |_| "connected".into()),
        "time" => time(),
        "seed" => seed(),
        other => format!("{other} is not known"),
    }
}

impl RequestHook for Wasi {
    fn on_request(&self, _: &Exchange, request: &mut Request) -> Result<RequestVerdict, Failure> {
        let Some(what) = order(request, "x-do") else {
            return Ok(RequestVerdict::Next);
        };
        let argument = |name| order(request, name).unwrap_or_default();
        let text = match what.as_str() {
            "clock" => now(self.started),
            what => done(what, &argument("x-on"), &argument("x-with")),
        };
        Ok(RequestVerdict::Answer(Reply::new(200).text(text)))
    }
}

witgate_plugin::export!(Wasi: request);
