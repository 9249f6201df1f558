//! What is put between the frames that pass to one end: replies of plugins, and a Close.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;

/// Bytes that may wait. Not none: a receiver may be in the middle of a message of the other end, which goes on only when
/// it hears more of the first.
const ROOM: usize = 64 * 1024;

/// Frames for one end. Whoever relays to that end writes them, so that they come between others and never within.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: RefCell<Vec<u8>>,
    /// The last frame of all.
    close: RefCell<Option<Vec<u8>>>,
    /// A Close has been sent to this end; nothing may follow it.
    is_closed: Cell<bool>,
    /// Something was put in.
    filled: Notify,
    /// All was taken out.
    emptied: Notify,
}

impl Outbox {
    /// Puts whole frames in. After a Close they come to nothing.
    pub(super) fn put(&self, frames: &[u8]) {
        if !self.is_closed.get() {
            self.frames.borrow_mut().extend(frames);
            self.filled.notify_waiters();
        }
    }

    /// Puts the last frame in.
    pub(super) fn put_close(&self, frame: Vec<u8>) {
        *self.close.borrow_mut() = Some(frame);
        self.filled.notify_waiters();
    }

    /// A Close goes to this end by the usual way.
    pub(super) fn close_passes(&self) {
        self.is_closed.set(true);
        self.frames.borrow_mut().clear();
        self.emptied.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    pub(super) fn has_frames(&self) -> bool {
        !self.frames.borrow().is_empty()
    }

    pub(super) fn has_close(&self) -> bool {
        self.close.borrow().is_some()
    }

    /// Waits until there is something to write: a Close, or frames unless there is no place for them.
    pub(super) async fn due(&self, place_for_frames: bool) {
        loop {
            let filled = self.filled.notified();
            if self.has_close() || (place_for_frames && self.has_frames()) {
                return;
            }
            filled.await;
        }
    }

    /// Takes the frames out.
    pub(super) fn take(&self) -> Vec<u8> {
        self.emptied.notify_waiters();
        self.frames.take()
    }

    /// Takes the last frame out; an empty one when the end has had its Close already.
    pub(super) fn take_close(&self) -> Option<Vec<u8>> {
        let frame = self.close.take()?;
        if self.is_closed.get() {
            return Some(Vec::new());
        }
        self.close_passes();
        Some(frame)
    }

    /// Waits until so few frames wait that there is room for more.
    pub(super) async fn has_room(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.frames.borrow().len() < ROOM {
                return;
            }
            emptied.await;
        }
    }
}
