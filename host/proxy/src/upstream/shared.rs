//! An upstream's configuration and what is known of its targets. Shared by all workers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::Version;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use super::Socket;
use super::limits::Limits;
use super::target::{Address, Target};
use super::tls::Tls;
use crate::config::{Endpoint, Place, Protocol, Upstream};
use crate::listener;

/// Addresses of one name that are used. What answers with more is a mistake, or wants to be a load.
const MOST_ADDRESSES: usize = 64;

/// An upstream's configuration and what is known of its targets.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) config: Upstream,
    pub(super) limits: Limits,
    tls: Option<Tls>,
    /// By endpoint: what its name stands for.
    names: Mutex<Vec<Named>>,
    targets: watch::Sender<Arc<Targets>>,
    /// No target is believed to be well.
    all_bad: AtomicBool,
    /// Whose turn it is to eject: workers that counted side by side would pass `ejection.max` together.
    ejecting: Mutex<()>,
}

/// Where requests may go at the moment.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    pub(crate) list: Box<[Arc<Target>]>,
    /// Names that nobody has an answer for yet.
    pub(super) pending: usize,
    /// Why a name has no address.
    pub(crate) failure: Option<String>,
}

/// What is known of an endpoint's name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    /// It has none, or has not been looked up.
    Unknown,
    Known(Vec<IpAddr>),
    /// It never had an address.
    Failed(String),
}

impl Shared {
    /// # Errors
    ///
    /// When nobody would vouch for its servers, in words.
    pub(crate) fn new(name: Arc<str>, config: Upstream) -> Result<Self, String> {
        let shared = Self {
            tls: tls(&config)?,
            limits: Limits::new(&config.limits),
            names: Mutex::new(vec![Named::Unknown; config.endpoints.len()]),
            targets: watch::Sender::default(),
            all_bad: AtomicBool::new(false),
            ejecting: Mutex::default(),
            name,
            config,
        };
        shared.compose(&vec![Named::Unknown; shared.config.endpoints.len()]);
        Ok(shared)
    }

    /// Where requests may go now.
    pub(crate) fn targets(&self) -> Arc<Targets> {
        self.targets.borrow().clone()
    }

    /// Tells when that changes.
    pub(crate) fn watch_targets(&self) -> watch::Receiver<Arc<Targets>> {
        self.targets.subscribe()
    }

    /// The endpoints that have a name, each with its place among them.
    pub(super) fn named(&self) -> impl Iterator<Item = (usize, &str)> {
        let endpoints = self.config.endpoints.iter().enumerate();
        endpoints.filter_map(|(at, endpoint)| match &endpoint.place {
            Place::Name { host, .. } => Some((at, &**host)),
            _ => None,
        })
    }

