//! The same metrics for scrapers that do not speak OpenMetrics: the text format of Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
//!
//! Both formats spell series alike, and differ in what they say about them: here a counter is called as its series are,
//! information is a gauge, and there are neither units nor an end.

/// Rewrites what the encoder of OpenMetrics wrote.
pub(crate) fn of(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            help = about.split_once(' ');
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|about| about.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take() {
                text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_counter_is_called_as_its_series_and_information_is_a_gauge() {
        let open_metrics = "# HELP a_seconds How long.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
             a_seconds_total{b=\"# EOF\"} 1\n# HELP c What.\n# TYPE c info\nc_info{v=\"1\"} 1\n# HELP d D.\n# TYPE d gauge\nd 2\n# EOF\n";
        let expected = "# HELP a_seconds_total How long.\n# TYPE a_seconds_total counter\na_seconds_total{b=\"# EOF\"} 1\n\
             # HELP c_info What.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n# HELP d D.\n# TYPE d gauge\nd 2\n";
        assert_eq!(of(open_metrics), expected);
    }
}
