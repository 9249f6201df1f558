//! `witgate harvest`: one snapshot, now.

use crate::Ended;
use crate::args::Harvest;
use crate::load;
use crate::log;
use crate::output;
use crate::progress::Progress;
use crate::run::runtime;

pub(crate) fn harvest(args: &Harvest) -> Result<(), Ended> {
    let _flushes_the_log = log::start(&args.log)?;
    let loaded = load::read(&args.config)?;
    let Some(chrome) = &loaded.chrome else {
        return Err(Ended::because(format!(
            "{} has no [chrome] to harvest from",
            loaded.file
        )));
    };
    let Some(config) = chrome.harvest(args.file.clone(), args.accept) else {
        let file = &loaded.file;
        return Err(Ended::because(format!(
            "{file} has no [chrome.snapshot] file; add one, or give --file FILE"
        )));
    };
    let progress = Progress::start(|| "harvesting from Chromium".into());
    let harvested = runtime()?.block_on(witgate_chrome::snapshot::take(&config));
    drop(progress);
    let harvested = harvested.map_err(|error| {
        Ended::because(format!(
            "harvest failed, {} is as it was: {error}",
            config.file.display()
        ))
    })?;
    output::line(format_args!(
        "{}: {} cookies, {} origins with {} items of localStorage, {} databases of IndexedDB and {} files, {} bytes, \
         in {:.1} s",
        config.file.display(),
        harvested.cookies,
        harvested.origins,
        harvested.items,
        harvested.databases,
        harvested.files,
        harvested.bytes,
        harvested.duration.as_secs_f64(),
    ))?;
    if harvested.from_disk > 0 {
        output::line(format_args!(
            "read from the disk, where localStorage is some seconds older: {} origins (their pages would not open)",
            harvested.from_disk
        ))?;
    }
    if harvested.left_out > 0 {
        output::line(format_args!(
            "left out: {} (the log says what and why)",
            harvested.left_out
        ))?;
    }
    Ok(())
}
