//! The exchange that a hook call is about, as far as plugins may see it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};

use crate::address::{ClientAddress, PeerAddress};
use crate::slot::OwnInstances;

/// One request and its response, with the notes that plugins left on it.
///
/// It is moved into the instance for the time of a call and moved out again, so that no call needs a lock or a
/// reference that outlives it. Keep it boxed.
#[derive(Debug)]
pub struct Exchange {
    /// What no plugin can change.
    pub facts: Facts,
    /// The request as the upstream will see it. `Host` stands among the headers; the URI is in origin form.
    pub request: http::request::Parts,
    /// Send the chosen endpoint's own authority instead of `Host` (`request.use-upstream-authority`).
    pub use_upstream_authority: bool,
    /// The response, once there is one.
    pub response: Option<ResponseHead>,
    /// Notes of plugins. A clone is the same notes: those that a body's transform leaves are seen here.
    pub attributes: Attributes,
    /// What edits may make of a head.
    pub limits: HeadLimits,
    /// Instances that live for this exchange alone; none at first.
    pub own_instances: OwnInstances,
}

/// What stays the same for the whole exchange.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Request id, as logged: 1 to 128 visible ASCII characters.
    pub id: Arc<str>,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Name of the route.
    pub route: Arc<str>,
    /// The other end of the connection.
    pub peer: PeerAddress,
    /// The client, behind trusted proxies.
    pub client: ClientAddress,
    /// What the client used, behind trusted proxies.
    pub client_scheme: Scheme,
    /// Host and optional port as the client sent them, checked; empty when it sent none.
    pub client_authority: Arc<str>,
    /// Path and query as the client sent them.
    pub client_path_with_query: Arc<str>,
    /// The protocol that the client wants to upgrade to, lower case.
    pub upgrade: Option<Arc<str>>,
}

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// Reads `http` or `https`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Http, Self::Https]
            .into_iter()
            .find(|scheme| scheme.as_str().eq_ignore_ascii_case(text))
    }

    /// The port that is meant when a URL names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The head of a response.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Final status, or 101.
    pub status: StatusCode,
    /// Fields, without framing and hop-by-hop ones.
    pub headers: HeaderMap,
    /// End the client's connection after this response.
    pub end_connection: bool,
}

/// What the edits of plugins may make of one head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Number of fields.
    pub count: usize,
    /// Bytes of all names and values together.
    pub size: usize,
}

/// What a call about a body or a message knows of its exchange, whose heads are elsewhere by then.
#[derive(Debug, Clone)]
pub(crate) struct Passing {
    pub(crate) facts: Facts,
    pub(crate) attributes: Attributes,
}

impl From<&Exchange> for Passing {
    fn from(exchange: &Exchange) -> Self {
        Self {
            facts: exchange.facts.clone(),
            attributes: exchange.attributes.clone(),
        }
    }
}

/// Notes that ride with an exchange, in the order in which they were first written. A clone is the same notes, so that
/// whoever is left with one when the exchange is gone has them all.
#[derive(Debug, Default, Clone)]
pub struct Attributes {
    /// Locked for a moment by the one thread that has the exchange; a lock only because that is sent to instances.
    entries: Arc<Mutex<Vec<Attribute>>>,
    /// What was called, where somebody wants to know.
    steps: Option<Arc<Mutex<Vec<Step>>>>,
}

/// A call of a hook, as whoever follows an exchange sees it.
#[derive(Debug, Clone)]
pub struct Step {
    /// Name of the plugin.
    pub plugin: Arc<str>,
    /// `on-request`, …
    pub hook: &'static str,
    /// When the call began.
    pub began: Instant,
    /// How long it took, waits included.
    pub took: Duration,
    /// What came of it: a verdict, or the label of a failure.
    pub verdict: &'static str,
}

/// Steps that are kept of one exchange.
const MAX_STEPS: usize = 64;

#[derive(Debug)]
struct Attribute {
    plugin: Arc<str>,
    note: Box<str>,
    value: Box<str>,
}

/// Longest name of a note, in bytes.
const MAX_NOTE: usize = 64;
/// Longest value of a note, in bytes.
const MAX_VALUE: usize = 1024;
/// Notes that one plugin may leave on one exchange.
const MAX_NOTES: usize = 16;

/// Why a note was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttributeError {
    InvalidName,
    TooLarge,
}

impl Attributes {
    /// The note `note` of the plugin called `plugin`.
    pub fn get(&self, plugin: &str, note: &str) -> Option<String> {
        let entries = self.entries();
        let found = entries
            .iter()
            .find(|a| &*a.plugin == plugin && &*a.note == note)?;
        Some(found.value.to_string())
    }

