//! What plugins add to whole exchanges, in time of the worker's processor: `cargo bench -p witgate-proxy --bench exchange`.
//!
//! One worker, kept-alive connections over the loopback, an upstream and a client in this process. The routes differ in
//! their plugins only, so that the rows are to be compared with the first.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use witgate_build::Build;
use witgate_proxy::config::{Config, Document};
use witgate_proxy::{Builtins, Generation, Server};
use witgate_runtime::{CodeCache, Runtime};

/// Exchanges under way at once: enough that the worker seldom sleeps between two.
const CONNECTIONS: usize = 8;

/// How the routes are called, and what stands in `plugins`.
const ROUTES: [(&str, &str); 4] = [
    ("no plugin", ""),
    ("no-op hook", r#""nothing""#),
    ("get and set a header", r#""first""#),
    ("three plugins", r#""first", "second", "third""#),
];

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

fn exchanges(criterion: &mut Criterion) {
    let server = serve(origin());
    let proxy = server.listeners()[0].address.internet().expect("a port");
    for (at, (name, _)) in ROUTES.iter().enumerate() {
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::new(proxy, at)).collect();
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let rounds = times.div_ceil(CONNECTIONS as u64);
                let start = worker_time();
                for _ in 0..rounds {
                    clients.iter_mut().for_each(Client::send);
                    clients.iter_mut().for_each(Client::receive);
                }
                let spent = (worker_time() - start).as_secs_f64();
                let exchanges = (rounds * CONNECTIONS as u64) as f64;
                Duration::from_secs_f64(spent / exchanges * times as f64)
            });
        });
    }
    server.stop().cut();
    server.join().expect("it stops");
}

/// A proxy with one worker, as its configuration has it.
fn serve(origin: SocketAddr) -> Server {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/benches/guest");
    let build = Build::new(guest, target.join("plugins")).package("bench-guest");
    let built = build.profile("plugin").run();
    let built = built.unwrap_or_else(|error| panic!("{error}"));
    let component = target.join("bench-guest.wasm");
    fs::write(&component, &built[0].bytes).expect("the target directory is ours");

    let mut text = format!(
        "server.workers = 1\nlistener = [{{ name = \"main\", bind = \"127.0.0.1:0\" }}]\n\
         upstream.origin.endpoints = [\"http://{origin}\"]\n"
    );
    for (at, (_, plugins)) in ROUTES.iter().enumerate() {
        text += &format!(
            "[[route]]\nlistener = \"main\"\npath = \"/{at}\"\nplugins = [{plugins}]\nupstream = \"origin\"\n"
        );
    }
    for (name, does) in [
        ("nothing", "nothing"),
        ("first", "get-and-set"),
        ("second", "get-and-set"),
        ("third", "get-and-set"),
    ] {
        let component = component.display();
        text +=
            &format!("[plugin.{name}]\ncomponent = \"{component}\"\nconfig.does = \"{does}\"\n");
    }
    let document = Document::parse("bench.toml", &text);
    let document = document.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let reader = document.reader();
    let mut root = reader.root();
    let config = Config::read(&mut root);
    root.finish();
    let finished = reader.finish(config);
    let (config, _) = finished.unwrap_or_else(|problems| panic!("{}", problems.render(false)));

    let cache = CodeCache::open(target.join("code")).expect("the target directory is ours");
    let runtime = Runtime::new(Some(cache)).expect("this machine runs WebAssembly");
    let none = Builtins {
        find: |_| None,
        names: Vec::new,
    };
    let generation = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an event loop starts")
        .block_on(Generation::build("bench.toml", config, &runtime, none));
    let generation = generation.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    Server::start(Arc::new(generation)).expect("a port is free")
}

/// Answers every request alike, each connection on a thread of its own.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("it was accepted");
            connection.set_nodelay(true).expect("it is TCP");
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = connection.read(&mut buffer) {
                    head.extend_from_slice(&buffer[..read]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        if connection.write_all(RESPONSE).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// A kept-alive connection on which one request follows the other.
struct Client {
    connection: TcpStream,
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Client {
    fn new(proxy: SocketAddr, route: usize) -> Self {
        let connection = TcpStream::connect(proxy).expect("the proxy listens");
        connection.set_nodelay(true).expect("it is TCP");
        let request = format!(
            "GET /{route} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\n\
             Accept-Language: en-GB,en;q=0.9\r\nCache-Control: no-cache\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n\r\n"
        );
        Self {
            connection,
            request: request.into_bytes(),
            response: Vec::new(),
        }
    }

    fn send(&mut self) {
        let sent = self.connection.write_all(&self.request);
        sent.expect("the proxy reads");
    }

    fn receive(&mut self) {
        self.response.clear();
        let mut buffer = [0; 4096];
        while !self.response.ends_with(b"\r\n\r\nhello") {
            let read = self
                .connection
                .read(&mut buffer)
                .expect("the proxy answers");
            assert!(read > 0, "the proxy closed the connection");
            self.response.extend_from_slice(&buffer[..read]);
        }
        assert!(
            self.response.starts_with(b"HTTP/1.1 200"),
            "it is the origin's"
        );
    }
}

/// What the worker has used of the processor.
fn worker_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("this is Linux");
    for task in tasks {
        let task = task.expect("it is there").path();
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        if name.trim_end() == "worker-0" {
            let spent = fs::read_to_string(task.join("schedstat")).expect("the kernel keeps it");
            let spent = spent.split(' ').next().and_then(|ns| ns.parse().ok());
            return Duration::from_nanos(spent.expect("nanoseconds stand first"));
        }
    }
    panic!("there is no worker")
}

criterion_group!(benches, exchanges);
criterion_main!(benches);
