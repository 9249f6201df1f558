//! `witgate plugin new`: a project that builds and passes its tests at once.

use std::fs;
use std::path::{Path, PathBuf};

use super::args::{Hook, Language, New};
use super::template::Filling;
use crate::Ended;
use crate::output;

/// The files of `wit/`, by name.
const CONTRACT: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/contract.rs"));

/// The package `witgate-plugin`, by path.
const SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// The versions that this witgate's own plugins are built with. cargo drops what a project does not need.
const LOCK: &str = include!(concat!(env!("OUT_DIR"), "/Cargo.lock.rs"));

/// Names and templates of the files that are a language's own.
const RUST: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("templates/rust/Cargo.toml.in")),
    ("src/lib.rs", include_str!("templates/rust/lib.rs.in")),
    (".gitignore", include_str!("templates/rust/gitignore")),
    ("README.md", include_str!("templates/rust/README.md.in")),
];
const JAVASCRIPT: &[(&str, &str)] = &[
    (
        "package.json",
        include_str!("templates/javascript/package.json.in"),
    ),
    (
        "plugin.js",
        include_str!("templates/javascript/plugin.js.in"),
    ),
    (".gitignore", include_str!("templates/javascript/gitignore")),
    (
        "README.md",
        include_str!("templates/javascript/README.md.in"),
    ),
];
const PYTHON: &[(&str, &str)] = &[
    (
        "pyproject.toml",
        include_str!("templates/python/pyproject.toml.in"),
    ),
    (
        "requirements.txt",
        include_str!("templates/python/requirements.txt"),
    ),
    ("plugin.py", include_str!("templates/python/plugin.py.in")),
    (".gitignore", include_str!("templates/python/gitignore")),
    ("README.md", include_str!("templates/python/README.md.in")),
];
/// Those of all languages.
const COMMON: &[(&str, &str)] = &[
    (
        "tests/my-plugin.test.toml",
        include_str!("templates/test.toml.in"),
    ),
    ("witgate.toml", include_str!("templates/witgate.toml.in")),
];
/// The project's own WIT package, for languages that build against the contract itself.
const WORLD: (&str, &str) = ("wit/world.wit", include_str!("templates/world.wit.in"));

pub(crate) fn new(args: &New) -> Result<(), Ended> {
    check_name(&args.name)?;
    let directory = args
        .dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(&args.name));
    if fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Ended::because(format!(
            "{} is there already and not empty; choose another name, or another place with `--dir`",
            directory.display()
        )));
    }
    if args.sdk.is_some() && args.lang != Language::Rust {
        return Err(Ended::because("`--sdk` is for projects in Rust"));
    }
    let mut hooks = args.hooks.clone();
    hooks.sort_by_key(|hook| *hook as u8);
    hooks.dedup();
    for (name, text) in files(args, &hooks)? {
        write(&directory.join(name), &text)?;
    }
    output::line(next_steps(args, &directory))
}

/// The name becomes that of a crate, a package, a module, a file and a WIT package.
fn check_name(name: &str) -> Result<(), Ended> {
    let words = name.split('-');
    let is_word = |word: &str| {
        let mut letters = word.bytes();
        letters
            .next()
            .is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let reserved = ["plugin", "witgate-plugin", "test", "core", "std", "alloc"];
    if words.clone().all(is_word) && name.len() <= 64 && !reserved.contains(&name) {
        return Ok(());
    }
    let help = match reserved.contains(&name) {
        true => "toolchains have something else of that name",
        false => {
            "a name is made of words of lower-case letters and digits, joined by `-`, as in `edge-greeter`"
        }
    };
    Err(Ended::because(format!(
        "{name:?} cannot be the plugin's name: {help}"
    )))
}

/// Every file of the project, by its path.
fn files(args: &New, hooks: &[Hook]) -> Result<Vec<(String, String)>, Ended> {
    let filling = Filling {
        name: &args.name,
        hooks,
    };
    let own = match args.lang {
        Language::Rust => RUST,
        Language::Js => JAVASCRIPT,
        Language::Python => PYTHON,
    };
    let mut files: Vec<(String, String)> = own
        .iter()
        .chain(COMMON)
        .map(|(name, template)| (filling.fill(name).trim_end().into(), filling.fill(template)))
        .collect();
    let copied =
        |(name, text): &(&str, &str), below: &str| (format!("{below}/{name}"), (*text).into());
    match (args.lang, &args.sdk) {
        (Language::Rust, None) => {
            files.extend(SDK.iter().map(|file| copied(file, "witgate")));
            files.extend(CONTRACT.iter().map(|file| copied(file, "witgate/wit")));
            files.push(("Cargo.lock".into(), LOCK.into()));
        }
        (Language::Rust, Some(sdk)) => {
            let sdk = sdk.canonicalize().map_err(|error| {
                Ended::because(format!("there is no SDK at {}: {error}", sdk.display()))
            })?;
            // The manifest is the first of a language's own files.
            let own = format!("path = {sdk:?}");
            files[0].1 = files[0].1.replace("path = \"witgate\"", &own);
        }
        (Language::Js | Language::Python, _) => {
            let below = "wit/deps/witgate-plugin";
            files.extend(CONTRACT.iter().map(|file| copied(file, below)));
            files.push((WORLD.0.into(), filling.fill(WORLD.1)));
        }
    }
    Ok(files)
}

fn write(path: &Path, text: &str) -> Result<(), Ended> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| Ended::because(format!("cannot write {}: {error}", path.display())))
}

fn next_steps(args: &New, directory: &Path) -> String {
    let (install, installed) = match args.lang {
        Language::Rust => ("  rustup target add wasm32-unknown-unknown\n", ""),
        Language::Js => ("", ", after installing jco into node_modules"),
        Language::Python => ("", ", after installing componentize-py into .venv"),
    };
    format!(
        "{directory} is a plugin. Next:\n\n  cd {directory}\n{install}  witgate plugin build\n  witgate plugin test\n\n\
         `build` makes {name}.wasm{installed}. Then `witgate plugin run` serves it, and builds it anew whenever you change it.",
        directory = directory.display(),
        name = args.name
    )
}
