//! `witgate snapshot pull`: a dev box's refresh of its storage state.

use std::io::Read as _;
use std::path::Path;

use ureq::http::header;
use witgate_chrome::{StorageState, write_atomically};

use crate::Ended;
use crate::args::{Pull, Token};

/// Largest snapshot taken, in bytes. Hundreds of sign-ins make a few MiB.
const MAX_SNAPSHOT: u64 = 256 << 20;

pub(crate) fn pull(args: &Pull) -> Result<(), Ended> {
    let token = token(&args.token)?;
    let failed = |reason: String| {
        Ended::because(format!(
            "{}: {reason}; {} is as it was",
            args.url,
            args.file.display()
        ))
    };
    let bytes = fetch(args, &token).map_err(failed)?;
    let state = StorageState::parse(&bytes)
        .map_err(|error| failed(format!("this is no storageState: {error}")))?;
    check_directory(&args.file).map_err(failed)?;
    write_atomically(&args.file, &bytes).map_err(|error| failed(error.to_string()))?;
    println!(
        "{}: {} cookies, {} origins, {} bytes",
        args.file.display(),
        state.cookies.len(),
        state.origins.len(),
        bytes.len(),
    );
    Ok(())
}

fn token(from: &Token) -> Result<String, Ended> {
    let (token, place) = match (&from.token_file, &from.token_env) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Ended::because(format!("--token-file {}: {error}", file.display()))
            })?;
            (
                text.trim_end().to_owned(),
                format!("--token-file {}", file.display()),
            )
        }
        (None, Some(name)) => {
            let text = std::env::var(name)
                .map_err(|error| Ended::because(format!("--token-env {name}: {error}")))?;
            (text, format!("--token-env {name}"))
        }
        (None, None) => {
            return Err(Ended::because(
                "give the token by --token-file or --token-env",
            ));
        }
    };
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Ended::because(format!(
            "{place}: a token is one or more visible ASCII characters, without spaces"
        )));
    }
    Ok(token)
}

fn fetch(args: &Pull, token: &str) -> Result<Vec<u8>, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(args.timeout))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("witgate/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let request = agent
        .get(&args.url)
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    let mut response = request.call().map_err(|error| error.to_string())?;
    let status = response.status();
    if status != 200 {
        let told = told(response.body_mut());
        return Err(format!("the server answers {status}{told}"));
    }
    let mut bytes = Vec::new();
    let mut body = response.body_mut().as_reader().take(MAX_SNAPSHOT + 1);
    body.read_to_end(&mut bytes)
        .map_err(|error| format!("the answer breaks off: {error}"))?;
    if bytes.len() as u64 > MAX_SNAPSHOT {
        return Err(format!("the answer is over {MAX_SNAPSHOT} bytes"));
    }
    Ok(bytes)
}

/// The beginning of what the server says about its refusal.
fn told(body: &mut ureq::Body) -> String {
    let mut text = String::new();
    match body.as_reader().take(200).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!(": {}", text.trim().escape_debug()),
        _ => String::new(),
    }
}

/// The file's directory is the user's to make: a mistyped path should not become a new directory.
fn check_directory(file: &Path) -> Result<(), String> {
    let parent = file
        .parent()
        .filter(|parent| *parent != Path::new(""))
        .unwrap_or(Path::new("."));
    if parent.is_dir() {
        Ok(())
    } else {
        Err(format!("{} is no directory", parent.display()))
    }
}
