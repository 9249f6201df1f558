//! What is measured: the steps from no plugin at all to a fresh instance, with one guest that does next to nothing.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::runtime::{Builder, Runtime as EventLoop};
use witgate_build::Build;
use witgate_runtime::{
    Attributes, CodeCache, Component, Direction, Exchange, Facts, HeadLimits, Isolation, Limits,
    Message, MessageVerdict, OwnInstances, Plugin, ResponseHead, Runtime, Scheme, Verdict,
    WorkerPlugin,
};

mod bare;

use bare::{Bare, Memory};

/// One step of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The same edit of the head, made by the host itself.
    NoPlugin,
    /// A hook that returns at once.
    NoOp,
    /// A hook that reads one header and sets another.
    GetAndSet,
    /// Three plugins, one after the other, each of which does that.
    ThreePlugins,
    /// The same hook in an instance of its own, made and configured for the exchange.
    FreshInstance,
    /// A piece of a body of so many KiB, passed through as it is.
    Transform(usize),
    /// A message of a WebSocket of so many bytes, sent on as it is.
    Message(usize),
    /// wasmtime alone: a call that reads one header and sets another, on the caller's stack.
    BareCall,
    /// The same on a stack of its own.
    BareCallOnFiber,
    /// wasmtime alone: an instance, made and configured for one call.
    BareInstance(Memory),
}

/// In the order in which they are reported.
pub(crate) const STEPS: [Step; 13] = [
    Step::NoPlugin,
    Step::NoOp,
    Step::GetAndSet,
    Step::ThreePlugins,
    Step::FreshInstance,
    Step::Transform(1),
    Step::Transform(64),
    Step::Message(125),
    Step::Message(64 << 10),
    Step::BareCall,
    Step::BareCallOnFiber,
    Step::BareInstance(Memory::OnDemand),
    Step::BareInstance(Memory::Pooled),
];

impl Step {
    /// As it is reported.
    pub(crate) fn name(self) -> String {
        match self {
            Self::NoPlugin => "no plugin".into(),
            Self::NoOp => "no-op hook".into(),
            Self::GetAndSet => "get and set a header".into(),
            Self::ThreePlugins => "three plugins".into(),
            Self::FreshInstance => "fresh instance".into(),
            Self::Transform(kib) => format!("transform, {kib} KiB"),
            Self::Message(bytes) => format!("message, {bytes} bytes"),
            Self::BareCall => "wasmtime: get and set".into(),
            Self::BareCallOnFiber => "wasmtime: on a fiber".into(),
            Self::BareInstance(Memory::OnDemand) => "wasmtime: fresh, no pool".into(),
            Self::BareInstance(Memory::Pooled) => "wasmtime: fresh, pool".into(),
        }
    }
}

/// A worker with the guest in every role.
pub(crate) struct Ladder {
    event_loop: EventLoop,
    plugin: Box<Start>,
    guest: Vec<u8>,
}

/// Starts the guest with what it is to do.
type Start = dyn Fn(&str, Isolation) -> Rc<WorkerPlugin>;

