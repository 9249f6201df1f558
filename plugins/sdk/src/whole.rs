use crate::bindings::witgate::plugin::held;
use crate::{Exchange, Failure, Reply, Request, RequestVerdict, Response, ResponseVerdict, buffer};

/// What becomes of a message whose body has been seen whole.
#[derive(Debug)]
pub enum Whole {
    /// It goes on with this body, and with its head as edited.
    Body(Vec<u8>),
    /// This is sent instead: in place of a request, which no later plugin and no upstream sees then, or of a response.
    Answer(Reply),
}

impl Whole {
    /// What [`Transform::finish`](crate::Transform::finish) of a held body returns for it. A trap where no head is held.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Body(body) => body,
            Self::Answer(reply) => {
                held::answer(&reply.into_wit());
                Vec::new()
            }
        }
    }
}

impl RequestVerdict {
    /// [`Hold`](Self::Hold) with [`buffer`]: `f` gets the whole body of at most `max` bytes, and the head, which it can
    /// still edit.
    pub fn whole(
        max: usize,
        f: impl FnOnce(Vec<u8>, &Exchange, &mut Request) -> Result<Whole, Failure> + 'static,
    ) -> Self {
        Self::hold(buffer(max, move |body| {
            let whole = f(body, &Exchange::current(), &mut Request::current())?;
            Ok(whole.into_bytes())
        }))
    }
}

impl ResponseVerdict {
    /// [`Hold`](Self::Hold) with [`buffer`]: `f` gets the whole body of at most `max` bytes, and the head, which it can
    /// still edit.
    pub fn whole(
        max: usize,
        f: impl FnOnce(Vec<u8>, &Exchange, &Request, &mut Response) -> Result<Whole, Failure> + 'static,
    ) -> Self {
        Self::hold(buffer(max, move |body| {
            let exchange = Exchange::current();
            let whole = f(
                body,
                &exchange,
                &Request::current(),
                &mut Response::current(),
            )?;
            Ok(whole.into_bytes())
        }))
    }
}
