//! What plugins cost, in time of the processor: `cargo bench -p witgate-runtime --bench hooks`. What else the machine does
//! is not in it, but for what that does to caches and to the clock of the processor.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};

mod ladder;

use ladder::{Ladder, STEPS};

fn hooks(criterion: &mut Criterion) {
    let ladder = Ladder::new();
    for step in STEPS {
        let mut run = ladder.step(step);
        criterion.bench_function(&step.name(), |bencher| {
            bencher.iter_custom(|times| {
                let start = processor_time();
                run(times);
                processor_time().saturating_sub(start)
            });
        });
    }
}

/// Of this thread, on which everything runs.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("it is not negative");
    let nanoseconds = u32::try_from(time.tv_nsec).expect("less than a second");
    Duration::new(seconds, nanoseconds)
}

criterion_group!(benches, hooks);
criterion_main!(benches);
