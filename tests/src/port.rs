//! Ports for programs that cannot bind port 0 and say which one they got, as Chromium's debugging port.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below Linux' ephemeral ports (from 32768): the kernel gives none of these to a connection or to a bind of port 0,
/// so none is lost between being chosen here and being bound by whoever it is for.
const RANGE: Range<u16> = 10_000..32_000;

/// How many ports one test process has before it meets those of the next process id.
const PER_PROCESS: u32 = 200;

static CHOSEN: AtomicU32 = AtomicU32::new(0);

/// A port of 127.0.0.1 that nobody listens on, and that no other call gives.
///
/// # Panics
///
/// When none is left.
#[must_use]
#[track_caller]
pub fn unused() -> u16 {
    let size = u32::from(RANGE.end - RANGE.start);
    let first = process::id().wrapping_mul(PER_PROCESS) % size;
    for _ in 0..size {
        let offset = (first + CHOSEN.fetch_add(1, Ordering::Relaxed)) % size;
        let port = RANGE.start + u16::try_from(offset).expect("below the size of a range of u16");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("every port of {RANGE:?} is taken");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_port_is_given_twice_and_none_is_ephemeral() {
        let ports = [unused(), unused(), unused()];
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2]);
        let ephemeral = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let lowest: u16 = ephemeral
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            ports.iter().all(|port| *port < lowest),
            "{ports:?} {lowest}"
        );
    }
}
