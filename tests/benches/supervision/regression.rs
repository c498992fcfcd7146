//! Criterion's part: has it become slower since the last run?

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use perennial::lifecycle::install_panic_hook;

use crate::fleet::{Contender, End, Fleet, Measured as _};
use crate::hand_written::HandWritten;
use crate::linked::Linked;
use crate::ours::Ours;
use crate::pass::run_on;

pub(crate) fn run() {
    install_panic_hook();
    let mut criterion = Criterion::default().configure_from_args();
    for (name, end) in [("error", End::Error), ("panic", End::Panic)] {
        for children in [1, 10_000] {
            restart::<Ours>(&mut criterion, name, end, children);
            restart::<HandWritten>(&mut criterion, name, end, children);
        }
    }
    start::<Ours>(&mut criterion);
    start::<Linked>(&mut criterion);
    criterion.final_summary();
}

fn restart<C: Contender>(criterion: &mut Criterion, name: &str, end: End, children: usize) {
    let mut group = criterion.benchmark_group(format!("restart after {name}"));
    group.bench_function(BenchmarkId::new(C::NAME, children), |bencher| {
        bencher.iter_custom(|times| {
            run_on(0, async move {
                let (mut fleet, _) = Fleet::<C>::start(children).await;
                let mut random = fastrand::Rng::with_seed(1);
                let mut total = Duration::ZERO;
                for _ in 0..times {
                    total += fleet.crash(random.usize(0..children), end).await;
                }
                Box::new(fleet).stop().await;
                total
            })
        });
    });
    group.finish();
}

fn start<C: Contender>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("start");
    group.bench_function(BenchmarkId::new(C::NAME, 1_000), |bencher| {
        bencher.iter_custom(|times| {
            run_on(0, async move {
                let mut total = Duration::ZERO;
                for _ in 0..times {
                    let (fleet, took) = Fleet::<C>::start(1_000).await;
                    Box::new(fleet).stop().await;
                    total += took;
                }
                total
            })
        });
    });
    group.finish();
}
