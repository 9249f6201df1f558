//! Has certificates and renews them, on a thread of its own.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Managed;
use super::order::{Failed, order};
use crate::tls::Certificate;

/// After a failure that the authority has not counted, at first and at most.
const UNASKED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60 * 60));
/// After one that it has: Let's Encrypt takes five an hour for each name.
const REFUSED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(6 * 60 * 60));
/// When another process orders.
const OTHERS: Duration = Duration::from_secs(30);
/// The longest sleep: a clock that was set, or a file that another process renewed, is seen within it.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The thread. Dropped, it ends.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    thread: Option<UnboundedSender<Vec<Arc<Managed>>>>,
}

impl Keeper {
    /// Cares for these from now on, and for no others.
    pub(crate) fn keep(&mut self, managed: Vec<Arc<Managed>>) {
        if self.thread.is_none() && managed.is_empty() {
            return;
        }
        let thread = self.thread.get_or_insert_with(start);
        if thread.send(managed).is_err() {
            tracing::error!(
                "the thread that has certificates renewed has ended; a restart is needed"
            );
        }
    }
}

fn start() -> UnboundedSender<Vec<Arc<Managed>>> {
    let (sender, lists) = unbounded_channel();
    let started = std::thread::Builder::new()
        .name("acme".into())
        .spawn(move || match runtime() {
            Ok(runtime) => runtime.block_on(follow(lists)),
            Err(error) => tracing::error!(%error, "certificates cannot be renewed"),
        });
    if let Err(error) = started {
        tracing::error!(%error, "certificates cannot be renewed");
    }
    sender
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    // The client of the authority takes the process's; another may have been set before, which does as well.
    let installed = rustls::crypto::ring::default_provider().install_default();
    if installed.is_err() {
        tracing::debug!("the process has a provider of cryptography already");
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn follow(mut lists: UnboundedReceiver<Vec<Arc<Managed>>>) {
    let mut kept: Vec<(Weak<Managed>, JoinHandle<()>)> = Vec::new();
    while let Some(list) = lists.recv().await {
        let is_kept = |one: &Weak<Managed>| {
            let same = |managed: &Arc<Managed>| Weak::ptr_eq(one, &Arc::downgrade(managed));
            list.iter().any(same)
        };
        kept.retain(|(one, task)| {
            let stays = is_kept(one);
            if !stays {
                task.abort();
            }
            stays
        });
        for managed in &list {
            let weak = Arc::downgrade(managed);
            if !kept.iter().any(|(one, _)| Weak::ptr_eq(one, &weak)) {
                kept.push((weak, tokio::spawn(keep(managed.clone()))));
            }
        }
    }
}

async fn keep(managed: Arc<Managed>) {
    let domain = managed.settings.domains[0].clone();
    let mut failures = [0, 0];
    loop {
        let wait = match left(&managed) {
            Some(left) if !left.is_zero() => left.min(LONGEST),
            _ => match attempt(&managed).await {
                Ok(Some(expiry)) => {
                    tracing::info!(domain, expiry, "there is a new certificate");
                    failures = [0, 0];
                    continue;
                }
                Ok(None) => OTHERS,
                Err(failed) => {
                    let [unasked, refused] = &mut failures;
                    let ((first, most), count, reason) = match failed {
                        Failed::Unasked(why) => (UNASKED, unasked, why),
                        Failed::Refused(why) => (REFUSED, refused, why),
                    };
                    let again = back_off(first, most, *count, rand());
                    *count += 1;
                    tracing::warn!(
                        domain,
                        reason,
                        ?again,
                        "a certificate could not be had; what there is stays"
                    );
                    managed.now_fails(reason);
                    again
                }
            },
        };
        sleep(wait).await;
    }
}

/// How long the certificate may stay. `None` without one.
fn left(managed: &Managed) -> Option<Duration> {
    let state = managed.state();
    let certificate = state.certificate.as_ref()?;
    let due = due(certificate.from(), certificate.until());
    Some(Duration::from_secs(
        due.saturating_sub(now()).try_into().unwrap_or(0),
    ))
}

/// When a certificate of that life is to be renewed: at two thirds, less up to a fiftieth that differs from one
/// certificate to the next, so that not all of them come at once.
fn due(from: i64, until: i64) -> i64 {
    let life = until.saturating_sub(from).max(0);
    let early = match life / 50 {
        0 => 0,
        most => (from ^ until).rem_euclid(most),
    };
    from.saturating_add(life / 3 * 2).saturating_sub(early)
}

/// One try, unless another process is at it. The expiry of what there is then.
async fn attempt(managed: &Managed) -> Result<Option<i64>, Failed> {
    let locked = managed.storage.lock();
    let _locked = match locked {
        Ok(Some(locked)) => locked,
        Ok(None) => {
            take_stored(managed);
            return Ok(None);
        }
        Err(error) => {
            let storage = managed.settings.storage.display();
            return Err(Failed::Unasked(format!("cannot use {storage}: {error}")));
        }
    };
    // Another process may have renewed it.
    if let Some(expiry) = take_stored(managed) {
        return Ok(Some(expiry));
    }
    let certificate = order(managed).await?;
    let (from, until) = (certificate.from(), certificate.until());
    managed
        .obtained
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    managed.now_has(certificate);
    if due(from, until) <= now() {
        // Else one would be ordered after the other.
        return Err(Failed::Refused(
            "the new certificate is due for renewal already: is the clock right?".into(),
        ));
    }
    Ok(Some(until))
}

/// Takes what is stored, if that is not due.
fn take_stored(managed: &Managed) -> Option<i64> {
    let stored = managed.storage.certificate().ok()??;
    let until = Certificate::until(&stored);
    (due(stored.from(), until) > now()).then(|| {
        managed.now_has(stored);
        until
    })
}

/// Twice as long each time, less up to half of it.
fn back_off(first: Duration, most: Duration, failures: u32, random: u32) -> Duration {
    let whole = first.saturating_mul(1 << failures.min(20)).min(most);
    whole - whole.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

/// Any number will do: of the standard library's hasher, which has a new key each time.
fn rand() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    let bytes = RandomState::new().hash_one(()).to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_earlier() {
        const DAY: i64 = 24 * 60 * 60;
        for from in [0, 1, 1_700_000_000, 1_712_345_678] {
            for days in [6, 90, 398] {
                let due = due(from, from + days * DAY) - from;
                let (latest, life) = (days * DAY / 3 * 2, days * DAY);
                assert!(due <= latest && due > latest - life / 50, "{days}: {due}");
            }
        }
        assert_eq!(due(10, 10), 10);
        assert_eq!(due(10, 5), 10);
    }

    #[test]
    fn what_fails_again_waits_longer_up_to_a_limit() {
        let (first, most) = REFUSED;
        assert_eq!(back_off(first, most, 0, 0), first);
        assert_eq!(back_off(first, most, 0, u32::MAX), first / 2);
        assert_eq!(back_off(first, most, 1, 0), first * 2);
        assert_eq!(back_off(first, most, u32::MAX, 0), most);
    }
}
