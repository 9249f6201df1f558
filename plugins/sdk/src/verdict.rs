use crate::{Reply, Transform};

/// What a [`RequestHook`](crate::RequestHook) returns.
#[non_exhaustive]
pub enum RequestVerdict {
    /// Go on with the next plugin, then the upstream.
    Next,
    /// Answer now: no later plugin and no upstream sees the request.
    Answer(Reply),
    /// Go on, and pass the request body through this, as it comes.
    Transform(Box<dyn Transform>),
    /// Go on, and pass the request body through this, but hold the request back until its body has been seen whole (at
    /// most the plugin's `limits.held-body`, default 1 MiB), so that it is sent with the `Content-Length` it turned out
    /// to have.
    Hold(Box<dyn Transform>),
}

impl RequestVerdict {
    /// [`Transform`](Self::Transform), boxed.
    pub fn transform(transform: impl Transform) -> Self {
        Self::Transform(Box::new(transform))
    }

    /// [`Hold`](Self::Hold), boxed.
    pub fn hold(transform: impl Transform) -> Self {
        Self::Hold(Box::new(transform))
    }
}

/// What a [`ResponseHook`](crate::ResponseHook) returns.
#[non_exhaustive]
pub enum ResponseVerdict {
    /// Send it on, as edited.
    Next,
    /// Send this instead; the response's own body is thrown away. Not possible for a 101: there it is a failure of the
    /// plugin.
    Answer(Reply),
    /// Pass the body through this, sent on as it comes. The host removes `Content-Length`, and `ETag` becomes a weak
    /// one. Ignored where a response has no body (HEAD, 101, 204, 304).
    Transform(Box<dyn Transform>),
    /// As `Transform`, but hold the head back until the body has been seen whole (at most the plugin's
    /// `limits.held-body`, default 1 MiB; more is a 502), so that it is sent with the `Content-Length` it turned out to
    /// have.
    Hold(Box<dyn Transform>),
}

impl ResponseVerdict {
    /// [`Transform`](Self::Transform), boxed.
    pub fn transform(transform: impl Transform) -> Self {
        Self::Transform(Box::new(transform))
    }

    /// [`Hold`](Self::Hold), boxed.
    pub fn hold(transform: impl Transform) -> Self {
        Self::Hold(Box::new(transform))
    }
}
