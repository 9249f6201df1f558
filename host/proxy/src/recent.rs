//! Exchanges that ended a moment ago, for an operator who looks.
//!
//! Each worker keeps some of its own, and hands out copies when it is asked: nothing is shared while a request is served.
//! Kept are those that failed and one of sixteen, and all while somebody looks, then with the hooks they went through.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{Method, StatusCode};
use tokio::sync::{mpsc, oneshot};
use witgate_runtime::{Attributes, ClientAddress, Step};

/// Exchanges that a worker keeps, and how many while somebody looks.
const KEPT: usize = 64;
const KEPT_WHILE_WATCHED: usize = 512;

/// Of how many exchanges one is kept while nobody looks.
const SAMPLED: u64 = 16;

/// Bytes of a path that are kept.
const PATH: usize = 256;

/// How long after the last look everything is still kept.
const LINGER: Duration = Duration::from_secs(30);

/// How long a worker may take to answer who looks.
const PATIENCE: Duration = Duration::from_secs(2);

/// An exchange that has ended.
#[derive(Debug)]
pub(crate) struct Past {
    /// Its number on its worker, from 1.
    pub(crate) number: u64,
    pub(crate) at: SystemTime,
    pub(crate) started: Instant,
    pub(crate) duration: Duration,
    pub(crate) request_id: Arc<str>,
    pub(crate) listener: Arc<str>,
    pub(crate) route: Arc<str>,
    pub(crate) client: ClientAddress,
    pub(crate) method: Method,
    pub(crate) host: Arc<str>,
    /// Cut when it is long; without the query, which may hold secrets.
    pub(crate) path: Box<str>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) upstream: Option<Arc<str>>,
    pub(crate) upstream_time: Option<Duration>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) outcome: &'static str,
    pub(crate) fault: &'static str,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) attributes: Attributes,
    /// The hooks that it went through, when somebody looked.
    pub(crate) steps: Vec<Step>,
}

/// What to keep of a path.
pub(crate) fn shortened(path: &str) -> Box<str> {
    path[..path.floor_char_boundary(PATH)].into()
}

/// Somebody wants those after this number.
#[derive(Debug)]
struct Ask {
    after: u64,
    answer: oneshot::Sender<Vec<Arc<Past>>>,
}

/// What one worker keeps.
#[derive(Debug)]
pub(crate) struct Recent {
    watched: Arc<AtomicBool>,
    /// How many have ended.
    ended: Cell<u64>,
    kept: RefCell<VecDeque<Arc<Past>>>,
}

impl Recent {
    /// Of a worker, whose event loop this is called on.
    pub(crate) fn start(looks: &Looks) -> Rc<Self> {
        let (sender, asks) = mpsc::unbounded_channel();
        let recent = Rc::new(Self {
            watched: looks.watched.clone(),
            ended: Cell::new(0),
            kept: RefCell::default(),
        });
        looks.workers().push(sender);
        tokio::task::spawn_local(Self::answer(Rc::downgrade(&recent), asks));
        recent
    }

    /// Answers those who ask until nothing is kept there any more.
    async fn answer(recent: Weak<Self>, mut asks: mpsc::UnboundedReceiver<Ask>) {
        while let Some(Ask { after, answer }) = asks.recv().await {
            let Some(recent) = recent.upgrade() else {
                return;
            };
            let kept = recent.kept.borrow();
            let newer = kept.iter().filter(|past| past.number > after).cloned();
            if answer.send(newer.collect()).is_err() {
                tracing::trace!("nobody looks any more");
            }
        }
    }

    /// Whether an exchange that begins now should write down where it goes.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// An exchange has ended. What is known of it is asked for when it is kept.
    pub(crate) fn ended(&self, failed: bool, past: impl FnOnce(u64) -> Past) {
        let before = self.ended.get();
        self.ended.set(before + 1);
        let watched = self.is_watched();
        if !watched && !failed && !before.is_multiple_of(SAMPLED) {
            return;
        }
        let most = if watched { KEPT_WHILE_WATCHED } else { KEPT };
        let mut kept = self.kept.borrow_mut();
        while kept.len() >= most {
            kept.pop_front();
        }
        kept.push_back(Arc::new(past(before + 1)));
    }
}

/// All workers, for whoever looks.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    watched: Arc<AtomicBool>,
    last: Mutex<Option<Instant>>,
    workers: Mutex<Vec<mpsc::UnboundedSender<Ask>>>,
}

/// How far somebody has read: the last number of each worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Read(Vec<u64>);

impl Looks {
    fn workers(&self) -> MutexGuard<'_, Vec<mpsc::UnboundedSender<Ask>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has ended since it was last read, the oldest first. From now on everything is kept for a while.
    pub(crate) async fn look(&self, read: &mut Read) -> Vec<Arc<Past>> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.watched.store(true, Ordering::Relaxed);
        let workers = self.workers().clone();
        read.0.resize(workers.len(), 0);
        let mut found = Vec::new();
        for (worker, after) in workers.iter().zip(&mut read.0) {
            let (answer, answered) = oneshot::channel();
            let ask = Ask {
                after: *after,
                answer,
            };
            if worker.send(ask).is_err() {
                continue;
            }
            if let Ok(Ok(newer)) = tokio::time::timeout(PATIENCE, answered).await {
                *after = newer.last().map_or(*after, |past| past.number);
                found.extend(newer);
            }
        }
        found.sort_by_key(|past| past.at);
        found
    }

    /// Notices that nobody looks any more. To be called now and then.
    pub(crate) fn settle(&self) {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() > LINGER) {
            self.watched.store(false, Ordering::Relaxed);
        }
    }
}
