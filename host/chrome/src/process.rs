//! One run of Chromium: a process group, its standard error, and its end.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::browser::CloseParams;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid,
};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use crate::cdp::{self, CdpError, Client};
use crate::config::CommandLine;

/// How many lines of standard error are kept, to tell why Chromium ended.
const KEPT_LINES: usize = 3;

/// The longest line of standard error that is kept and logged; Chromium may log whole pages.
const MAX_LINE: usize = 1024;

/// How long helper processes may outlive the browser process: they end when they notice that it is gone.
const HELPERS_LIMIT: Duration = Duration::from_secs(2);

/// How long a killed browser process may take to be gone: one that waits for a disk ends when that has answered.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How long `Browser.close` may take to be answered.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// A running Chromium. Dropping it kills the whole group.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The browser process's id, and its group's.
    group: Pid,
    stderr: Arc<Mutex<Stderr>>,
    announced: watch::Receiver<Option<String>>,
    ended: bool,
}

/// The end of what Chromium wrote to its standard error.
#[derive(Debug, Default)]
struct Stderr {
    lines: VecDeque<String>,
}

impl Process {
    /// Starts Chromium in a process group of its own, so that a ^C on the terminal reaches the supervisor alone and
    /// that helper processes can be signalled too.
    pub(crate) fn spawn(command_line: &CommandLine) -> io::Result<Self> {
        let mut child = Command::new(&command_line.binary)
            .args(&command_line.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let group = group.expect("a child that was not waited for has an id, and it is positive");
        let stderr = Arc::new(Mutex::new(Stderr::default()));
        let (announce, announced) = watch::channel(None);
        if let Some(pipe) = child.stderr.take() {
            tokio::spawn(read_stderr(pipe, Arc::clone(&stderr), announce));
        }
        Ok(Self {
            child,
            group,
            stderr,
            announced,
            ended: false,
        })
    }

    /// The browser process's id.
    pub(crate) fn pid(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Where to wait for the WebSocket URL that Chromium announces once its debugging port is open.
    pub(crate) fn announced(&self) -> watch::Receiver<Option<String>> {
        self.announced.clone()
    }

    /// The last lines of standard error, in one.
    pub(crate) fn last_words(&self) -> String {
        lock(&self.stderr)
            .lines
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" / ")
    }

    /// Waits for the browser process to end by itself. May be cancelled and called again.
    pub(crate) async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends Chromium: by `Browser.close` on the given endpoint, which writes cookies to the disk, or by SIGTERM; and
    /// by SIGKILL after `limit`. No process of the group is left when it returns, but one that the kernel does not end.
    pub(crate) async fn stop(mut self, endpoint: Option<(SocketAddr, &str)>, limit: Duration) {
        let pid = self.pid();
        let deadline = Instant::now() + limit;
        let asked = match endpoint {
            Some((address, path)) => close_browser(address, path, CLOSE_LIMIT.min(limit)).await,
            None => Err(CdpError::Connect("not ready yet".into())),
        };
        if let Err(error) = asked {
            debug!(pid, %error, "chromium is asked to end by SIGTERM");
            self.signal(Signal::TERM);
        }
        match tokio::time::timeout_at(deadline, self.exited()).await {
            Ok(Ok(status)) => debug!(pid, %status, "chromium ended"),
            Ok(Err(error)) => warn!(pid, %error, "cannot wait for chromium"),
            Err(_elapsed) => warn!(
                pid,
                limit_ms = limit.as_millis() as u64,
                "chromium did not end in time: killed"
            ),
        }
        self.sweep().await;
    }

    /// Makes sure that nothing of the group is left: helpers get a moment to end by themselves and are then killed.
    pub(crate) async fn sweep(mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            match timeout(KILL_LIMIT, self.exited()).await {
                Ok(Ok(_status)) => {}
                Ok(Err(error)) => warn!(pid = self.pid(), %error, "cannot wait for chromium"),
                Err(_elapsed) => warn!(
                    pid = self.pid(),
                    limit_ms = KILL_LIMIT.as_millis() as u64,
                    "chromium was killed and is not gone: it waits for the kernel, perhaps for a disk that does not answer"
                ),
            }
        }
        if timeout(HELPERS_LIMIT, self.group_ended()).await.is_err() {
            warn!(
                pid = self.pid(),
                "helper processes of chromium outlived it: killed"
            );
            self.signal(Signal::KILL);
            if timeout(HELPERS_LIMIT, self.group_ended()).await.is_err() {
                warn!(
                    pid = self.pid(),
                    "helper processes of chromium cannot be killed"
                );
            }
        }
        self.ended = true;
    }

