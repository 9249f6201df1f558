//! How long a proxy takes from nothing to its first byte, with all built-in plugins and their code in the cache:
//! `cargo bench -p witgate-proxy --bench start`. What the system takes to start a process is not in it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use witgate_proxy::config::{Config, Document};
use witgate_proxy::{Builtins, Generation, Server};
use witgate_runtime::{CodeCache, Runtime};

/// Each built-in plugin once.
const CONFIG: &str = r#"
server.workers = 2
listener = [{ name = "main", bind = "127.0.0.1:0" }]

[[route]]
listener = "main"
reply = { status = 200, body = "hello" }
plugins = ["web-pages", "token", "guard", "close", "cdp-host", "cdp-endpoint", "cdp-urls", "fields"]

[[route]]
listener = "main"
path = "/others"
plugins = ["works", "staff", "pages", "login", "office", "who", "paths", "limit", "moved", "correlation", "safe", "snapshot"]

[plugin.web-pages]
component = "builtin:allow-list"
config.origins = []

[plugin.token]
component = "builtin:bearer-auth"
config.tokens = [{ name = "bench", value = "0123456789abcdef0123456789abcdef" }]

[plugin.guard]
component = "builtin:cdp-guard"
config.tokens-of = "token"
config.default = {}

[plugin.close]
component = "builtin:connection-close"

[plugin.cdp-host]
component = "builtin:host-rewrite"
config.host = "localhost:9222"

[plugin.cdp-endpoint]
component = "builtin:cdp-endpoint"
config.browser = "http://127.0.0.1:9223"
grant.http-client.origins = ["http://127.0.0.1:9223"]

[plugin.cdp-urls]
component = "builtin:cdp-urls"

[plugin.fields]
component = "builtin:headers"
config.response.set = { X-Frame-Options = "DENY" }

[plugin.snapshot]
component = "builtin:snapshot-server"
config.file = "/snapshots/state.json"
grant.files = [{ path = ".", as = "/snapshots" }]

[plugin.staff]
component = "builtin:basic-auth"
config.users = [{ name = "ann", hash = "$2y$05$abcdefghijklmnopqrstuuAaKoHNa3VkRuIYFfIRTmpmSIFG3rVZG" }]

[plugin.pages]
component = "builtin:cors"
config = { origins = ["https://app.example.com"], headers = ["Content-Type"], credentials = true }

[plugin.login]
component = "builtin:forward-auth"
config.url = "http://127.0.0.1:9000/verify"
grant.http-client.origins = ["http://127.0.0.1:9000"]

[plugin.office]
component = "builtin:ip-allow"
config = { allow = ["10.0.0.0/8", "2001:db8:7::/48"], deny = ["10.66.0.0/16"] }

[plugin.who]
component = "builtin:jwt-auth"
config.jwks-url = "https://issuer.example/.well-known/jwks.json"
config.issuer = "https://issuer.example"
config.audience = ["api"]
grant.http-client.origins = ["https://issuer.example"]

[plugin.works]
component = "builtin:maintenance"
config = { enabled = true, retry-after = "30m", allow = ["10.0.0.0/8"], except = ["/health"] }

[plugin.paths]
component = "builtin:path-rewrite"
config.rules = [{ from = "/api/v1/{rest*}", to = "/{rest}" }]

[plugin.limit]
component = "builtin:rate-limit"
config = { limit = 100, per = "1m", burst = 20 }
grant.keyvalue = {}

[plugin.moved]
component = "builtin:redirect"
config.https = true
config.rules = [{ from = "/blog/{year}/{slug}", to = "/posts/{slug}", status = 301 }]

[plugin.correlation]
component = "builtin:request-id"
config.header = "x-correlation-id"

[plugin.safe]
component = "builtin:security-headers"
config.hsts = { max-age = "365d" }
"#;

const BUILTINS: Builtins = Builtins {
    find: |name| witgate_builtin::find(name).map(|builtin| builtin.component),
    names: || {
        witgate_builtin::all()
            .iter()
            .map(|builtin| builtin.name)
            .collect()
    },
};

fn start(criterion: &mut Criterion) {
    first_byte(); // fills the cache
    criterion.bench_function("start to the first byte", |bencher| {
        bencher.iter_custom(|times| {
            (0..times)
                .map(|_| {
                    let begun = Instant::now();
                    let server = first_byte();
                    let taken = begun.elapsed();
                    server.stop().cut();
                    server.join().expect("it stops");
                    taken
                })
                .sum()
        });
    });
}

/// Starts a proxy and has an answer of it.
fn first_byte() -> Server {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let document = Document::parse(target.join("bench.toml"), CONFIG);
    let document = document.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let reader = document.reader();
    let mut root = reader.root();
    let config = Config::read(&mut root);
    root.finish();
    let finished = reader.finish(config);
    let (config, _) = finished.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let cache = CodeCache::open(target.join("code")).expect("the target directory is ours");
    let runtime = Runtime::new(Some(cache)).expect("this machine runs WebAssembly");
    let generation = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("an event loop starts")
        .block_on(Generation::build("bench.toml", config, &runtime, BUILTINS));
    let generation = generation.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let server = Server::start(Arc::new(generation)).expect("a port is free");
    let proxy = server.listeners()[0].address.internet().expect("a port");
    let mut client = TcpStream::connect(proxy).expect("it listens");
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdef0123456789abcdef\r\n\r\n";
    client.write_all(request).expect("the proxy reads");
    let mut first = [0];
    client.read_exact(&mut first).expect("the proxy answers");
    server
}

criterion_group!(benches, start);
criterion_main!(benches);
