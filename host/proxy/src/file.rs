//! Files that plugins answer with: opened beneath their mount, conditional, by ranges, never torn.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cap_std::fs::{Dir, File, Metadata, OpenOptions, OpenOptionsExt};
use headers::{
    AcceptRanges, Age, ContentLength, ContentRange, ETag, HeaderMapExt, IfMatch, IfModifiedSince,
    IfNoneMatch, IfRange, IfUnmodifiedSince, LastModified,
};
use http::{HeaderMap, Method, Response, StatusCode, header};
use rustix::buffer::spare_capacity;
use rustix::io::pread;
use witgate_runtime::{FileReply, Stale};

use crate::body::Body;
use crate::failure::Failure;

mod cache;

pub(crate) use cache::FileCache;
use cache::Kept;

/// A directory lent to a plugin.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Absolute path under which the plugin knows it, without a slash at the end.
    pub(crate) path: Box<str>,
    pub(crate) directory: Dir,
}

/// Up to this size a file is read whole before the first byte is sent, and read again if it changed meanwhile.
const WHOLE: u64 = 1 << 20;
/// How often a file that keeps changing is read again.
const ATTEMPTS: usize = 3;
/// `open(2)`: do not wait for the other end of a pipe.
const O_NONBLOCK: i32 = 0o4000;
/// How much of a larger file is read at once.
const CHUNK: usize = 64 * 1024;

/// Answers with a file. One that is written in place while it is read is read again.
///
/// # Errors
///
/// The plugin's fault (500): a path outside its mounts, or no regular file. The host's: a file that cannot be read
/// (500) or changes each time it is read (503).
pub(crate) fn serve(
    mounts: &[Mount],
    cache: &FileCache,
    reply: &FileReply,
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
) -> Result<Response<Body>, Failure> {
    let Some(stale) = &reply.stale else {
        return serve_unchanging(mounts, cache, reply, method, request, status);
    };
    let age = age(mounts, &stale.of)?;
    let fresh = age.is_some_and(|age| age <= stale.after);
    let status = if fresh { status } else { stale.status };
    let mut response = serve_unchanging(mounts, cache, reply, method, request, status)?;
    if let Some(age) = age {
        response
            .headers_mut()
            .typed_insert(Age::from_secs(age.as_secs()));
    }
    Ok(response)
}

/// How long ago a file was modified; zero if that lies ahead, `None` if there is no such file.
fn age(mounts: &[Mount], path: &str) -> Result<Option<Duration>, Failure> {
    let (mount, relative) = beneath(mounts, path)?;
    let Some((_, version)) = open(mount, relative, path)? else {
        return Ok(None);
    };
    let age = SystemTime::now().duration_since(version.modified());
    Ok(Some(age.unwrap_or_default()))
}

fn serve_unchanging(
    mounts: &[Mount],
    cache: &FileCache,
    reply: &FileReply,
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
) -> Result<Response<Body>, Failure> {
    for _ in 1..ATTEMPTS {
        match serve_once(mounts, cache, reply, method, request, status) {
            Err(failure) if failure.status == StatusCode::SERVICE_UNAVAILABLE => {}
            done => return done,
        }
    }
    serve_once(mounts, cache, reply, method, request, status)
}

fn serve_once(
    mounts: &[Mount],
    cache: &FileCache,
    reply: &FileReply,
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
) -> Result<Response<Body>, Failure> {
    let (mount, relative) = beneath(mounts, &reply.path)?;
    let source = match cache.get(mount, relative, &reply.path) {
        Some(kept) => Source::Kept(kept),
        None => match open(mount, relative, &reply.path)? {
            Some((file, version)) => Source::Opened(file, version),
            None => return Ok(not_found(reply)),
        },
    };
    let version = source.version();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let plain = status != StatusCode::OK;
    if !plain {
        source.describe(response.headers_mut());
        if let Some(status) = precondition(version, method, request) {
            *response.status_mut() = status;
            return Ok(response);
        }
    }
    let span = match plain || *method != Method::GET {
        true => Span::Whole,
        false => span(version, request),
    };
    let (start, end) = match span {
        Span::Whole => (0, version.size),
        Span::Part(start, end) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response.headers_mut().typed_insert(
                ContentRange::bytes(start..end, version.size)
                    .expect("the span lies within the file"),
            );
            (start, end)
        }
        Span::Nowhere => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            response
                .headers_mut()
                .typed_insert(ContentRange::unsatisfied_bytes(version.size));
            return Ok(response);
        }
    };
    response
        .headers_mut()
        .typed_insert(ContentLength(end - start));
    if *method != Method::HEAD {
        *response.body_mut() = match source {
            Source::Kept(kept) => Body::full(kept.bytes.slice(start as usize..end as usize)),
            Source::Opened(file, version) => {
                let keep = |bytes: &Bytes| cache.put(mount, relative, &reply.path, &version, bytes);
                read(file, &version, start, end, keep).map_err(|e| unreadable(&reply.path, &e))?
            }
        };
    }
    Ok(response)
}

