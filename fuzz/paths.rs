//! See `witgate_proxy::fuzzing::paths`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| witgate_proxy::fuzzing::paths(data));