impl Ladder {
    /// Builds the guest and compiles it, or takes what an earlier run compiled.
    pub(crate) fn new() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/guest");
        let build = Build::new(guest, target.join("plugins")).package("bench-guest");
        let built = build.profile("plugin").run();
        let built = built.unwrap_or_else(|error| panic!("{error}"));
        let cache = CodeCache::open(target.join("code")).expect("the target directory is ours");
        let runtime = Runtime::new(Some(cache)).expect("this machine runs WebAssembly");
        let component = Component::load(&runtime, &built[0].bytes).expect("it is a plugin");
        let component = Arc::new(component);
        let plugin = move |does: &str, isolation: Isolation| {
            let config = format!("{{\"does\":\"{does}\"}}");
            let name = does.into();
            let plugin = Plugin::new(name, component.clone(), config, Limits::default())
                .with_isolation(isolation);
            let started = Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("an event loop starts")
                .block_on(WorkerPlugin::start(Arc::new(plugin)));
            Rc::new(started.expect("it starts"))
        };
        Self {
            event_loop: Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("an event loop without sockets starts"),
            plugin: Box::new(plugin),
            guest: built[0].bytes.clone(),
        }
    }

    /// Readies one step; each call of the result repeats it so many times.
    pub(crate) fn step(&self, step: Step) -> Box<dyn FnMut(u64) + '_> {
        match step {
            Step::NoPlugin => Box::new(no_plugin),
            Step::NoOp => self.hooks(vec![(self.plugin)("nothing", Isolation::Worker)]),
            Step::GetAndSet => self.hooks(vec![(self.plugin)("get-and-set", Isolation::Worker)]),
            Step::ThreePlugins => {
                let plugin = || (self.plugin)("get-and-set", Isolation::Worker);
                self.hooks(vec![plugin(), plugin(), plugin()])
            }
            Step::FreshInstance => self.fresh((self.plugin)("get-and-set", Isolation::Exchange)),
            Step::Transform(kib) => {
                self.transform((self.plugin)("pass-body", Isolation::Worker), kib)
            }
            Step::Message(bytes) => {
                self.message((self.plugin)("nothing", Isolation::Worker), bytes)
            }
            Step::BareCall => self.bare_call(),
            Step::BareCallOnFiber => self.bare_call_on_fiber(),
            Step::BareInstance(memory) => self.bare_instance(memory),
        }
    }

    fn bare_call(&self) -> Box<dyn FnMut(u64) + '_> {
        let bare = Bare::new(&self.guest, Memory::OnDemand);
        let mut instance = self.event_loop.block_on(bare.start(bare::headers()));
        Box::new(move |times| (0..times).for_each(|_| instance.call()))
    }

    fn bare_call_on_fiber(&self) -> Box<dyn FnMut(u64) + '_> {
        let bare = Bare::new(&self.guest, Memory::OnDemand);
        let mut instance = self.event_loop.block_on(bare.start(bare::headers()));
        Box::new(move |times| {
            self.event_loop.block_on(async {
                for _ in 0..times {
                    instance.call_on_fiber().await;
                }
            });
        })
    }

    fn bare_instance(&self, memory: Memory) -> Box<dyn FnMut(u64) + '_> {
        let bare = Bare::new(&self.guest, memory);
        Box::new(move |times| {
            self.event_loop.block_on(async {
                for _ in 0..times {
                    bare.start(bare::headers()).await.call_on_fiber().await;
                }
            });
        })
    }

    /// The plugins' hooks on one exchange, again and again.
    fn hooks(&self, plugins: Vec<Rc<WorkerPlugin>>) -> Box<dyn FnMut(u64) + '_> {
        Box::new(move |times| {
            self.event_loop.block_on(async {
                let mut exchange = exchange();
                for _ in 0..times {
                    for plugin in &plugins {
                        let verdict;
                        (exchange, verdict) = plugin.on_request(exchange).await;
                        assert!(matches!(verdict, Ok(Verdict::Next)), "{verdict:?}");
                    }
                }
                black_box(exchange);
            });
        })
    }

    /// A new exchange for each call; what it costs to make one is in the figure.
    fn fresh(&self, plugin: Rc<WorkerPlugin>) -> Box<dyn FnMut(u64) + '_> {
        Box::new(move |times| {
            self.event_loop.block_on(async {
                for _ in 0..times {
                    let (exchange, verdict) = plugin.on_request(exchange()).await;
                    assert!(matches!(verdict, Ok(Verdict::Next)), "{verdict:?}");
                    black_box(exchange);
                }
            });
        })
    }

    fn transform(&self, plugin: Rc<WorkerPlugin>, kib: usize) -> Box<dyn FnMut(u64) + '_> {
        let chunk = Bytes::from(vec![b'x'; kib << 10]);
        Box::new(move |times| {
            self.event_loop.block_on(async {
                let (_, verdict) = plugin.on_request(exchange()).await;
                let Ok(Verdict::Transform(mut transform)) = verdict else {
                    panic!("the guest transforms: {verdict:?}");
                };
                for _ in 0..times {
                    let passed = transform.push(chunk.clone()).await;
                    assert_eq!(passed.expect("it passes all on").len(), chunk.len());
                }
            });
        })
    }

    fn message(&self, plugin: Rc<WorkerPlugin>, bytes: usize) -> Box<dyn FnMut(u64) + '_> {
        let message = Message::Text("x".repeat(bytes));
        Box::new(move |times| {
            self.event_loop.block_on(async {
                let mut upgraded = exchange();
                upgraded.response = Some(ResponseHead {
                    status: StatusCode::SWITCHING_PROTOCOLS,
                    headers: HeaderMap::new(),
                    end_connection: false,
                });
                let (_, asked) = plugin.on_upgrade(upgraded).await;
                let Ok(Some(messages)) = asked else {
                    panic!("the guest looks at messages: {asked:?}");
                };
                for _ in 0..times {
                    let verdict = messages.on_message(Direction::ToUpstream, &message, false);
                    assert!(matches!(verdict.await, Ok(MessageVerdict::Forward)));
                }
            });
        })
    }
}

fn no_plugin(times: u64) {
    let mut exchange = exchange();
    for _ in 0..times {
        let headers = &mut black_box(&mut exchange).request.headers;
        let agent = headers.get("user-agent").expect("it is there").as_bytes();
        // A copy, as a guest has it.
        let agent = agent.to_vec();
        let value = HeaderValue::from_bytes(&agent).expect("it was one");
        headers.insert("x-agent", value);
    }
}

/// What a browser sends, about.
fn exchange() -> Box<Exchange> {
    let (mut request, ()) = http::Request::new(()).into_parts();
    for (name, value) in [
        ("host", "localhost:9222"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept-language", "en-GB,en;q=0.9"),
        ("cache-control", "no-cache"),
        ("origin", "http://localhost:9222"),
    ] {
        let value = HeaderValue::from_static(value);
        request.headers.insert(name, value);
    }
    let agent = HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36");
    request.headers.insert(USER_AGENT, agent);
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 51324));
    Box::new(Exchange {
        facts: Facts {
            id: "bench-exchange".into(),
            listener: "main".into(),
            route: "all".into(),
            peer: peer.into(),
            client: peer.ip().into(),
            client_scheme: Scheme::Http,
            client_authority: "localhost:9222".into(),
            client_path_with_query: "/json/version".into(),
            upgrade: None,
        },
        request,
        use_upstream_authority: false,
        response: None,
        attributes: Attributes::default(),
        own_instances: OwnInstances::default(),
        limits: HeadLimits {
            count: 100,
            size: 64 << 10,
        },
    })
}
