//! `witgate check`: everything that is wrong, and nothing started.

use crate::Ended;
use crate::args::Check;
use crate::load;

pub(crate) fn check(args: &Check) -> Result<(), Ended> {
    let loaded = load::read(&args.config)?;
    if let Some(chrome) = &loaded.chrome {
        chrome.check(&loaded.file)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Ended::because)?;
    let generation = runtime.block_on(load::build(&loaded.file, loaded.config))?;
    let config = generation.config();
    println!(
        "{}: ok ({}, {}, {}, {}{})",
        loaded.file,
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.plugins.len(), "plugin"),
        count(config.upstreams.len(), "upstream"),
        if loaded.chrome.is_some() {
            ", Chromium"
        } else {
            ""
        },
    );
    Ok(())
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
