use super::*;

fn instance(metrics: &Arc<CustomMetrics>, plugin: &str, series: usize) -> Lent {
    Lent::new(Some(MetricsGrant {
        metrics: metrics.clone(),
        plugin: plugin.into(),
        series,
    }))
}

fn label(name: &str, value: &str) -> Label {
    Label {
        name: name.into(),
        value: value.into(),
    }
}

fn count(lent: &mut Lent, name: &str, by: u64) -> Result<(), Error> {
    let metric = lent.declare(Kind::Counter, name, Vec::new())?;
    match lent.cell(metric).expect("it was declared") {
        Cell::Counter(count) => count.fetch_add(by, Ordering::Relaxed),
        other => panic!("{other:?}"),
    };
    Ok(())
}

fn values(metrics: &CustomMetrics) -> Vec<CustomValue> {
    metrics.series().into_iter().map(|one| one.value).collect()
}

#[test]
fn what_instances_count_adds_up_and_stays_when_they_are_gone() {
    let metrics = Arc::default();
    let mut one = instance(&metrics, "a", 1);
    let mut other = instance(&metrics, "a", 1);
    count(&mut one, "seen", 2).expect("granted");
    count(&mut one, "seen", 1).expect("granted");
    count(&mut other, "seen", 4).expect("granted");
    assert_eq!(values(&metrics), [CustomValue::Counter(7)]);
    drop(one);
    assert_eq!(values(&metrics), [CustomValue::Counter(7)]);
    count(&mut instance(&metrics, "a", 1), "seen", 1).expect("granted");
    drop(other);
    assert_eq!(values(&metrics), [CustomValue::Counter(8)]);
    metrics.retain(|plugin| plugin != "a");
    assert_eq!(values(&metrics), []);
}

#[test]
fn series_are_bounded_for_each_plugin_and_give_way_when_nobody_counts_them() {
    let metrics = Arc::default();
    let mut lent = instance(&metrics, "a", 3);
    let mut refused = Vec::new();
    for value in 0..1000 {
        let labels = vec![label("client", &value.to_string())];
        refused.extend(lent.declare(Kind::Counter, "seen", labels).err());
    }
    assert_eq!((refused.len(), values(&metrics).len()), (997, 3));
    assert!(matches!(refused[0], Error::TooManySeries(3)));
    // The number of one that there is does not change.
    let labels = vec![label("client", "1")];
    assert_eq!(lent.declare(Kind::Counter, "seen", labels).ok(), Some(1));
    count(&mut instance(&metrics, "b", 1), "seen", 1).expect("another plugin's grant");
    drop(lent);
    count(&mut instance(&metrics, "a", 3), "other", 1).expect("room was made");
}

#[test]
fn names_labels_and_kinds_are_checked() {
    let metrics = Arc::default();
    let mut lent = instance(&metrics, "a", 9);
    let kinds = [
        (Kind::Histogram(vec![]), "a", vec![]),
        (Kind::Histogram(vec![1.0, 1.0]), "a", vec![]),
        (Kind::Histogram(vec![f64::NAN]), "a", vec![]),
        (
            Kind::Histogram((0..21).map(f64::from).collect()),
            "a",
            vec![],
        ),
        (Kind::Gauge, "", vec![]),
        (Kind::Gauge, "_a", vec![]),
        (Kind::Gauge, "A", vec![]),
        (Kind::Gauge, "a-b", vec![]),
        (Kind::Gauge, "a\n", vec![]),
        (Kind::Gauge, "a_total", vec![]),
        (Kind::Gauge, "a", vec![label("plugin", "b")]),
        (Kind::Gauge, "a", vec![label("x", "1"), label("x", "2")]),
        (Kind::Gauge, "a", vec![label("x", &"v".repeat(129))]),
        (
            Kind::Gauge,
            "a",
            (0..9).map(|n| label(&"x".repeat(n + 1), "")).collect(),
        ),
    ];
    for (kind, name, labels) in kinds {
        let shown = format!("{kind:?} {name:?} {labels:?}");
        assert!(lent.declare(kind, name, labels).is_err(), "{shown}");
    }
    assert!(values(&metrics).is_empty());
    lent.declare(Kind::Gauge, "a", vec![]).expect("it is legal");
    for other in [&mut lent, &mut instance(&metrics, "b", 9)] {
        let refused = other.declare(Kind::Counter, "a", vec![]);
        assert!(matches!(refused, Err(Error::OtherKind)), "{refused:?}");
    }
    let nothing = Lent::default().declare(Kind::Gauge, "a", vec![]);
    assert!(matches!(nothing, Err(Error::NotGranted)));
}
