//! Counts under ever new labels.

use witgate_plugin::metrics::{Counter, Error};
use witgate_plugin::{Failure, Reply, RequestVerdict};

pub(crate) fn on_request() -> Result<RequestVerdict, Failure> {
    let mut made = 0;
    for client in 0..10_000 {
        match Counter::new("explosion", &[("client", &client.to_string())]) {
            Ok(counter) => {
                counter.add(1);
                made += 1;
            }
            Err(Error::TooManySeries(_)) => {}
            Err(other) => return Err(other.into()),
        }
    }
    let text = format!("made {made}");
    Ok(RequestVerdict::Answer(Reply::new(200).text(text)))
}
