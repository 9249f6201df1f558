//! The tasks of a worker, and how a stop waits for them.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::sync::{Notify, watch};

use super::{Phase, wait_for};

/// The tasks of a worker that a stop waits for, of whichever generation.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    active: Rc<Active>,
    phase: watch::Receiver<Phase>,
}

#[derive(Debug, Default)]
struct Active {
    count: Cell<usize>,
    changed: Notify,
}

/// Counts as a task as long as it lives.
pub(crate) struct Guard(Rc<Active>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.changed.notify_waiters();
    }
}

pin_project! {
    /// A task that counts until it is gone. As an `async` block it would take twice the room: a task is a part of what it
    /// captures first, and of what it waits for then.
    struct Guarded<F> {
        #[pin]
        task: F,
        guard: Guard,
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().task.poll(cx)
    }
}

impl Tasks {
    pub(super) fn new(phase: watch::Receiver<Phase>) -> Self {
        Self {
            active: Rc::default(),
            phase,
        }
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let guard = self.guard();
        tokio::task::spawn_local(Guarded { task, guard });
    }

    /// Has a stop wait for what is not a task of its own.
    pub(crate) fn guard(&self) -> Guard {
        self.active.count.set(self.active.count.get() + 1);
        Guard(self.active.clone())
    }

    /// Returns when connections may be accepted, or it is too late for that.
    pub(crate) async fn started(&self) {
        wait_for(&mut self.phase.clone(), Phase::Serve).await;
    }

    pub(crate) fn stop_requested(&self) -> StopRequested {
        StopRequested(self.phase.clone())
    }

    pub(super) fn active(&self) -> usize {
        self.active.count.get()
    }

    pub(super) async fn ended(&self) {
        while self.active() > 0 {
            self.active.changed.notified().await;
        }
    }
}

/// Tells a task when to come to an end.
pub(crate) struct StopRequested(watch::Receiver<Phase>);

impl StopRequested {
    pub(crate) async fn requested(&mut self) {
        wait_for(&mut self.0, Phase::Drain).await;
    }
}
