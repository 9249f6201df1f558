//! Reads `grant.metrics`.

use super::Section;
use super::model::CustomMetricsGrant;
use super::shape::integer;

/// 100: a few metrics with a few labels each; every series is kept and scraped for as long as the process runs.
pub(super) fn read(section: &mut Section<'_>) -> Option<CustomMetricsGrant> {
    let series = section.default("series", 100, integer(1..=10_000));
    Some(CustomMetricsGrant { series })
}
