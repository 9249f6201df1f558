//! What has to hold for any bytes whatever. Each function panics where it does not.
//!
//! `make fuzz` calls them with what libFuzzer makes up; the unit tests, with the bytes under `fuzz/seeds`, among which is
//! whatever a fuzzer once broke one of them with.

use std::ops::Range;

mod spelling;

pub use crate::config::fuzzed::config;
pub use crate::connection::http2_head::fuzzed::http2_head;
pub use crate::connection::proxy_protocol::fuzzed::proxy_protocol;
pub use crate::framing::fuzzed::framing;
pub use crate::tunnel::fuzzed::frames;
pub use spelling::paths;

/// Cuts `bytes` into pieces, as a network might: the first four bytes say how, and are not part of the pieces.
pub(crate) fn pieces(data: &[u8]) -> Option<(&[u8], Vec<Range<usize>>)> {
    let (seed, bytes) = data.split_first_chunk()?;
    let mut state = u32::from_le_bytes(*seed);
    let mut pieces = Vec::new();
    let mut from = 0;
    while from < bytes.len() {
        // A linear congruential generator; 0 gives one piece.
        state = state
            .wrapping_mul(1_664_525)
            .wrapping_add(u32::from(state > 0) * 1_013_904_223);
        let size = match state {
            0 => bytes.len(),
            _ => 1 + (state >> 8) as usize % (1 << (state >> 29)),
        };
        let to = bytes.len().min(from + size);
        pieces.push(from..to);
        from = to;
    }
    Some((bytes, pieces))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// The files of a target's directory, each in one piece and in several.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        let files = fs::read_dir(root.join(target)).expect("the target has seeds");
        let read = |file: std::io::Result<fs::DirEntry>| {
            fs::read(file.expect("a directory entry").path()).expect("a seed can be read")
        };
        files.map(read).collect()
    }

    #[test]
    fn requests_have_one_reading() {
        seeds("framing")
            .iter()
            .for_each(|seed| super::framing(seed));
    }

    #[test]
    fn paths_have_one_spelling_and_one_route() {
        seeds("paths").iter().for_each(|seed| super::paths(seed));
    }

    #[test]
    fn configurations_are_read_or_reported() {
        seeds("config").iter().for_each(|seed| super::config(seed));
    }

    #[test]
    fn heads_of_http2_are_one_message_of_http1() {
        let seeds = seeds("http2-head");
        seeds.iter().for_each(|seed| super::http2_head(seed));
    }

    #[test]
    fn a_proxy_header_names_whom_it_says_and_takes_nothing_of_what_follows() {
        let seeds = seeds("proxy-protocol");
        seeds.iter().for_each(|seed| super::proxy_protocol(seed));
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        seeds("frames").iter().for_each(|seed| super::frames(seed));
    }
}