    /// None yet, of an exchange whose calls are written down with their times.
    pub fn followed() -> Self {
        Self {
            steps: Some(Arc::default()),
            ..Self::default()
        }
    }

    /// Has calls written down from now on, for all clones that are made from now on.
    pub fn follow_calls(&mut self) {
        self.steps.get_or_insert_default();
    }

    /// The calls that were written down so far, in their order.
    pub fn steps(&self) -> Vec<Step> {
        let lock = |steps: &Arc<Mutex<Vec<Step>>>| {
            let steps = steps.lock();
            steps.unwrap_or_else(PoisonError::into_inner).clone()
        };
        self.steps.as_ref().map(lock).unwrap_or_default()
    }

    /// Whether calls are written down.
    pub(crate) fn is_followed(&self) -> bool {
        self.steps.is_some()
    }

    /// Writes a call down.
    pub(crate) fn follow(&self, step: Step) {
        if let Some(steps) = &self.steps {
            let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
            if steps.len() < MAX_STEPS {
                steps.push(step);
            }
        }
    }

    /// The calls that were written down, in their order; takes them.
    pub fn take_steps(&self) -> Vec<Step> {
        let lock = |steps: &Arc<Mutex<Vec<Step>>>| {
            std::mem::take(&mut *steps.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.steps.as_ref().map(lock).unwrap_or_default()
    }

    /// Shows all notes as plugin, note, value.
    pub fn for_each(&self, mut show: impl FnMut(&str, &str, &str)) {
        for Attribute {
            plugin,
            note,
            value,
        } in &*self.entries()
        {
            show(plugin, note, value);
        }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Attribute>> {
        // Each note is put in as a whole, so the list is whole even after a panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a note as if the plugin called `plugin` had.
    ///
    /// # Errors
    ///
    /// Those of `exchange.set-attribute`, in words.
    pub fn leave(&self, plugin: &str, note: &str, value: &str) -> Result<(), String> {
        self.set(&plugin.into(), note, value)
            .map_err(|error| format!("the note {note:?} is refused: {error:?}"))
    }

    pub(crate) fn set(
        &self,
        plugin: &Arc<str>,
        note: &str,
        value: &str,
    ) -> Result<(), AttributeError> {
        let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if note.is_empty() || note.len() > MAX_NOTE || !note.bytes().all(legal) {
            return Err(AttributeError::InvalidName);
        }
        if value.len() > MAX_VALUE {
            return Err(AttributeError::TooLarge);
        }
        let mut entries = self.entries();
        let own = |a: &&mut Attribute| a.plugin == *plugin;
        if let Some(old) = entries.iter_mut().filter(own).find(|a| &*a.note == note) {
            old.value = value.into();
            return Ok(());
        }
        if entries.iter().filter(|a| a.plugin == *plugin).count() == MAX_NOTES {
            return Err(AttributeError::TooLarge);
        }
        entries.push(Attribute {
            plugin: plugin.clone(),
            note: note.into(),
            value: value.into(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_write_of_a_note_replaces_the_first() {
        let (notes, me) = (Attributes::default(), Arc::from("auth"));
        notes.set(&me, "token", "a").expect("legal");
        notes.set(&me, "token", "b").expect("legal");
        assert_eq!(notes.get("auth", "token").as_deref(), Some("b"));
        let mut shown = Vec::new();
        let clone = notes.clone();
        clone.for_each(|plugin, note, value| shown.push(format!("{plugin}.{note}={value}")));
        assert_eq!(shown, ["auth.token=b"]);
    }

    #[test]
    fn a_plugin_cannot_write_under_anothers_name_or_fill_the_memory() {
        let (notes, me) = (Attributes::default(), Arc::from("auth"));
        assert_eq!(
            notes.set(&me, "other.token", "a"),
            Err(AttributeError::InvalidName)
        );
        assert_eq!(notes.set(&me, "", "a"), Err(AttributeError::InvalidName));
        assert_eq!(
            notes.set(&me, "big", &"x".repeat(MAX_VALUE + 1)),
            Err(AttributeError::TooLarge)
        );
        for n in 0..MAX_NOTES {
            notes
                .set(&me, &format!("n{n}"), "")
                .expect("under the limit");
        }
        assert_eq!(
            notes.set(&me, "one-more", ""),
            Err(AttributeError::TooLarge)
        );
    }
}