/// Where the bytes come from.
enum Source {
    Kept(Rc<Kept>),
    Opened(File, Version),
}

impl Source {
    fn version(&self) -> &Version {
        match self {
            Self::Kept(kept) => kept.version(),
            Self::Opened(_, version) => version,
        }
    }

    fn describe(&self, headers: &mut HeaderMap) {
        match self {
            Self::Kept(kept) => kept.describe(headers),
            Self::Opened(_, version) => version.describe(headers),
        }
    }
}

fn unreadable(path: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::Interrupted => Failure::host(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the file {path:?} changes each time it is read"),
        ),
        _ => Failure::host(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the file {path:?} cannot be read: {error}"),
        ),
    }
}

/// The mount that a path lies in, and what follows its own.
fn beneath<'a>(mounts: &'a [Mount], path: &'a str) -> Result<(&'a Mount, &'a str), Failure> {
    let beneath = |mount: &'a Mount| {
        let rest = path.strip_prefix(&*mount.path)?;
        Some((mount, rest.strip_prefix('/')?))
    };
    mounts.iter().find_map(beneath).ok_or_else(|| {
        Failure::plugin(format!(
            "the file {path:?} is in none of the plugin's mounts; grant its directory with `grant.files`"
        ))
    })
}

/// The file and its state, or `None` when there is none.
fn open(mount: &Mount, relative: &str, path: &str) -> Result<Option<(File, Version)>, Failure> {
    // A pipe without a writer would hold up the worker.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(O_NONBLOCK);
    // `Dir` resolves step by step and refuses to leave the directory, by `..` or by a link.
    let file = match mount.directory.open_with(Path::new(relative), &options) {
        Ok(file) => file,
        Err(error) => return absent(path, &error),
    };
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(Some((file, (&metadata).into()))),
        _ => Err(unreadable(path, &io::Error::other("it is no regular file"))),
    }
}

/// Tells a file that is not there from one that may not be served.
fn absent<T>(path: &str, error: &io::Error) -> Result<Option<T>, Failure> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
        io::ErrorKind::PermissionDenied => Err(Failure::plugin(format!(
            "the file {path:?} leaves its mount or may not be read: {error}"
        ))),
        _ => Err(unreadable(path, error)),
    }
}

fn not_found(reply: &FileReply) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let missing = reply.stale.as_ref().map(|stale: &Stale| stale.status);
    *response.status_mut() = missing.unwrap_or(StatusCode::NOT_FOUND);
    if let Some(not_found) = &reply.not_found {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, not_found.content_type.clone());
        *response.body_mut() = Body::full(not_found.body.clone());
    }
    response
}

