//! See `witgate_proxy::fuzzing::http2_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| witgate_proxy::fuzzing::http2_head(data));
