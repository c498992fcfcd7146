use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::performance::{Outcome, series::Series};

const HOUR: u64 = 3_600 * SECOND;

fn length(window: Window) -> u64 {
    window.width() * window.buckets() as u64
}

fn series() -> Series {
    Series::new(Arc::from("s"), 0)
}

fn stats(series: &Series, window: Window, now: u64) -> WindowStats {
    series.read(|rings| rings.stats(window, now))
}

/// The convention, on all samples.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted[percent * (sorted.len() - 1) / 100]
}

fn assert_near(us: f64, exact: u64, digits: u8) {
    let precision = if digits == FINE { 0.01 } else { 0.07 };
    let exact = exact as f64;
    let error = (us * 1_000.0 - exact).abs();
    assert!(
        error <= exact * precision + LOWEST as f64,
        "{us} us for {exact} ns"
    );
}

fn step() -> impl Strategy<Value = (u64, u64, bool)> {
    let pause = prop_oneof![
        6 => 0..SECOND,
        3 => 0..30 * SECOND,
        2 => 0..20 * 60 * SECOND,
        1 => 0..30 * HOUR,
    ];
    let latency = prop_oneof![0..2_000u64, 0..SECOND, 0..50 * SECOND];
    (pause, latency, any::<bool>())
}

proptest! {
    #[test]
    fn every_window_agrees_with_a_list_of_all_samples(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let series = series();
        let mut samples = Vec::new();
        let mut now = 0;
        for (pause, latency, failed) in steps {
            now += pause;
            let outcome = if failed { Outcome::Failure } else { Outcome::Success };
            series.record(now, latency, outcome, || u64::MAX);
            samples.push((now, latency, failed));
            for window in Window::ALL {
                let begin = window.begin(now);
                let within: Vec<_> = samples.iter().filter(|(at, ..)| *at >= begin).collect();
                let mut sorted: Vec<_> = within.iter().map(|(_, latency, _)| *latency).collect();
                sorted.sort_unstable();
                let errors = within.iter().filter(|(.., failed)| *failed).count() as u64;

                let seen = stats(&series, window, now);
                prop_assert_eq!(seen.count, sorted.len() as u64);
                prop_assert_eq!(seen.errors, errors);
                let seconds = (now - begin).max(SECOND) as f64 / 1e9;
                prop_assert_eq!(seen.throughput, seen.count as f64 / seconds);
                let latency = seen.latency.unwrap();
                prop_assert_eq!(latency.min_us, sorted[0] as f64 / 1e3);
                prop_assert_eq!(latency.max_us, *sorted.last().unwrap() as f64 / 1e3);
                let sum: u64 = sorted.iter().sum();
                prop_assert_eq!(latency.avg_us, sum as f64 / 1e3 / sorted.len() as f64);
                assert_near(latency.p50_us, percentile(&sorted, 50), window.digits());
                assert_near(latency.p95_us, percentile(&sorted, 95), window.digits());
                assert_near(latency.p99_us, percentile(&sorted, 99), window.digits());
            }
        }
        let (count, errors) = series.read(|rings| (rings.count(), rings.errors()));
        prop_assert_eq!(count, samples.len() as u64);
        prop_assert_eq!(errors, samples.iter().filter(|(.., failed)| *failed).count() as u64);
    }

    #[test]
    fn a_window_covers_its_length_less_one_step_at_most(now in 0..100 * 24 * HOUR) {
        for window in Window::ALL {
            let covered = now - window.begin(now);
            prop_assert!(covered < length(window));
            prop_assert!(covered >= (length(window) - window.width()).min(now));
        }
    }
}

#[test]
fn a_sample_leaves_each_window_when_it_is_as_old_as_the_window() {
    for window in Window::ALL {
        let series = series();
        let at = 7 * 24 * HOUR + window.width() / 2;
        series.record(at, 1_000, Outcome::Success, || u64::MAX);
        let last = length(window) - window.width();
        assert_eq!(stats(&series, window, at + last).count, 1, "{window:?}");
        assert_eq!(stats(&series, window, at + length(window)).count, 0);
    }
}

#[test]
fn the_day_holds_a_day() {
    let series = series();
    for hour in 0..48 {
        series.record(hour * HOUR, 1_000, Outcome::Success, || u64::MAX);
    }
    let now = 48 * HOUR - 1;
    assert_eq!(stats(&series, Window::Day, now).count, 24);
    assert_eq!(stats(&series, Window::Hour, now).count, 1);
    assert_eq!(stats(&series, Window::Minute, now).count, 0);
}

#[test]
fn latencies_beyond_the_histogram_keep_their_exact_extremes() {
    let series = series();
    series.record(0, u64::MAX, Outcome::Success, || u64::MAX);
    series.record(0, 0, Outcome::Success, || u64::MAX);
    let latency = stats(&series, Window::Minute, 0).latency.unwrap();
    assert_eq!(latency.min_us, 0.0);
    assert_eq!(latency.max_us, u64::MAX as f64 / 1e3);
    assert_near(latency.p50_us, 0, FINE);
}

#[test]
fn a_late_sample_counts_where_it_belongs_or_not_at_all() {
    let series = series();
    series.record(10 * HOUR, 1_000, Outcome::Success, || u64::MAX);
    series.record(10 * HOUR - 30 * SECOND, 1_000, Outcome::Success, || {
        u64::MAX
    });
    series.record(8 * HOUR, 1_000, Outcome::Success, || u64::MAX);
    assert_eq!(stats(&series, Window::Minute, 10 * HOUR).count, 2);
    assert_eq!(stats(&series, Window::Hour, 10 * HOUR).count, 2);
    assert_eq!(stats(&series, Window::Day, 10 * HOUR).count, 3);
}

#[test]
fn no_sample_is_lost_between_threads_and_readers() {
    let series = Arc::new(series());
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let series = Arc::clone(&series);
            std::thread::spawn(move || {
                for i in 0..5_000u64 {
                    // The threads meet new steps at different times.
                    series.record((thread + i) * SECOND / 500, i, Outcome::Success, || {
                        u64::MAX
                    });
                    if i % 1_000 == 0 {
                        stats(&series, Window::Minute, i * SECOND / 500);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let day = stats(&series, Window::Day, 10 * SECOND);
    assert_eq!(day.count, 40_000);
    assert_eq!(series.read(Rings::count), 40_000);
}

#[test]
fn a_service_stays_within_its_documented_size() {
    let (rings, shards) = series().bytes();
    assert!(rings + shards <= 570 * 1024, "{rings} + {shards} bytes");
}
