//! Upstreams on one worker: choose a target, take or make a connection, send, retry what is safe.

mod balance;
mod connection;
mod limits;
mod names;
mod pool;
mod request;
mod retry;
mod shared;
mod socket;
mod target;
mod tls;
mod waits;

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use tokio::sync::watch;
use tokio::time::{sleep, timeout_at};

use crate::body::{Body, BodyError, Progress};
use crate::config::Retry;
use crate::failure::Failure;
use crate::metrics::{Incident, Refused, UpstreamCounts};

use balance::Chooser;
use connection::{Connection, Unanswered};
use limits::{Exhausted, Permit};
pub(crate) use names::watch as watch_names;
pub(crate) use pool::Lease;
use pool::{Slot, WorkerTarget};
use request::{is_idempotent, request};
use retry::{Budget, Outcome};
pub(crate) use shared::{Shared, Targets};
pub(crate) use socket::Socket;
pub(crate) use target::Target;
pub(crate) use waits::Waits;

/// An upstream on this worker.
#[derive(Debug)]
pub(crate) struct WorkerUpstream {
    shared: Arc<Shared>,
    targets: RefCell<(watch::Receiver<Arc<Targets>>, WorkerTargets)>,
    chooser: Chooser,
    budget: Budget,
    counts: Arc<UpstreamCounts>,
}

type WorkerTargets = Rc<[Rc<WorkerTarget>]>;

/// What to send. Kept until a target has answered, so that it can be sent again.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) head: &'a http::request::Parts,
    /// Whom `balance` may go by.
    pub(crate) client: IpAddr,
    pub(crate) use_upstream_authority: bool,
    /// Protocol to upgrade to.
    pub(crate) upgrade: Option<&'a str>,
    /// Taken once it is sent; what could not be sent at all stays.
    pub(crate) body: &'a mut Body,
    /// While the client's body still moves, or is waited for, the upstream is not slow.
    pub(crate) progress: Rc<Progress>,
    pub(crate) waits: Waits,
}

/// A request that is counted when it has ended, also when the client did not wait for that.
struct Counted<'a> {
    counts: &'a UpstreamCounts,
    started: Instant,
    status: Option<StatusCode>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.counts.ended(self.status, self.started.elapsed());
    }
}

/// How one attempt failed.
enum Attempt {
    /// Nothing was sent; the request's body is whole and may go elsewhere.
    Unsent(Body, Failure),
    /// It was sent, or may have been.
    Broken(Failure),
    Late(Failure),
    /// The connection was an old one that ended without a word: the peer's idle timeout crossed our request.
    Stale(Failure),
    /// It is not the upstream's fault, and no other target would do better.
    Refused(Failure),
}

/// What is left to try.
#[derive(Default)]
struct Tries {
    /// Targets, by their place.
    tried: Vec<usize>,
    retries: u32,
    /// Of `limits.retries`, while one is under way.
    retrying: Option<Permit>,
}

impl WorkerUpstream {
    pub(crate) fn new(shared: Arc<Shared>, counts: Arc<UpstreamCounts>) -> Self {
        let mut targets = shared.watch_targets();
        let list = worker_targets(&shared, &targets.borrow_and_update(), &[]);
        Self {
            targets: RefCell::new((targets, list)),
            chooser: Chooser::new(),
            budget: Budget::new(),
            shared,
            counts,
        }
    }

    /// Whether it is this worker's part of that upstream.
    pub(crate) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// `response-timeout`
    pub(crate) fn response_timeout(&self) -> Duration {
        self.shared.config.response_timeout
    }

    /// Where requests may go now. A target that stays keeps its connections.
    fn targets(&self) -> WorkerTargets {
        let mut targets = self.targets.borrow_mut();
        let (seen, list) = &mut *targets;
        // An error would mean that the upstream is gone, which this holds.
        if seen.has_changed().unwrap_or(false) {
            let now = seen.borrow_and_update();
            *list = worker_targets(&self.shared, &now, list);
        }
        list.clone()
    }

