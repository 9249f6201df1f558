//! Numbers that plugins count themselves.
//!
//! An instance counts in cells of its own, which nobody else writes to, so that counting takes no lock and moves no line
//! of cache between workers. Whoever shows the numbers adds the cells up; what an instance counted stays when it has gone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::{Result, bail};

use crate::bindings::metrics::{Error, Host, Kind, Label};
use crate::instance::State;

/// Longest name of a metric or label, in bytes.
const MAX_NAME: usize = 64;

/// Longest value of a label, in bytes.
const MAX_LABEL_VALUE: usize = 128;

/// Labels of one series.
const MAX_LABELS: usize = 8;

/// Bounds of one histogram.
const MAX_BOUNDS: usize = 20;

/// How the series of a kind end; a metric whose name did would be taken for one of another's.
const ENDINGS: [&str; 6] = ["_total", "_sum", "_count", "_bucket", "_created", "_info"];

/// Labels that are the host's and the format's.
const TAKEN_LABELS: [&str; 2] = ["plugin", "le"];

type Labels = Vec<(Box<str>, Box<str>)>;

/// What all plugins of a process count. Shared by all workers, and by the configurations that follow one another.
#[derive(Debug, Default)]
pub struct CustomMetrics(Mutex<BTreeMap<Box<str>, Family>>);

/// The series of one name. They have one kind: the text format wants it so.
#[derive(Debug)]
struct Family {
    shape: Shape,
    series: BTreeMap<(Arc<str>, Labels), Series>,
}

impl Family {
    /// Whether no other plugin counts by this name.
    fn is_of(&self, plugin: &Arc<str>) -> bool {
        self.series.keys().all(|(owner, _)| owner == plugin)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Counter,
    Gauge,
    Histogram(Arc<[f64]>),
}

/// One series: the cells of the instances that count it, and what those came to that have gone.
#[derive(Debug)]
struct Series {
    live: Vec<Arc<Cell>>,
    ended: Total,
}

/// What one instance counted; of a gauge, the one cell that all have.
#[derive(Debug)]
enum Cell {
    Counter(AtomicU64),
    /// The bits of a float.
    Gauge(AtomicU64),
    Histogram {
        bounds: Arc<[f64]>,
        /// One more than there are bounds.
        buckets: Box<[AtomicU64]>,
        /// The bits of a float.
        sum: AtomicU64,
    },
}

#[derive(Debug, Clone, Default)]
struct Total {
    count: u64,
    gauge: f64,
    buckets: Vec<u64>,
    sum: f64,
}

/// One series as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomSeries {
    /// The metric's name, as the plugin declared it.
    pub name: Box<str>,
    /// Who counts.
    pub plugin: Arc<str>,
    /// Names and values, sorted by name.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// The number.
    pub value: CustomValue,
}

/// What a series came to.
#[derive(Debug, Clone, PartialEq)]
pub enum CustomValue {
    /// The sum of what was added.
    Counter(u64),
    /// What it was last set to.
    Gauge(f64),
    /// What was observed.
    Histogram {
        /// Upper bounds, the last one infinite, and how many were in each bucket and in none before.
        buckets: Vec<(f64, u64)>,
        /// Of all values.
        sum: f64,
    },
}

/// `grant.metrics`: leave to count.
#[derive(Debug, Clone)]
pub struct MetricsGrant {
    /// Where to.
    pub metrics: Arc<CustomMetrics>,
    /// Whose series they are.
    pub plugin: Arc<str>,
    /// How many series the plugin may have, over all workers.
    pub series: usize,
}

/// The grant as one instance has it.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    grant: Option<MetricsGrant>,
    /// So that declaring again asks nobody else.
    declared: BTreeMap<(Box<str>, Labels), u32>,
    cells: Vec<Arc<Cell>>,
}

impl CustomMetrics {
    /// All series as they are, sorted by name, then by plugin.
    pub fn series(&self) -> Vec<CustomSeries> {
        let mut families = self.lock();
        let mut all = Vec::new();
        for (name, family) in families.iter_mut() {
            for ((plugin, labels), series) in &mut family.series {
                all.push(CustomSeries {
                    name: name.clone(),
                    plugin: plugin.clone(),
                    labels: labels.clone(),
                    value: series.value(&family.shape),
                });
            }
        }
        all
    }