/// What tells one state of a file from another. Not the time of the inode's change: a file that was replaced by a
/// rename while it is sent gets another one, and is whole.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Version {
    size: u64,
    inode: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Version {
    fn from(metadata: &Metadata) -> Self {
        use cap_std::fs::MetadataExt as _;
        Self {
            size: metadata.len(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Version {
    fn of(file: &File) -> io::Result<Self> {
        Ok((&file.metadata()?).into())
    }

    fn etag(&self) -> ETag {
        let (seconds, nanos) = self.modified;
        let text = format!("\"{seconds:x}-{nanos:x}-{:x}-{:x}\"", self.inode, self.size);
        text.parse()
            .expect("hex digits and dashes in quotes are an entity tag")
    }

    fn modified(&self) -> SystemTime {
        let seconds = u64::try_from(self.modified.0).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn describe(&self, headers: &mut HeaderMap) {
        headers.typed_insert(self.etag());
        headers.typed_insert(LastModified::from(self.modified()));
        headers.typed_insert(AcceptRanges::bytes());
    }
}

/// RFC 9110 §13.2.2: the status that a failed precondition asks for.
fn precondition(version: &Version, method: &Method, request: &HeaderMap) -> Option<StatusCode> {
    if let Some(if_match) = request.typed_get::<IfMatch>() {
        if !if_match.precondition_passes(&version.etag()) {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
    } else if let Some(since) = request.typed_get::<IfUnmodifiedSince>()
        && !since.precondition_passes(version.modified())
    {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    let safe = matches!(*method, Method::GET | Method::HEAD);
    if let Some(if_none_match) = request.typed_get::<IfNoneMatch>() {
        if !if_none_match.precondition_passes(&version.etag()) {
            return Some(if safe {
                StatusCode::NOT_MODIFIED
            } else {
                StatusCode::PRECONDITION_FAILED
            });
        }
    } else if let Some(since) = request.typed_get::<IfModifiedSince>()
        && safe
        && !since.is_modified(version.modified())
    {
        return Some(StatusCode::NOT_MODIFIED);
    }
    None
}

enum Span {
    Whole,
    /// From, to (exclusive).
    Part(u64, u64),
    Nowhere,
}

/// RFC 9110 §14.2: one range is served; several are answered with the whole, as a server may.
fn span(version: &Version, request: &HeaderMap) -> Span {
    let Some(range) = request
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok())
    else {
        return Span::Whole;
    };
    if let Some(if_range) = request.typed_get::<IfRange>()
        && if_range.is_modified(
            Some(&version.etag()),
            Some(&LastModified::from(version.modified())),
        )
    {
        return Span::Whole;
    }
    one_range(range, version.size).unwrap_or(Span::Whole)
}

/// RFC 9110 §14.1.2, for one range. `None`: several, another unit, or no range by the grammar.
fn one_range(range: &str, size: u64) -> Option<Span> {
    let (first, last) = range.strip_prefix("bytes=")?.trim().split_once('-')?;
    // Digits beyond any file's size are a position beyond it.
    let position = |digits: &str| {
        let legal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        legal.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let (start, end) = match (first, last) {
        ("", suffix) => match position(suffix)? {
            0 => return Some(Span::Nowhere),
            length => (size.saturating_sub(length), size),
        },
        (first, "") => (position(first)?, size),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(size))
        }
    };
    Some(if start < end {
        Span::Part(start, end)
    } else {
        Span::Nowhere
    })
}

/// From the start to the end of a file in this version. What is the whole, and was read at once, is shown to `keep`.
fn read(
    mut file: File,
    version: &Version,
    start: u64,
    end: u64,
    keep: impl FnOnce(&Bytes),
) -> io::Result<Body> {
    let left = end - start;
    if left > WHOLE {
        file.seek(SeekFrom::Start(start))?;
        return Ok(Body::file(FileBody {
            file,
            version: version.clone(),
            left,
        }));
    }
    let length = usize::try_from(left).expect("it is at most `WHOLE`");
    let mut bytes = Vec::with_capacity(length);
    // Most of the time this is one call of the system, which writes where nobody has written before.
    while bytes.len() < length {
        let at = start + bytes.len() as u64;
        if rustix::io::retry_on_intr(|| pread(&file, spare_capacity(&mut bytes), at))? == 0 {
            break;
        }
    }
    bytes.truncate(length);
    if bytes.len() == length && Version::of(&file)? == *version {
        let bytes = Bytes::from(bytes);
        if left == version.size {
            keep(&bytes);
        }
        return Ok(Body::full(bytes));
    }
    Err(io::Error::new(
        io::ErrorKind::Interrupted,
        "it changed while it was read",
    ))
}

/// A large file, read as it is sent. If it changes meanwhile, the body breaks off instead of mixing two versions.
#[derive(Debug)]
pub(crate) struct FileBody {
    file: File,
    version: Version,
    left: u64,
}

impl FileBody {
    /// The next piece.
    pub(crate) fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.left == 0 {
            return None;
        }
        let length = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; length];
        let read = self
            .file
            .read_exact(&mut chunk)
            .and_then(|()| Version::of(&self.file));
        Some(match read {
            Ok(version) if version == self.version => {
                self.left -= length as u64;
                Ok(chunk.into())
            }
            Ok(_) => Err(io::Error::other("the file changed while it was sent")),
            Err(error) => Err(error),
        })
    }

    pub(crate) fn is_end(&self) -> bool {
        self.left == 0
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_served_and_everything_else_is_the_whole() {
        let span = |range: &str| match one_range(range, 100) {
            Some(Span::Part(start, end)) => Some((start, end)),
            Some(Span::Nowhere) => Some((0, 0)),
            Some(Span::Whole) | None => None,
        };
        for (range, expected) in [
            ("bytes=0-9", Some((0, 10))),
            ("bytes=90-", Some((90, 100))),
            ("bytes=-10", Some((90, 100))),
            ("bytes=-1000", Some((0, 100))),
            ("bytes=50-99999999999999999999999", Some((50, 100))),
            ("bytes=100-", Some((0, 0))),
            ("bytes=-0", Some((0, 0))),
            ("bytes=-", None),
            ("bytes=9-0", None),
            ("bytes=0-1,5-6", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("lines=0-9", None),
        ] {
            assert_eq!(span(range), expected, "{range}");
        }
    }
}
