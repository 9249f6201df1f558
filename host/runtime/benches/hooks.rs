//! What plugins cost, in time: `cargo bench -p witgate-runtime --bench hooks`.

use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};

mod ladder;

use ladder::{Ladder, STEPS};

fn hooks(criterion: &mut Criterion) {
    let ladder = Ladder::new();
    for step in STEPS {
        let mut run = ladder.step(step);
        criterion.bench_function(&step.name(), |bencher| {
            bencher.iter_custom(|times| {
                let start = Instant::now();
                run(times);
                start.elapsed()
            });
        });
    }
}

criterion_group!(benches, hooks);
criterion_main!(benches);
