//! See `witgate_proxy::fuzzing::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| witgate_proxy::fuzzing::config(data));