    /// Waits until the names of an upstream that has nothing else were looked up for the first time.
    async fn first_targets(&self) -> Result<WorkerTargets, Failure> {
        let limit = self.shared.config.connect_timeout;
        let mut seen = self.shared.watch_targets();
        let known = |targets: &Arc<Targets>| !targets.list.is_empty() || targets.pending == 0;
        let name = &self.shared.name;
        let targets = match tokio::time::timeout(limit, seen.wait_for(known)).await {
            Ok(Ok(targets)) => targets.clone(),
            Ok(Err(_)) | Err(_) => {
                let why =
                    format!("upstream `{name}`: its names were not resolved within {limit:?}");
                return Err(Failure::gateway_timeout(why));
            }
        };
        match &targets.failure {
            Some(why) if targets.list.is_empty() => {
                Err(Failure::bad_gateway(format!("upstream `{name}`: {why}")))
            }
            _ => Ok(self.targets()),
        }
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// A target that cannot be connected to is passed over for the next one. A request that an old connection
    /// swallowed is sent again when that is safe: an idempotent method (RFC 9110 §9.2.2) without a body. What else is
    /// sent again, `retry` says.
    ///
    /// # Errors
    ///
    /// The upstream's fault (502, 504), a limit of it (503), or the client's when its body cannot be read (400, 408,
    /// 413).
    pub(crate) async fn send(
        &self,
        outgoing: Outgoing<'_>,
        chosen: &mut Option<Arc<str>>,
    ) -> Result<Response<Body>, Failure> {
        let request = self.shared.limits.admit_request();
        let request = request.map_err(|Exhausted| self.refused(Refused::Requests))?;
        let mut counted = Counted {
            counts: &self.counts,
            started: Instant::now(),
            status: None,
        };
        let sent = self.send_to_any(outgoing, chosen, request).await;
        counted.status = sent.as_ref().ok().map(Response::status);
        sent
    }

    fn refused(&self, limit: Refused) -> Failure {
        self.counts.refused(limit);
        let (name, limit) = (&self.shared.name, limit.as_str());
        let why = format!("upstream `{name}`: its `limits.{limit}` is reached");
        Failure::host(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    async fn send_to_any(
        &self,
        outgoing: Outgoing<'_>,
        chosen: &mut Option<Arc<str>>,
        permit: Permit,
    ) -> Result<Response<Body>, Failure> {
        let mut targets = self.targets();
        if targets.is_empty() {
            targets = Box::pin(self.first_targets()).await?;
        }
        let (config, mut tries) = (&self.shared.config, Tries::default());
        let key = balance::key(&config.balance, outgoing.head, outgoing.client);
        if let Some(retry) = &config.retry {
            self.budget.earn(retry.budget);
        }
        let mut unsent: Option<Failure> = None;
        loop {
            let by = (&config.balance, key);
            let choice = self
                .chooser
                .choose(&targets, config.slow_start, by, &tries.tried);
            let Some(choice) = choice else {
                // Each was tried, and nothing was sent.
                if self.may_retry(&outgoing, Outcome::Unsent, &mut tries) {
                    Box::pin(self.wait_to_retry(&tries)).await;
                    tries.tried.clear();
                    continue;
                }
                return Err(unsent.unwrap_or_else(|| Failure::bad_gateway("there is no endpoint")));
            };
            let target = &targets[choice.at];
            self.shared.note_choice(choice.good);
            if !choice.good {
                self.counts.happened(Incident::AllBad);
            }
            *chosen = Some(target.shared.name.clone());
            let body = std::mem::replace(outgoing.body, Body::empty());
            let spare = body.again();
            let sent = self.send_to(target, &outgoing, body, &permit).await;
            let (outcome, response) = match sent {
                Ok(response) => {
                    let status = response.status();
                    self.note(target, !status.is_server_error());
                    (Outcome::Answered(status), Ok(response))
                }
                Err(Attempt::Unsent(body, failure)) => {
                    *outgoing.body = body;
                    self.counts.happened(Incident::Unconnected);
                    target.shared.avoid();
                    self.note(target, false);
                    unsent = Some(match unsent {
                        Some(earlier) => both(earlier, failure),
                        None => failure,
                    });
                    tries.tried.push(choice.at);
                    continue;
                }
                Err(Attempt::Refused(failure)) => return Err(failure),
                Err(Attempt::Broken(failure) | Attempt::Stale(failure)) => {
                    self.note(target, false);
                    (Outcome::Reset, Err(failure))
                }
                Err(Attempt::Late(failure)) => {
                    self.note(target, false);
                    (Outcome::Late, Err(failure))
                }
            };
            let spare = match (&config.retry, outcome) {
                (None, _) => None,
                (Some(retry), Outcome::Answered(status))
                    if !retry.on.statuses.contains(&status.as_u16()) =>
                {
                    None
                }
                (Some(_), _) => spare,
            };
            let Some(spare) = spare else {
                return response;
            };
            if !self.may_retry(&outgoing, outcome, &mut tries) {
                return response;
            }
            drop(response);
            tries.tried.push(choice.at);
            if tries.tried.len() >= targets.len() {
                tries.tried.clear();
            }
            Box::pin(self.wait_to_retry(&tries)).await;
            *outgoing.body = spare;
        }
    }

    /// Whether one more attempt is wanted, safe and possible; then it is counted. Nothing of a request that went unsent
    /// was seen by anybody, so that it may be any.
    fn may_retry(&self, outgoing: &Outgoing<'_>, outcome: Outcome, tries: &mut Tries) -> bool {
        let Some(retry) = &self.shared.config.retry else {
            return false;
        };
        let safe = outcome == Outcome::Unsent
            || is_idempotent(&outgoing.head.method) && outgoing.upgrade.is_none();
        if !safe
            || !retry::is_named(&retry.on, outcome)
            || tries.retries >= retry.attempts
            || outgoing.waits.are_over()
        {
            return false;
        }
        if !self.budget.spend() {
            self.counts.refused(Refused::Budget);
            return false;
        }
        if tries.retrying.is_none() {
            match self.shared.limits.admit_retry() {
                Ok(permit) => tries.retrying = Some(permit),
                Err(Exhausted) => {
                    self.counts.refused(Refused::Retries);
                    return false;
                }
            }
        }
        tries.retries += 1;
        self.counts.happened(Incident::Retried);
        true
    }

    async fn wait_to_retry(&self, tries: &Tries) {
        if let Some(retry) = &self.shared.config.retry {
            let retry: &Retry = retry;
            sleep(retry::back_off(
                retry,
                tries.retries - 1,
                self.chooser.random(),
            ))
            .await;
        }
    }

    /// What passive ejection goes by.
    fn note(&self, target: &WorkerTarget, well: bool) {
        match well {
            true => target.shared.succeeded(),
            false if self.shared.failed(&target.shared) => self.counts.happened(Incident::Ejected),
            false => {}
        }
    }

    /// One attempt: an old connection, or a new one.
    async fn send_to(
        &self,
        target: &Rc<WorkerTarget>,
        outgoing: &Outgoing<'_>,
        mut body: Body,
        permit: &Permit,
    ) -> Result<Response<Body>, Attempt> {
        let endpoint = &target.shared.endpoint;
        let replayable =
            is_idempotent(&outgoing.head.method) && http_body::Body::is_end_stream(&body);
        // An old connection first. One that turns out dead costs nothing, and the next one is tried.
        while let Some(connection) = target.take() {
            let lease = Lease::new(target.clone(), connection, permit.clone());
            let request = request(outgoing, endpoint, body);
            match attempt(lease, true, request, outgoing, &target.shared.name).await {
                Err(Attempt::Unsent(whole, _)) => body = whole,
                // Sent again once, on a new connection: a request that ends its upstream must not go through all of
                // them.
                Err(Attempt::Stale(_)) if replayable => {
                    body = Body::empty();
                    break;
                }
                sent => return sent,
            }
        }
        let connection = match Box::pin(self.connect(target, outgoing)).await {
            Ok(connection) => connection,
            Err(Unconnected::Failed(failure)) => return Err(Attempt::Unsent(body, failure)),
            Err(Unconnected::Refused(failure)) => return Err(Attempt::Refused(failure)),
        };
        let lease = Lease::new(target.clone(), connection, permit.clone());
        let request = request(outgoing, endpoint, body);
        attempt(lease, false, request, outgoing, &target.shared.name).await
    }

    /// A connection that nobody had, or one that came back while this waited for its turn.
    async fn connect(
        &self,
        target: &WorkerTarget,
        outgoing: &Outgoing<'_>,
    ) -> Result<Connection, Unconnected> {
        let limit = self.shared.config.connect_timeout;
        let end = outgoing.waits.end_of(limit);
        let slot = match &self.shared.limits.connections {
            None => None,
            Some(limited) => match self.slot(limited, target, end).await? {
                Turn::Slot(slot) => Some(slot),
                Turn::Connection(connection) => return Ok(connection),
            },
        };
        let name = &target.shared.name;
        let socket = match timeout_at(end, self.shared.connect(&target.shared)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(why)) => {
                let why = format!("{name}: {why}");
                return Err(Unconnected::Failed(Failure::bad_gateway(why)));
            }
            Err(_) => {
                let why = format!("{name}: no connection within {limit:?}");
                return Err(Unconnected::Failed(Failure::gateway_timeout(why)));
            }
        };
        let connection = Connection::new(socket, slot).await;
        connection
            .map_err(|error| Unconnected::Failed(Failure::bad_gateway(format!("{name}: {error}"))))
    }

    /// Waits for one of the upstream's connections, where their number is limited.
    async fn slot(
        &self,
        limited: &limits::Connections,
        target: &WorkerTarget,
        end: tokio::time::Instant,
    ) -> Result<Turn, Unconnected> {
        let slot = |permit| {
            Turn::Slot(Slot {
                upstream: self.shared.clone(),
                _permit: permit,
            })
        };
        if let Ok(permit) = limited.permits.clone().try_acquire_owned() {
            return Ok(slot(permit));
        }
        let refused = |limit| Unconnected::Refused(self.refused(limit));
        let _waiting = limited
            .wait()
            .map_err(|Exhausted| refused(Refused::Pending))?;
        let _wanted = Wanted::new(target);
        let turn = async {
            let mut permit = std::pin::pin!(limited.permits.clone().acquire_owned());
            loop {
                tokio::select! {
                    Ok(permit) = &mut permit => return slot(permit),
                    () = target.returned.notified() => {
                        if let Some(connection) = target.take() {
                            return Turn::Connection(connection);
                        }
                    }
                }
            }
        };
        let turn = timeout_at(end, turn).await;
        turn.map_err(|_| refused(Refused::Connections))
    }

    /// Closes connections that were unused for too long.
    pub(crate) fn sweep(&self) {
        self.targets().iter().for_each(|target| target.sweep());
    }
}

/// Closes an unused connection whenever a request on some worker waits for one, as long as a generation uses the
/// upstream. Only where connections are limited.
pub(crate) async fn yield_connections(upstream: Weak<WorkerUpstream>) {
    let shared = match upstream.upgrade() {
        Some(upstream) => Arc::downgrade(&upstream.shared),
        None => return,
    };
    loop {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let Some(limited) = &shared.limits.connections else {
            return;
        };
        let wanted = tokio::time::timeout(YIELD, limited.wanted.notified()).await;
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        if wanted.is_ok() || limited.are_waited_for() {
            upstream.targets().iter().any(|target| target.give_up_one());
        }
    }
}

/// How often it is looked whether the upstream is still used, and whether somebody waits who was not heard.
const YIELD: Duration = Duration::from_secs(1);

/// Why there is no connection.
enum Unconnected {
    Failed(Failure),
    /// There are too many.
    Refused(Failure),
}

enum Turn {
    Slot(Slot),
    Connection(Connection),
}

/// Would take a connection that comes back, as long as it exists.
struct Wanted<'a>(&'a WorkerTarget);

impl<'a> Wanted<'a> {
    fn new(target: &'a WorkerTarget) -> Self {
        target.wanted.set(target.wanted.get() + 1);
        Self(target)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.wanted.set(self.0.wanted.get() - 1);
    }
}

/// What this worker has of each target, taken over where it has it already.
fn worker_targets(
    shared: &Shared,
    targets: &Targets,
    before: &[Rc<WorkerTarget>],
) -> WorkerTargets {
    let config = &shared.config;
    let target = |target: &Arc<Target>| {
        let same = before.iter().find(|old| Arc::ptr_eq(&old.shared, target));
        same.cloned().unwrap_or_else(|| {
            let (most, longest) = (config.idle_connections, config.idle_timeout);
            Rc::new(WorkerTarget::new(target.clone(), most, longest))
        })
    };
    targets.list.iter().map(target).collect()
}

/// What is said when several targets could not be connected to: the first reasons, since they are seldom the same.
fn both(earlier: Failure, later: Failure) -> Failure {
    /// Enough for a few targets.
    const LONGEST: usize = 500;
    let reason = match earlier.reason.len() {
        LONGEST.. => earlier.reason,
        _ => format!("{}; {}", earlier.reason, later.reason).into(),
    };
    Failure { reason, ..later }
}

/// Sends a request by one connection.
async fn attempt(
    mut lease: Lease,
    reused: bool,
    request: Request<Body>,
    outgoing: &Outgoing<'_>,
    name: &str,
) -> Result<Response<Body>, Attempt> {
    let (progress, waits) = (&outgoing.progress, &outgoing.waits);
    let is_whole = http_body::Body::is_end_stream(request.body());
    let is_clients = request.body().is_of_a_connection();
    match lease.connection().send(request, progress, waits).await {
        Ok(response) => {
            let sent = is_whole || (is_clients && progress.has_ended());
            if !sent || response.status() == StatusCode::SWITCHING_PROTOCOLS {
                lease.connection().detach();
            }
            Ok(response.map(|incoming| Body::response(incoming, waits, lease)))
        }
        Err(Unanswered::InTime) => {
            let reason = match waits.are_over() {
                true => format!("{name}: no response within the route's `timeouts.total`"),
                false => format!("{name}: no response within {:?}", waits.response),
            };
            Err(Attempt::Late(Failure::gateway_timeout(reason)))
        }
        Err(Unanswered::Broken(mut error)) => match error.take_message() {
            Some(request) => {
                let why = format!("{name}: it closed the new connection at once");
                Err(Attempt::Unsent(
                    request.into_body(),
                    Failure::bad_gateway(why),
                ))
            }
            None => Err(explain(error.into_error(), reused, name)),
        },
    }
}

fn explain(error: hyper::Error, reused: bool, endpoint: &str) -> Attempt {
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if let Some(body) = cause.downcast_ref::<BodyError>() {
            return Attempt::Refused(Failure::request_body(body));
        }
        source = cause.source();
    }
    let reason = match std::error::Error::source(&error) {
        Some(cause) => format!("{endpoint}: {error}: {cause}"),
        None => format!("{endpoint}: {error}"),
    };
    let failure = Failure::bad_gateway(reason);
    match reused && (error.is_incomplete_message() || error.is_canceled() || is_reset(&error)) {
        true => Attempt::Stale(failure),
        false => Attempt::Broken(failure),
    }
}

fn is_reset(error: &hyper::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|e| {
        matches!(
            e.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        )
    })
}
