//! The end of a connection whose client is still sending.
//!
//! A socket that is closed with bytes left unread is reset, and the reset takes away the response that the client has not
//! read yet (RFC 9112 §9.6). So our end says that nothing more comes, and then reads on until the client has ended too.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::framing::Framing;

/// How long a client may go on sending what nobody wants. As in nginx, where it is called `lingering_time`: enough for
/// whoever looks for an answer only when all is sent.
const LONGEST: Duration = Duration::from_secs(30);
/// How long it may send nothing and not end either; nginx calls it `lingering_timeout`.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is read at once, to be thrown away.
const PIECE: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Linger {
    end: Instant,
    pause: Pin<Box<Sleep>>,
}

impl Linger {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            end: now + LONGEST,
            pause: Box::pin(sleep_until(now + LONGEST_PAUSE)),
        }
    }

    /// Reads until the client ends, or is between two messages with nothing behind, or its time is over.
    pub(super) fn poll(
        &mut self,
        mut stream: impl AsyncRead + Unpin,
        framing: &mut Framing,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut piece = [MaybeUninit::uninit(); PIECE];
        loop {
            let mut buffer = ReadBuf::uninit(&mut piece);
            if Pin::new(&mut stream)
                .poll_read(cx, &mut buffer)?
                .is_pending()
            {
                if framing.is_between_messages() {
                    return Poll::Ready(Ok(()));
                }
                ready!(self.pause.as_mut().poll(cx));
                return Poll::Ready(Ok(()));
            }
            let now = Instant::now();
            if buffer.filled().is_empty() || now >= self.end {
                return Poll::Ready(Ok(()));
            }
            // What was refused once stays refused; the client is read all the same.
            let _refused = framing.follow(buffer.filled_mut());
            self.pause.as_mut().reset(self.end.min(now + LONGEST_PAUSE));
        }
    }
}
