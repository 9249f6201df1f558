//! `witgate check`: everything that is wrong, and nothing started.

use std::fmt::Write as _;

use witgate_proxy::{Import, PluginReport, Standing};

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
    for plugin in generation.imports() {
        print!("{}", table(&plugin).map_err(Ended::because)?);
    }
    Ok(())
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What a plugin's component exports and imports, and what it is granted: a line for each import that needs a grant,
/// one line for all others.
fn table(report: &PluginReport) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let hooks = report.hooks.join(", ");
    writeln!(
        text,
        "\nplugin {} ({}): {hooks}",
        report.plugin, report.component
    )?;
    let (free, needy): (Vec<&Import>, Vec<_>) =
        (report.imports.iter()).partition(|import| import.standing == Standing::Free);
    let width = needy.iter().map(|import| import.name.len()).max();
    for import in needy {
        let width = width.unwrap_or_default();
        let standing = match import.standing {
            Standing::Free => continue,
            Standing::Granted(key) => format!("grant.{key:<16} granted"),
            Standing::Missing(key) => format!("grant.{key:<16} not granted"),
            Standing::Refused => format!("{:<22} never granted", "-"),
        };
        writeln!(text, "  {:<width$}  {standing}", import.name)?;
    }
    if !free.is_empty() {
        writeln!(
            text,
            "  without a grant: {}",
            packages(free.iter().map(|import| &*import.name))
        )?;
    }
    Ok(text)
}

/// `witgate:plugin (exchange, log), wasi:io (poll, streams)`
pub(crate) fn packages<'a>(imports: impl Iterator<Item = &'a str>) -> String {
    let mut packages: Vec<(&str, Vec<&str>)> = Vec::new();
    for import in imports {
        let name = import.split_once('@').map_or(import, |(name, _)| name);
        let (package, interface) = name.split_once('/').unwrap_or((name, ""));
        match packages.iter_mut().find(|(other, _)| *other == package) {
            Some((_, interfaces)) => interfaces.push(interface),
            None => packages.push((package, vec![interface])),
        }
    }
    let packages = packages.iter();
    let shown: Vec<_> = packages
        .map(|(package, interfaces)| format!("{package} ({})", interfaces.join(", ")))
        .collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_that_need_a_grant_stand_beside_it_and_the_others_together() {
        let import = |name: &str, standing| Import {
            name: name.into(),
            standing,
        };
        let report = PluginReport {
            plugin: "p".into(),
            component: "p.wasm".into(),
            hooks: vec!["request-hook".into(), "response-hook".into()],
            imports: vec![
                import("wasi:cli/environment@0.2.6", Standing::Missing("wasi.env")),
                import("wasi:io/poll@0.2.6", Standing::Free),
                import("wasi:sockets/tcp@0.2.6", Standing::Refused),
                import("witgate:plugin/exchange@0.1.0", Standing::Free),
                import(
                    "witgate:plugin/http-client@0.1.0",
                    Standing::Granted("http-client"),
                ),
                import("witgate:plugin/log@0.1.0", Standing::Free),
            ],
        };
        let expected = "
plugin p (p.wasm): request-hook, response-hook
  wasi:cli/environment@0.2.6        grant.wasi.env         not granted
  wasi:sockets/tcp@0.2.6            -                      never granted
  witgate:plugin/http-client@0.1.0  grant.http-client      granted
  without a grant: wasi:io (poll), witgate:plugin (exchange, log)
";
        assert_eq!(table(&report).expect("text is written"), expected);
    }
}
