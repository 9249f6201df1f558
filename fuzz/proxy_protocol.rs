//! See `witgate_proxy::fuzzing::proxy_protocol`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| witgate_proxy::fuzzing::proxy_protocol(data));
