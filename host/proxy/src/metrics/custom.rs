//! What plugins count themselves, as OpenMetrics text.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use witgate_runtime::{CustomSeries, CustomValue};

/// The series are sorted by name, and those of one name have one kind.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    series: &[CustomSeries],
) -> Result<(), fmt::Error> {
    for family in series.chunk_by(|one, other| one.name == other.name) {
        let name = format!("witgate_plugin_custom_{}", family[0].name);
        let kind = match family[0].value {
            CustomValue::Counter(_) => MetricType::Counter,
            CustomValue::Gauge(_) => MetricType::Gauge,
            CustomValue::Histogram { .. } => MetricType::Histogram,
        };
        let mut encoded = encoder.encode_descriptor(&name, "Counted by plugins", None, kind)?;
        for one in family {
            let labels = one.labels.iter().map(|(name, value)| (&**name, &**value));
            let labels: Vec<_> = [("plugin", &*one.plugin)]
                .into_iter()
                .chain(labels)
                .collect();
            let labels = labels.as_slice();
            let mut encoded = encoded.encode_family(&labels)?;
            match &one.value {
                CustomValue::Counter(count) => {
                    encoded.encode_counter::<NoLabelSet, _, u64>(count, None)?;
                }
                CustomValue::Gauge(value) => encoded.encode_gauge(value)?,
                CustomValue::Histogram { buckets, sum } => {
                    let count = buckets.iter().map(|(_, count)| count).sum();
                    encoded.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
                }
            }
        }
    }
    Ok(())
}
