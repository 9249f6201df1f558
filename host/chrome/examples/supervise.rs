//! Runs Chromium on a profile until ^C, and harvests once it is ready.
//!
//! ```sh
//! cargo run -p witgate-chrome --example supervise -- /tmp/profile 6667 /tmp/state.json
//! curl http://127.0.0.1:6667/json/version
//! ```
//!
//! Expect a log line when Chromium is ready and one with what was harvested; `kill -9` the process that it names and
//! it comes back. The last argument may be left out.

use std::error::Error;
use std::path::PathBuf;

use witgate_chrome::{ChromeConfig, HarvestConfig, ScheduleConfig, Supervisor, schedule};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::stderr)
        .init();
    let mut args = std::env::args().skip(1);
    let (Some(profile), Some(port)) = (args.next(), args.next()) else {
        return Err("usage: supervise PROFILE PORT [SNAPSHOT]".into());
    };
    let profile = PathBuf::from(profile);
    let mut config = ChromeConfig::new(profile.clone());
    config.port = port.parse()?;
    config.sandbox = !rustix::process::geteuid().is_root();
    config.args.push("--disable-dev-shm-usage".into());
    let (supervisor, state) = Supervisor::new(config)?;
    if let Some(file) = args.next() {
        let harvest = HarvestConfig::new(supervisor.endpoint(), Some(profile), file.into());
        let hourly = ScheduleConfig::new("@hourly".parse()?, harvest);
        tokio::spawn(schedule::run(hourly, state, std::future::pending()));
    }
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    supervisor.run(interrupted).await;
    Ok(())
}
