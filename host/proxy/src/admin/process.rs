//! What is known of the process itself, by the names that other programs have for it
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).

use std::fmt;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

#[derive(Debug)]
pub(super) struct Process {
    pub(super) version: &'static str,
    pub(super) started: SystemTime,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "The version that runs";
        encoder
            .encode_descriptor("witgate_build", help, None, MetricType::Info)?
            .encode_info(&[("version", self.version)])?;
        let since = self.started.duration_since(SystemTime::UNIX_EPOCH);
        let started = since.unwrap_or_default().as_secs_f64();
        let help = "When the process started, in seconds since 1970";
        gauge(
            &mut encoder,
            "process_start_time",
            help,
            Some(&Unit::Seconds),
            started,
        )?;
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
        let help = "Time of processors that the process has used";
        encoder
            .encode_descriptor(
                "process_cpu",
                help,
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, _, u64>(&used, None)?;
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            let help = "File descriptors that the process may have open";
            gauge(&mut encoder, "process_max_fds", help, None, limit as f64)?;
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            let help = "File descriptors that the process has open";
            // One is that of the directory.
            let open = open.count().saturating_sub(1);
            gauge(&mut encoder, "process_open_fds", help, None, open as f64)?;
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let figures = [
            (
                "VmRSS:",
                "process_resident_memory",
                "Memory that the process occupies",
                Some(&Unit::Bytes),
            ),
            (
                "VmSize:",
                "process_virtual_memory",
                "Memory that the process has mapped",
                Some(&Unit::Bytes),
            ),
            (
                "Threads:",
                "process_threads",
                "Threads of the process",
                None,
            ),
        ];
        for (key, name, help, unit) in figures {
            if let Some(figure) = figure(&status, key) {
                gauge(&mut encoder, name, help, unit, figure)?;
            }
        }
        Ok(())
    }
}

/// A number of `/proc/self/status`, in bytes where it says kB.
fn figure(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let mut words = line.split_ascii_whitespace();
    let number: f64 = words.next()?.parse().ok()?;
    Some(match words.next() {
        Some("kB") => number * 1024.0,
        _ => number,
    })
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> Result<(), fmt::Error> {
    encoder
        .encode_descriptor(name, help, unit, MetricType::Gauge)?
        .encode_gauge(&value)
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn a_figure_of_the_kernel_is_in_bytes() {
        let status = "Name:\ta\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        assert_eq!(figure(status, "VmRSS:"), Some(1_048_576.0));
        assert_eq!(figure(status, "Threads:"), Some(3.0));
        assert_eq!(figure(status, "VmSize:"), None);
    }
}