    async fn group_ended(&self) {
        loop {
            // Where this process is the init of a container, orphaned helpers become its children.
            while let Ok(Some(_)) = waitid(
                WaitId::Pgid(Some(self.group)),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            ) {}
            if test_kill_process_group(self.group) == Err(Errno::SRCH) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn signal(&self, signal: Signal) {
        match kill_process_group(self.group, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => warn!(pid = self.pid(), ?signal, %error, "cannot signal chromium"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::KILL);
        }
    }
}

/// Asks the browser to end in an orderly way. That it closes the connection before it answers is as good.
async fn close_browser(address: SocketAddr, path: &str, limit: Duration) -> Result<(), CdpError> {
    let mut client = Client::connect(address, path, limit, cdp::ignore).await?;
    match client.call(None, CloseParams::default()).await {
        Ok(_) | Err(CdpError::Closed { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Logs standard error, keeps its end, and passes on the line that tells the WebSocket URL. Ends with the pipe, which
/// the last helper process closes.
async fn read_stderr(
    pipe: impl AsyncRead + Unpin,
    stderr: Arc<Mutex<Stderr>>,
    announce: watch::Sender<Option<String>>,
) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        let (used, ended) = match reader.fill_buf().await {
            Ok([]) | Err(_) => return,
            Ok(buffer) => {
                let end = buffer.iter().position(|byte| *byte == b'\n');
                let piece = &buffer[..end.unwrap_or(buffer.len())];
                line.extend_from_slice(
                    &piece[..piece.len().min(MAX_LINE.saturating_sub(line.len()))],
                );
                (end.map_or(buffer.len(), |end| end + 1), end.is_some())
            }
        };
        reader.consume(used);
        if !ended {
            continue;
        }
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        line.clear();
        if text.is_empty() {
            continue;
        }
        debug!(target: "witgate_chrome::stderr", "{text}");
        if let Some(url) = text.strip_prefix("DevTools listening on ") {
            announce.send_replace(Some(url.to_owned()));
        } else {
            let mut kept = lock(&stderr);
            kept.lines.push_back(text);
            if kept.lines.len() > KEPT_LINES {
                kept.lines.pop_front();
            }
        }
    }
}

/// The lines are whole after every change, whatever became of the thread that made it.
fn lock(stderr: &Mutex<Stderr>) -> MutexGuard<'_, Stderr> {
    stderr.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let args = vec!["-c".into(), script.into()];
        Process::spawn(&CommandLine {
            binary: "/bin/sh".into(),
            args,
        })
        .unwrap()
    }

    fn group_is_gone(group: Pid) -> bool {
        test_kill_process_group(group) == Err(Errno::SRCH)
    }

    #[tokio::test]
    async fn the_announced_url_is_passed_on_and_the_last_lines_are_kept() {
        let mut process = shell(
            "for i in 1 2 3 4; do echo line $i >&2; done; echo DevTools listening on ws://x >&2",
        );
        let mut announced = process.announced();
        let url = announced.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(url.as_deref(), Some("ws://x"));
        assert!(process.exited().await.unwrap().success());
        assert_eq!(process.last_words(), "line 2 / line 3 / line 4");
        process.sweep().await;
    }

    #[tokio::test]
    async fn a_line_without_end_takes_no_memory_without_end() {
        let process = shell(
            "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo DevTools listening on ws://x >&2",
        );
        process.announced().wait_for(Option::is_some).await.unwrap();
        assert_eq!(process.last_words().len(), MAX_LINE);
        process.sweep().await;
    }

    #[tokio::test]
    async fn helpers_that_outlive_the_browser_and_ignore_sigterm_are_killed() {
        let process = shell(
            "trap '' TERM; sleep 600 & sleep 600 & echo DevTools listening on ws://x >&2; wait",
        );
        let group = process.group;
        process.announced().wait_for(Option::is_some).await.unwrap();
        process.stop(None, Duration::from_millis(100)).await;
        assert!(group_is_gone(group));
    }

    #[tokio::test]
    async fn a_dropped_process_takes_its_group_along() {
        let process = shell("sleep 600 & echo DevTools listening on ws://x >&2; wait");
        let group = process.group;
        process.announced().wait_for(Option::is_some).await.unwrap();
        drop(process);
        let gone = async {
            while !group_is_gone(group) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), gone).await.unwrap();
    }
}
