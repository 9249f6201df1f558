use crate::plugin::Stage;
use crate::{Body, Reply};

/// What a hook returned, checked as the proxy checks it.
#[derive(Debug)]
pub enum Verdict {
    /// Go on.
    Next,
    /// Send this instead.
    Answer(Reply),
    /// Go on and pass the body through this, as it comes.
    Transform(Body),
    /// Go on and pass the body through this, holding the head back until the body has been seen whole.
    Hold(Body),
}

impl Verdict {
    pub(crate) fn new(verdict: witgate_runtime::Verdict, stage: &Stage) -> Self {
        let body = |transform| Body::new(transform, stage.clone());
        match verdict {
            witgate_runtime::Verdict::Next => Self::Next,
            witgate_runtime::Verdict::Answer(reply) => Self::Answer(*reply),
            witgate_runtime::Verdict::Transform(transform) => Self::Transform(body(*transform)),
            witgate_runtime::Verdict::Hold(transform) => Self::Hold(body(*transform)),
        }
    }

    /// # Panics
    ///
    /// Unless it is [`Next`](Self::Next).
    #[track_caller]
    pub fn expect_next(self) {
        match self {
            Self::Next => {}
            other => panic!("expected the verdict next, got {other:?}"),
        }
    }

    /// The reply.
    ///
    /// # Panics
    ///
    /// Unless it is [`Answer`](Self::Answer).
    #[track_caller]
    pub fn expect_answer(self) -> Reply {
        match self {
            Self::Answer(reply) => reply,
            other => panic!("expected the verdict answer, got {other:?}"),
        }
    }

    /// The transform.
    ///
    /// # Panics
    ///
    /// Unless it is [`Transform`](Self::Transform).
    #[track_caller]
    pub fn expect_transform(self) -> Body {
        match self {
            Self::Transform(body) => body,
            other => panic!("expected the verdict transform, got {other:?}"),
        }
    }

    /// The transform.
    ///
    /// # Panics
    ///
    /// Unless it is [`Hold`](Self::Hold).
    #[track_caller]
    pub fn expect_hold(self) -> Body {
        match self {
            Self::Hold(body) => body,
            other => panic!("expected the verdict hold, got {other:?}"),
        }
    }
}