    /// What a name stands for now, or why nobody knows. One that was known keeps its addresses then.
    pub(super) fn resolved(&self, at: usize, found: Result<Vec<IpAddr>, String>) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let (upstream, host) = (&*self.name, self.config.endpoints[at].host());
        let now = match (found, &names[at]) {
            (Ok(mut addresses), _) => {
                // Sorted, so that answers in another order are the same answer, and the same ones are left out.
                addresses.sort();
                addresses.dedup();
                if addresses.len() > MOST_ADDRESSES {
                    let found = addresses.len();
                    tracing::warn!(
                        upstream,
                        host,
                        found,
                        "a name has more than {MOST_ADDRESSES} addresses; the others are not used"
                    );
                    addresses.truncate(MOST_ADDRESSES);
                }
                Named::Known(addresses)
            }
            (Err(reason), Named::Known(_)) => {
                tracing::warn!(
                    upstream,
                    host,
                    reason,
                    "a name was not resolved again; its addresses stay"
                );
                return;
            }
            (Err(reason), was) => {
                let failed = Named::Failed(format!("{host}: {reason}"));
                if *was != failed {
                    tracing::warn!(upstream, host, reason, "a name cannot be resolved");
                }
                failed
            }
        };
        if names[at] != now {
            names[at] = now;
            self.compose(&names);
        }
    }

    /// Makes targets of the addresses that are known, and keeps those that were there.
    fn compose(&self, names: &[Named]) {
        let before = self.targets();
        let mut list: Vec<Arc<Target>> = Vec::new();
        let mut add = |endpoint: &Endpoint, address: Address| {
            let same =
                |other: &&Arc<Target>| other.address == address && other.endpoint == *endpoint;
            let target = match before.list.iter().find(same) {
                Some(target) => target.clone(),
                None => Arc::new(Target::new(self.name.clone(), address, endpoint.clone())),
            };
            list.push(target);
        };
        let mut failure = None;
        for (endpoint, named) in self.config.endpoints.iter().zip(names) {
            match (&endpoint.place, named) {
                (Place::Address(address), _) => add(endpoint, Address::Internet(*address)),
                (Place::Unix(path), _) => add(endpoint, Address::Unix(path.clone())),
                (Place::Name { port, .. }, Named::Known(addresses)) => addresses
                    .iter()
                    .for_each(|ip| add(endpoint, Address::Internet(SocketAddr::new(*ip, *port)))),
                (Place::Name { .. }, Named::Failed(why)) => failure = Some(why.clone()),
                (Place::Name { .. }, Named::Unknown) => {}
            }
        }
        let unknown = self.named().filter(|(at, _)| names[*at] == Named::Unknown);
        self.targets.send_replace(Arc::new(Targets {
            list: list.into(),
            pending: unknown.count(),
            failure,
        }));
    }

    /// Opens a connection that is ready to be spoken HTTP on, and says which: with `http1_only` 1.1, and else as
    /// `protocol` has it. Whoever waits bounds the time.
    ///
    /// # Errors
    ///
    /// In words, for the log.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        http1_only: bool,
    ) -> Result<(Socket, Version), String> {
        let known = match self.config.protocol {
            Protocol::Http2 if !http1_only => Version::HTTP_2,
            _ => Version::HTTP_11,
        };
        let refused = |error: io::Error| format!("cannot connect: {error}");
        let stream = match &target.address {
            Address::Internet(address) => dial(*address).await.map_err(refused)?,
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(refused)?;
                return Ok((Socket::Unix(stream), known));
            }
        };
        let Some(tls) = &self.tls else {
            return Ok((Socket::Tcp(stream), known));
        };
        let stream = tls.handshake(&target.endpoint, http1_only, stream).await?;
        let version = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Version::HTTP_2,
            _ if known == Version::HTTP_2 => {
                return Err("it does not speak HTTP/2, as `protocol` has it".into());
            }
            _ => Version::HTTP_11,
        };
        Ok((Socket::Tls(Box::new(stream)), version))
    }

    /// A target failed as `ejection` counts it. Whether it was ejected for that.
    pub(super) fn failed(&self, target: &Target) -> bool {
        let Some(ejection) = &self.config.ejection else {
            return false;
        };
        target.failed(ejection, || {
            let turn = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
            let targets = self.targets();
            let ejected = targets
                .list
                .iter()
                .filter(|other| other.is_ejected())
                .count();
            let most = targets.list.len() * usize::from(ejection.most);
            ((ejected + 1) * 100 <= most).then_some(turn)
        })
    }

    /// Notes whether a request went to a target that nothing speaks against, since there was one.
    pub(super) fn note_choice(&self, good: bool) {
        if self.all_bad.load(Ordering::Relaxed) != good {
            return;
        }
        if self.all_bad.swap(!good, Ordering::Relaxed) == good {
            let upstream = &*self.name;
            match good {
                true => tracing::info!(
                    upstream,
                    "there is an endpoint again that nothing speaks against"
                ),
                false => tracing::warn!(
                    upstream,
                    "something speaks against every endpoint; all are tried, since an answer is better than none"
                ),
            }
        }
    }
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    listener::tune(&stream)?;
    Ok(stream)
}

fn tls(config: &Upstream) -> Result<Option<Tls>, String> {
    let tls = config.tls.as_ref();
    tls.map(|tls| Tls::new(tls, config.protocol)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Document};

    #[test]
    fn workers_that_count_at_once_eject_no_more_than_may_be() {
        let ports = 1..=8;
        let endpoints: Vec<_> = ports.map(|n| format!("'http://127.0.0.1:{n}'")).collect();
        let text = format!(
            "[[listener]]\nname = 'main'\nbind = '127.0.0.1:0'\n[[route]]\nupstream = 'origin'\n\
             [upstream.origin]\nendpoints = [{}]\nejection = {{ failures = 1, max = '50%' }}\n",
            endpoints.join(", ")
        );
        let document = Document::parse("a.toml", &text).expect("this is TOML");
        let reader = document.reader();
        let mut root = reader.root();
        let config = Config::read(&mut root);
        root.finish();
        let (config, _) = reader.finish(config).expect("it is valid");
        let origin = &config.upstreams["origin"];
        for _ in 0..50 {
            let shared = Shared::new("origin".into(), origin.clone()).expect("there is no TLS");
            let targets = shared.targets();
            let start = std::sync::Barrier::new(targets.list.len());
            let ejected: usize = std::thread::scope(|scope| {
                let (shared, start) = (&shared, &start);
                let fail = |target: &Arc<Target>| {
                    let target = target.clone();
                    scope.spawn(move || {
                        start.wait();
                        usize::from(shared.failed(&target))
                    })
                };
                let workers: Vec<_> = targets.list.iter().map(fail).collect();
                let ended = workers.into_iter().map(|worker| worker.join());
                ended
                    .map(|ejected| ejected.expect("it does not panic"))
                    .sum()
            });
            assert_eq!(ejected, 4);
        }
    }
}
