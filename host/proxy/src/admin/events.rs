//! What happens, told as it happens (server-sent events): once a second all figures, and the exchanges that ended.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};

use super::api::Answer;
use super::body::Body;
use super::{Shown, documents};
use crate::recent::Read;

/// How many may stay at once.
pub(super) const STREAMS: usize = 8;

/// How often they are told.
const EVERY: Duration = Duration::from_secs(1);

/// One who takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Exchanges that are told of at a time; of more the newest.
const MOST: usize = 200;

/// Tells until nobody listens any more.
pub(super) fn stream(shown: &Shown) -> Result<Answer, Answer> {
    let Ok(place) = shown.streams.clone().try_acquire_owned() else {
        let why = format!("{STREAMS} already listen, and that is the most");
        return Err(Answer::error(StatusCode::SERVICE_UNAVAILABLE, &why));
    };
    let (events, told) = mpsc::channel(1);
    let teller = Teller {
        shown: shown.another(),
        read: Read::default(),
    };
    tokio::spawn(teller.tell(events));
    Ok(Answer::events(Body::Events {
        events: told,
        _place: place,
    }))
}

struct Teller {
    shown: Shown,
    read: Read,
}

impl Teller {
    async fn tell(mut self, events: mpsc::Sender<Bytes>) {
        let mut clock = interval(EVERY);
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = events.closed() => return,
            }
            let figures = event("figures", &self.figures().await);
            let exchanges = event("exchanges", &self.exchanges().await);
            let event = Bytes::from(figures + &exchanges);
            if !matches!(timeout(PATIENCE, events.send(event)).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn figures(&self) -> Value {
        let generation = self.shown.generations.borrow().clone();
        let figures = self.shown.status.metrics.figures();
        json!({
            "status": self.shown.status_document().await,
            "connections": documents::listeners(&figures),
            "routes": documents::routes(&generation, &figures)["routes"],
            "plugins": documents::plugins(&generation, &figures)["plugins"],
            "upstreams": documents::upstreams(&generation, &figures)["upstreams"],
        })
    }

    async fn exchanges(&mut self) -> Value {
        let found = self.shown.status.metrics.looks.look(&mut self.read).await;
        let newest = &found[found.len().saturating_sub(MOST)..];
        let exchanges: Vec<_> = newest
            .iter()
            .map(|past| documents::exchange(past))
            .collect();
        json!({"exchanges": exchanges, "left_out": found.len() - newest.len()})
    }
}

/// JSON has no line break in it, so one line of data is enough.
fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
