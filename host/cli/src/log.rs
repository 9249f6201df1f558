//! Where log lines go: to standard error, by a thread of their own, so that no worker waits for a terminal or a pipe.

use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber, span};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::Ended;
use crate::args::{Format, Log};

/// Whether people look at standard error and want colour (<https://no-color.org>).
pub(crate) fn color() -> bool {
    stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Starts logging. What is still to be written is written when the guard is dropped.
///
/// If lines come faster than they can be written, for longer than 128,000 lines, the excess is lost.
pub(crate) fn start(log: &Log) -> Result<WorkerGuard, Ended> {
    FILTERS
        .set(&log.log_level)
        .map_err(|error| Ended::because(format!("--log-level {:?}: {error}", log.log_level)))?;
    let (writer, guard) = tracing_appender::non_blocking(stderr());
    let lines = fmt::layer().with_writer(writer).with_ansi(color());
    let filtered = tracing_subscriber::registry().with(&FILTERS);
    match log.log_format {
        Format::Text => filtered.with(lines).init(),
        Format::Json => {
            let lines = lines.json().flatten_event(true);
            let lines = lines.with_current_span(false).with_span_list(false);
            filtered.with(lines).init();
        }
    }
    Ok(guard)
}

/// What is logged now.
pub(crate) fn filter() -> String {
    FILTERS
        .now()
        .map_or_else(String::new, |(text, _)| text.clone())
}

/// Logs this from now on.
pub(crate) fn set_filter(filter: &str) -> Result<(), String> {
    FILTERS.set(filter)?;
    tracing::callsite::rebuild_interest_cache();
    tracing::info!(filter, "what is logged was changed");
    Ok(())
}

/// Different filters that one process may have had. They stay, so that a line is filtered without a lock.
const MOST_FILTERS: usize = 64;

static FILTERS: Filters = Filters {
    known: [const { OnceLock::new() }; MOST_FILTERS],
    now: AtomicUsize::new(0),
};

/// All filters that there were, and which one is in effect.
struct Filters {
    known: [OnceLock<(String, EnvFilter)>; MOST_FILTERS],
    now: AtomicUsize,
}

impl Filters {
    fn now(&self) -> Option<&(String, EnvFilter)> {
        self.known[self.now.load(Ordering::Acquire)].get()
    }

    fn set(&self, text: &str) -> Result<(), String> {
        let filter = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
        let mut new = Some((text.to_owned(), filter));
        for (at, known) in self.known.iter().enumerate() {
            let (known, _) = known.get_or_init(|| new.take().expect("one place takes it"));
            if known == text {
                self.now.store(at, Ordering::Release);
                return Ok(());
            }
            if new.is_none() {
                break;
            }
        }
        Err(format!(
            "there were {MOST_FILTERS} different ones; start witgate again to have more"
        ))
    }
}

/// As the filter in effect says.
impl<S: Subscriber> Layer<S> for &'static Filters {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.now() {
            Some((_, filter)) => Layer::<S>::register_callsite(filter, metadata),
            None => Interest::sometimes(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.now()
            .is_some_and(|(_, filter)| Layer::<S>::enabled(filter, metadata, context))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let (_, filter) = self.now()?;
        Layer::<S>::max_level_hint(filter)
    }

    fn on_new_span(&self, span: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some((_, filter)) = self.now() {
            Layer::<S>::on_new_span(filter, span, id, context);
        }
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        if let Some((_, filter)) = self.now() {
            Layer::<S>::on_close(filter, id, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_known_takes_no_new_place_and_a_wrong_one_changes_nothing() {
        let filters = Filters {
            known: [const { OnceLock::new() }; MOST_FILTERS],
            now: AtomicUsize::new(0),
        };
        let now = || filters.now().map(|(text, _)| text.as_str());
        assert_eq!(now(), None);
        for text in ["info", "debug", "info"] {
            assert_eq!(filters.set(text), Ok(()));
            assert_eq!(now(), Some(text));
        }
        assert!(filters.set("info,=").is_err());
        assert_eq!(now(), Some("info"));
        for number in 2..MOST_FILTERS {
            assert_eq!(filters.set(&format!("a{number}=info")), Ok(()));
        }
        let one_more = filters
            .set("one-more=info")
            .expect_err("there is no place left");
        assert!(one_more.contains("64"), "{one_more}");
        assert_eq!(filters.set("debug"), Ok(()));
    }
}
