//! What systemd is told (sd_notify(3)), where it asks to be: without `NOTIFY_SOCKET` nobody is.

use std::time::Duration;

use sd_notify::NotifyState;
use witgate_proxy::Pulse;

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "systemd cannot be told how things are");
    }
}

/// It serves. With a hand-over this process is another one than systemd started.
pub(crate) fn ready(status: &str) {
    tell(&[
        NotifyState::MainPid(std::process::id()),
        NotifyState::Ready,
        NotifyState::Status(status),
    ]);
}

/// Another configuration is being read.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd is not told of the reload"),
    }
}

/// It came to an end, whichever.
pub(crate) fn reloaded(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Another process serves. It says so as well, but this one may have ended before that is heard, and systemd would end the
/// service with the process that it takes for the main one.
pub(crate) fn succeeded_by(process: u32) {
    tell(&[NotifyState::MainPid(process)]);
}

/// A line for people.
pub(crate) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// It was asked to stop.
pub(crate) fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("draining: what is under way may end"),
    ]);
}

/// Tells systemd that all workers live, as long as they do, four times in the time that it allows. A worker that hangs
/// makes it end this process and start another.
pub(crate) async fn watch(pulse: Pulse) {
    let Some(allowed) = sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero()) else {
        return;
    };
    let mut clock = tokio::time::interval((allowed / 4).max(Duration::from_millis(1)));
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let silent = pulse.beat();
        match silent.is_empty() {
            // Whoever listens may be slow, and must not hold up signals and reloads.
            true => {
                let told = tokio::task::spawn_blocking(|| tell(&[NotifyState::Watchdog])).await;
                if let Err(error) = told {
                    tracing::error!(%error, "telling systemd failed");
                }
            }
            false => tracing::error!(
                workers = ?silent,
                ?allowed,
                "workers do not answer; if they go on so, systemd ends this process"
            ),
        }
    }
}
