//! `witgate check`: everything that is wrong, and nothing started.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use witgate_proxy::config::Problems;
use witgate_proxy::{Generation, Import, PluginReport, Standing};

use crate::Ended;
use crate::args::{Check, Format};
use crate::load::{self, Files};
use crate::log::color;
use crate::output;

/// Says what is wrong; whether the configuration can be used.
pub(crate) fn check(args: &Check) -> Result<bool, Ended> {
    let checked = examine(&args.config)?;
    match (args.format, checked) {
        (Format::Json, checked) => {
            let (valid, document) = document(&args.config, &checked);
            output::line(document)?;
            Ok(valid)
        }
        (Format::Text, Ok(checked)) => {
            eprint!("{}", checked.warnings.render(color()));
            tell(&checked)?;
            Ok(true)
        }
        (Format::Text, Err(problems)) => Err(load::report(problems)),
    }
}

/// A configuration that can be used.
struct Checked {
    file: String,
    generation: Generation,
    chromium: bool,
    warnings: Problems,
}

/// Builds all of it, and starts nothing.
fn examine(path: &Path) -> Result<Result<Checked, Problems>, Ended> {
    let (loaded, mut warnings) = match load::try_read(path, &mut Files::default()) {
        Ok(read) => read,
        Err(problems) => return Ok(Err(problems)),
    };
    if let Some(chrome) = &loaded.chrome
        && let Err(problems) = chrome.check(&loaded.file)
    {
        warnings.append(problems);
        return Ok(Err(warnings));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Ended::because)?;
    let sandbox = load::runtime(&loaded.config.server.code_cache)?;
    let built = runtime.block_on(load::try_build(&sandbox, &loaded.file, loaded.config));
    match built {
        Ok(generation) => {
            warnings.append(generation.warnings().clone());
            Ok(Ok(Checked {
                file: loaded.file,
                generation,
                chromium: loaded.chrome.is_some(),
                warnings,
            }))
        }
        Err(problems) => {
            warnings.append(problems);
            Ok(Err(warnings))
        }
    }
}

fn tell(checked: &Checked) -> Result<(), Ended> {
    let config = checked.generation.config();
    output::line(format_args!(
        "{}: ok ({}, {}, {}, {}{})",
        checked.file,
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.plugins.len(), "plugin"),
        count(config.upstreams.len(), "upstream"),
        if checked.chromium { ", Chromium" } else { "" },
    ))?;
    for plugin in checked.generation.imports() {
        output::print(table(&plugin).map_err(Ended::because)?)?;
    }
    Ok(())
}

/// The same for programs.
fn document(path: &Path, checked: &Result<Checked, Problems>) -> (bool, Value) {
    let (valid, problems, plugins) = match checked {
        Ok(checked) => (true, &checked.warnings, checked.generation.imports()),
        Err(problems) => (false, problems, Vec::new()),
    };
    let mut document = problems.to_json();
    document["file"] = path.display().to_string().into();
    document["valid"] = valid.into();
    document["plugins"] = plugins.iter().map(plugin_document).collect();
    (valid, document)
}

fn plugin_document(report: &PluginReport) -> Value {
    let imports = report.imports.iter().map(|import| {
        let (standing, grant) = match import.standing {
            Standing::Free => ("free", None),
            Standing::Granted(key) => ("granted", Some(key)),
            Standing::Missing(key) => ("missing", Some(key)),
            Standing::Refused => ("refused", None),
        };
        json!({"name": import.name, "standing": standing, "grant": grant})
    });
    json!({
        "name": &*report.plugin,
        "component": report.component,
        "hooks": report.hooks,
        "imports": imports.collect::<Vec<_>>(),
    })
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
