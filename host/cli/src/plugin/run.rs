//! `witgate plugin run`: a proxy with just this plugin before an upstream in the same process, and a build for every change.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;
use witgate_proxy::Inherited;

use super::project::Project;
use super::{args, build};
use crate::watch::Watch;
use crate::{Ended, args as command_line, demo, load, log, run as proxy};

pub(crate) fn run(args: &args::Run) -> Result<(), Ended> {
    let _flushes_the_log = log::start(&args.log)?;
    let project = Project::find(&args.project)?;
    // Before the first build, so that what is changed meanwhile is built as well.
    let watch = Watch::new(watched(&project)?);
    build::build_project(&project)?;
    proxy::runtime()?.block_on(serve(args, project, watch))
}

async fn serve(args: &args::Run, project: Project, watch: Watch) -> Result<(), Ended> {
    let upstream = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(Ended::because)?;
    let address = upstream.local_addr().map_err(Ended::because)?;
    tokio::spawn(demo::echo(upstream));
    let scratch = tempfile::tempdir().map_err(Ended::because)?;
    let file = scratch.path().join("witgate.toml");
    let text = configuration(args, &project, &address.to_string())?;
    std::fs::write(&file, text).map_err(Ended::because)?;
    let loaded = load::read(&file)?;
    let builds = tokio::spawn(rebuild(project, watch));
    let run = command_line::Run {
        config: file,
        watch: false,
        log: command_line::Log {
            log_format: args.log.log_format,
            log_level: args.log.log_level.clone(),
        },
    };
    let served = proxy::serve(&run, loaded, Inherited::default(), None).await;
    builds.abort();
    served
}

/// What is served. The component is taken up anew whenever its file changes.
fn configuration(args: &args::Run, project: &Project, upstream: &str) -> Result<String, Ended> {
    let component = std::path::absolute(project.component()).map_err(Ended::because)?;
    let name = &project.name;
    let mut text = format!(
        "[server]\nworkers = 1\nshutdown-grace = \"1s\"\n\n\
         [[listener]]\nname = \"main\"\nbind = {:?}\n\n\
         [[route]]\nplugins = [{name:?}]\nupstream = \"echo\"\n\n\
         [upstream.echo]\nendpoints = [\"http://{upstream}\"]\n\n\
         [plugin.{name}]\ncomponent = {:?}\nwatch = true\n",
        args.bind,
        component.display().to_string()
    );
    let tables = [("config", &args.config), ("grant", &args.grant)];
    for (table, lines) in tables.iter().filter(|(_, lines)| !lines.is_empty()) {
        write!(text, "\n[plugin.{name}.{table}]\n{}\n", lines.join("\n"))
            .map_err(Ended::because)?;
    }
    Ok(text)
}

/// The sources, and the directories that they are in, where one may be added. Not the project's own: the component is
/// written there.
fn watched(project: &Project) -> Result<Vec<PathBuf>, Ended> {
    let sources = project.sources().map_err(Ended::because)?;
    let mut directories: Vec<_> = sources
        .iter()
        .filter_map(|source| source.parent())
        .filter(|directory| *directory != project.directory)
        .map(Path::to_owned)
        .collect();
    directories.dedup();
    Ok(sources.into_iter().chain(directories).collect())
}

/// Builds on every change of a source, once for all that change together. What a build writes is no source, so one that
/// fails is not tried again before something is changed.
async fn rebuild(project: Project, mut watch: Watch) {
    loop {
        watch.changed().await;
        match watched(&project) {
            Ok(files) => watch.set_files(files),
            Err(error) => eprintln!("{error}"),
        }
        watch.about_to_read();
        let building = project.clone();
        let built = tokio::task::spawn_blocking(move || build::build_project(&building)).await;
        match built {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("{error}\nthe component before it goes on serving"),
            Err(error) => tracing::error!(%error, "a build was given up"),
        }
    }
}
