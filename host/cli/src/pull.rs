//! `witgate snapshot pull`: a dev box's refresh of its storage state.

use std::io::Read as _;
use std::path::Path;

use ureq::http::header;
use witgate_chrome::{StorageState, write_atomically};

use crate::Ended;
use crate::args::{Pull, Token};
use crate::output;
use crate::snapshot::open;
use crate::validator::Validator;

pub(crate) fn pull(args: &Pull) -> Result<(), Ended> {
    let token = token(&args.token)?;
    let failed = |reason: String| {
        Ended::because(format!(
            "{}: {reason}; {} is as it was",
            args.url,
            args.file.display()
        ))
    };
    check_directory(&args.file).map_err(failed)?;
    let known = Validator::known(&args.url, &args.file);
    let (bytes, etag) = match fetch(args, &token, known.as_ref()).map_err(failed)? {
        Answer::Unchanged => {
            output::line(format_args!("{}: unchanged", args.file.display()))?;
            return Ok(());
        }
        Answer::Snapshot { bytes, etag } => (bytes, etag),
    };
    let bytes = open(bytes, &args.identity, args.max_size << 20).map_err(failed)?;
    let state = StorageState::parse(&bytes)
        .map_err(|error| failed(format!("this is no storageState: {error}")))?;
    write_atomically(&args.file, &bytes).map_err(|error| failed(error.to_string()))?;
    if let Some(etag) = etag {
        Validator::new(&args.url, etag, &bytes).keep(&args.file);
    }
    output::line(format_args!(
        "{}: {} cookies, {} origins, {} bytes",
        args.file.display(),
        state.cookies.len(),
        state.origins.len(),
        bytes.len(),
    ))?;
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

enum Answer {
    /// The server has what the file holds.
    Unchanged,
    Snapshot {
        bytes: Vec<u8>,
        etag: Option<String>,
    },
}

fn fetch(args: &Pull, token: &str, known: Option<&Validator>) -> Result<Answer, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(args.timeout))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("witgate/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut request = agent
        .get(&args.url)
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    if let Some(known) = known {
        request = request.header(header::IF_NONE_MATCH, known.etag());
    }
    let mut response = request.call().map_err(|error| error.to_string())?;
    let status = response.status();
    if status == 304 && known.is_some() {
        return Ok(Answer::Unchanged);
    }
    if status.is_redirection() && status != 304 {
        return Err(format!(
            "the server answers {status}, and redirects are not followed; give the address it leads to"
        ));
    }
    if status != 200 {
        let told = told(response.body_mut());
        return Err(format!("the server answers {status}{told}"));
    }
    let etag = response
        .headers()
        .get(header::ETAG)
        .and_then(|etag| Some(etag.to_str().ok()?.to_owned()));
    let limit = args.max_size << 20;
    let mut bytes = Vec::new();
    let mut body = response.body_mut().as_reader().take(limit + 1);
    body.read_to_end(&mut bytes)
        .map_err(|error| format!("the answer breaks off: {error}"))?;
    if bytes.len() as u64 > limit {
        let limit = args.max_size;
        return Err(format!(
            "the answer is over {limit} MiB; --max-size raises the limit"
        ));
    }
    Ok(Answer::Snapshot { bytes, etag })
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