    /// Drops the series of plugins that there are no more.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut families = self.lock();
        for family in families.values_mut() {
            family.series.retain(|(plugin, _), _| is_there(plugin));
        }
        families.retain(|_, family| !family.series.is_empty());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Family>> {
        // Whoever panicked left numbers behind, and numbers are all there is.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetricsGrant {
    fn cell(&self, shape: &Shape, name: &str, labels: &Labels) -> Result<Arc<Cell>, Error> {
        let mut families = self.metrics.lock();
        let key = (self.plugin.clone(), labels.clone());
        let family = families.get_mut(name);
        let another = (family.as_ref()).is_some_and(|family| family.shape != *shape);
        match family {
            // A component that took the place of an older one may measure otherwise.
            Some(family) if another && family.is_of(&self.plugin) => drop(families.remove(name)),
            Some(_) if another => return Err(Error::OtherKind),
            Some(family) => {
                if let Some(series) = family.series.get_mut(&key) {
                    return Ok(series.cell(shape));
                }
            }
            None => {}
        }
        self.make_room(&mut families)?;
        let family = families.entry(name.into()).or_insert_with(|| Family {
            shape: shape.clone(),
            series: BTreeMap::new(),
        });
        let series = family.series.entry(key).or_insert_with(|| Series {
            live: Vec::new(),
            ended: Total::default(),
        });
        Ok(series.cell(shape))
    }

    /// Series that no instance counts any more give way to new ones, but only when there have to be fewer.
    fn make_room(&self, families: &mut BTreeMap<Box<str>, Family>) -> Result<(), Error> {
        let is_ours = |plugin: &Arc<str>| *plugin == self.plugin;
        let count = |families: &BTreeMap<_, Family>| {
            let keys = families.values().flat_map(|family| family.series.keys());
            keys.filter(|(plugin, _)| is_ours(plugin)).count()
        };
        if count(families) < self.series {
            return Ok(());
        }
        for family in families.values_mut() {
            family
                .series
                .retain(|(plugin, _), series| !is_ours(plugin) || series.is_live());
        }
        families.retain(|_, family| !family.series.is_empty());
        match count(families) < self.series {
            true => Ok(()),
            false => Err(Error::TooManySeries(
                self.series.try_into().unwrap_or(u32::MAX),
            )),
        }
    }
}

impl Series {
    fn cell(&mut self, shape: &Shape) -> Arc<Cell> {
        self.fold();
        if let (Shape::Gauge, Some(shared)) = (shape, self.live.first()) {
            return shared.clone();
        }
        let cell = Arc::new(Cell::new(shape, self.ended.gauge));
        self.live.push(cell.clone());
        cell
    }

    /// Takes over what the cells came to that nobody counts in any more.
    fn fold(&mut self) {
        let Self { live, ended } = self;
        live.retain_mut(|cell| match Arc::get_mut(cell) {
            Some(cell) => {
                ended.add(cell);
                false
            }
            None => true,
        });
    }

    fn is_live(&mut self) -> bool {
        self.fold();
        !self.live.is_empty()
    }

    fn value(&mut self, shape: &Shape) -> CustomValue {
        self.fold();
        let mut total = self.ended.clone();
        self.live.iter().for_each(|cell| total.add(cell));
        match shape {
            Shape::Counter => CustomValue::Counter(total.count),
            Shape::Gauge => CustomValue::Gauge(total.gauge),
            Shape::Histogram(bounds) => {
                total.buckets.resize(bounds.len() + 1, 0);
                let bounds = bounds.iter().copied().chain([f64::INFINITY]);
                CustomValue::Histogram {
                    buckets: bounds.zip(total.buckets).collect(),
                    sum: total.sum,
                }
            }
        }
    }
}

impl Total {
    fn add(&mut self, cell: &Cell) {
        match cell {
            Cell::Counter(count) => {
                self.count = self.count.wrapping_add(count.load(Ordering::Relaxed));
            }
            Cell::Gauge(value) => self.gauge = f64::from_bits(value.load(Ordering::Relaxed)),
            Cell::Histogram { buckets, sum, .. } => {
                self.buckets.resize(buckets.len(), 0);
                for (total, bucket) in self.buckets.iter_mut().zip(buckets) {
                    *total += bucket.load(Ordering::Relaxed);
                }
                self.sum += f64::from_bits(sum.load(Ordering::Relaxed));
            }
        }
    }
}

impl Cell {
    fn new(shape: &Shape, gauge: f64) -> Self {
        match shape {
            Shape::Counter => Self::Counter(AtomicU64::new(0)),
            Shape::Gauge => Self::Gauge(AtomicU64::new(gauge.to_bits())),
            Shape::Histogram(bounds) => Self::Histogram {
                bounds: bounds.clone(),
                buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
                sum: AtomicU64::new(0f64.to_bits()),
            },
        }
    }

