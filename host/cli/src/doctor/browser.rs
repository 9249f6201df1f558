//! Chromium: whether it is there, and whether it can have a sandbox.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::statvfs;
use tokio::process::Command;
use tokio::time::timeout;
use witgate_chrome::ChromeConfig;

use super::Findings;
use super::system::number;
use crate::load::Loaded;

const ABOUT: &str = "Chromium";

/// Pages share memory there, and crash where there is too little of it.
const LITTLE_SHARED_MEMORY: u64 = 256 << 20;

/// Chromium's helper for kernels that do not let a user make namespaces.
const HELPERS: [&str; 3] = [
    "/usr/lib/chromium/chrome-sandbox",
    "/opt/google/chrome/chrome-sandbox",
    "/usr/lib/chromium-browser/chrome-sandbox",
];

pub(super) async fn look(loaded: Option<&Loaded>, findings: &mut Findings) {
    let chrome = loaded.and_then(|loaded| loaded.chrome.as_ref());
    let Some(chrome) = chrome else {
        let found = ChromeConfig::new("profile".into()).program();
        let message = match found {
            Ok(program) => format!("{}; there is no [chrome] that wants it", program.display()),
            Err(_) => "none found, and there is no [chrome] that wants it".into(),
        };
        return findings.good(ABOUT, message);
    };
    let config = chrome.config();
    if let Err(error) = config.check() {
        return findings.wrong(
            ABOUT,
            error.to_string(),
            "see `[chrome]` in the configuration",
        );
    }
    let Ok(program) = config.program() else {
        return;
    };
    match version(&program).await {
        Some(version) => findings.good(ABOUT, format!("{}: {version}", program.display())),
        None => findings.wrong(
            ABOUT,
            format!("{} tells no version within 10 s", program.display()),
            "run it with `--version` to see why",
        ),
    }
    if config.sandbox {
        sandbox(findings);
    }
    shared_memory(&config.args, findings);
}

async fn version(program: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let told = timeout(Duration::from_secs(10), command.output()).await;
    let told = told.ok()?.ok()?;
    let text = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    (told.status.success() && !text.is_empty()).then_some(text)
}

fn sandbox(findings: &mut Findings) {
    let refused = [
        ("kernel.unprivileged_userns_clone", 0),
        ("user.max_user_namespaces", 0),
        ("kernel.apparmor_restrict_unprivileged_userns", 1),
    ];
    let refusal = refused.into_iter().find(|(name, value)| {
        number(&format!("/proc/sys/{}", name.replace('.', "/"))) == Some(*value)
    });
    let helper = || HELPERS.iter().find(|path| is_root_by_mode(Path::new(path)));
    match refusal {
        None => findings.good(ABOUT, "its sandbox can have namespaces"),
        Some((name, value)) => match helper() {
            Some(helper) => findings.good(ABOUT, format!("its sandbox has {helper}")),
            None => findings.doubtful(
                ABOUT,
                format!("its sandbox may not be possible: {name} is {value}, and there is no helper with mode 4755"),
                "install it (Debian: apt-get install chromium-sandbox), allow namespaces, or set `sandbox = false`",
            ),
        },
    }
}

fn is_root_by_mode(path: &Path) -> bool {
    const SET_USER: u32 = 0o4000;
    let found = fs::metadata(path);
    found.is_ok_and(|found| found.uid() == 0 && found.permissions().mode() & SET_USER != 0)
}

fn shared_memory(args: &[String], findings: &mut Findings) {
    let elsewhere = args.iter().any(|arg| arg.contains("disable-dev-shm-usage"));
    let size = statvfs("/dev/shm").map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize));
    match size {
        Ok(size) if size < LITTLE_SHARED_MEMORY && !elsewhere => findings.doubtful(
            ABOUT,
            format!("/dev/shm has only {} MiB: large pages crash", size >> 20),
            "give the container more (`--shm-size=1g`), or add \"--disable-dev-shm-usage\" to `args`",
        ),
        _ => {}
    }
}