    fn is_of(&self, shape: &Shape) -> bool {
        match (self, shape) {
            (Self::Counter(_), Shape::Counter) | (Self::Gauge(_), Shape::Gauge) => true,
            (Self::Histogram { bounds, .. }, Shape::Histogram(other)) => bounds == other,
            _ => false,
        }
    }
}

impl Lent {
    pub(crate) fn new(grant: Option<MetricsGrant>) -> Self {
        Self {
            grant,
            ..Self::default()
        }
    }

    fn declare(&mut self, kind: Kind, name: &str, labels: Vec<Label>) -> Result<u32, Error> {
        let grant = self.grant.as_ref().ok_or(Error::NotGranted)?;
        let shape = shape(kind)?;
        if !is_name(name) || ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            return Err(Error::InvalidName);
        }
        let key = (Box::from(name), checked(labels)?);
        if let Some(metric) = self.declared.get(&key) {
            return match self.cells[*metric as usize].is_of(&shape) {
                true => Ok(*metric),
                false => Err(Error::OtherKind),
            };
        }
        let cell = grant.cell(&shape, name, &key.1)?;
        let metric = u32::try_from(self.cells.len()).expect("a grant has fewer series");
        self.cells.push(cell);
        self.declared.insert(key, metric);
        Ok(metric)
    }

    fn cell(&self, metric: u32) -> Result<&Cell> {
        match self.cells.get(metric as usize) {
            Some(cell) => Ok(cell),
            None => bail!("there is no metric {metric}: this instance has not declared it"),
        }
    }
}

fn shape(kind: Kind) -> Result<Shape, Error> {
    let bounds = match kind {
        Kind::Counter => return Ok(Shape::Counter),
        Kind::Gauge => return Ok(Shape::Gauge),
        Kind::Histogram(bounds) => bounds,
    };
    let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
    let finite = bounds.iter().all(|bound| bound.is_finite());
    match (1..=MAX_BOUNDS).contains(&bounds.len()) && rising && finite {
        true => Ok(Shape::Histogram(bounds.into())),
        false => Err(Error::InvalidBounds),
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn checked(labels: Vec<Label>) -> Result<Labels, Error> {
    let legal = |label: &Label| {
        is_name(&label.name)
            && !TAKEN_LABELS.contains(&&*label.name)
            && label.value.len() <= MAX_LABEL_VALUE
    };
    if labels.len() > MAX_LABELS || !labels.iter().all(legal) {
        return Err(Error::InvalidLabels);
    }
    let pairs = labels
        .into_iter()
        .map(|label| (label.name.into(), label.value.into()));
    let mut labels: Labels = pairs.collect();
    labels.sort();
    match labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        true => Err(Error::InvalidLabels),
        false => Ok(labels),
    }
}

impl Host for State {
    fn declare(
        &mut self,
        kind: Kind,
        name: String,
        labels: Vec<Label>,
    ) -> Result<Result<u32, Error>> {
        Ok(self.metrics.declare(kind, &name, labels))
    }

    fn add(&mut self, metric: u32, by: u64) -> Result<()> {
        match self.metrics.cell(metric)? {
            Cell::Counter(count) => {
                // This instance alone writes, so that a sum need not be one atomic step.
                let sum = count.load(Ordering::Relaxed).wrapping_add(by);
                count.store(sum, Ordering::Relaxed);
                Ok(())
            }
            _ => bail!("metric {metric} is no counter"),
        }
    }

    fn set(&mut self, metric: u32, value: f64) -> Result<()> {
        match self.metrics.cell(metric)? {
            Cell::Gauge(gauge) => {
                gauge.store(value.to_bits(), Ordering::Relaxed);
                Ok(())
            }
            _ => bail!("metric {metric} is no gauge"),
        }
    }

    fn observe(&mut self, metric: u32, value: f64) -> Result<()> {
        let Cell::Histogram {
            bounds,
            buckets,
            sum,
        } = self.metrics.cell(metric)?
        else {
            bail!("metric {metric} is no histogram");
        };
        if value.is_nan() {
            return Ok(());
        }
        let at = bounds.partition_point(|bound| *bound < value);
        let bucket = &buckets[at];
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let total = f64::from_bits(sum.load(Ordering::Relaxed)) + value;
        sum.store(total.to_bits(), Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
