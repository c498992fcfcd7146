use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
    SharedString, Unit,
};

/// When a recorder of metrics panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Panics {
    /// When a metric is registered.
    AtFirst,
    /// When a metric is told of something.
    Always,
}

/// Runs what `work` makes, on one thread and with paused time, under a recorder of metrics that panics: once with one that
/// does when a metric is registered, and once with one that does whenever a metric is told of something.
///
/// # Panics
///
/// If `work` does, or the system refuses a runtime.
pub fn under_panicking_metrics<F: Future<Output = ()>>(mut work: impl FnMut() -> F) {
    for panics in [Panics::AtFirst, Panics::Always] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime can be made");
        // That of this thread alone, which the runtime does not leave.
        metrics::with_local_recorder(&Panicking(panics), || runtime.block_on(work()));
    }
}

/// A recorder of metrics that shows each key to a function when the metric is registered.
///
/// Where the function returns a cell, a counter or gauge keeps its value there, a gauge as [`f64::to_bits`]; nothing else is
/// kept. The function may use what it is told by, as a host's recorder may.
///
/// ```
/// # use std::sync::Arc;
/// # use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use perennial_testkit::OnRegister;
///
/// let cell = Arc::new(AtomicU64::new(0));
/// let recorder = OnRegister(|key: &metrics::Key| (key.name() == "sold").then(|| Arc::clone(&cell)));
/// metrics::with_local_recorder(&recorder, || metrics::counter!("sold").increment(7));
/// assert_eq!(cell.load(Relaxed), 7);
/// ```
pub struct OnRegister<F>(pub F);

impl<F: Fn(&Key) -> Option<Arc<AtomicU64>>> metrics::Recorder for OnRegister<F> {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        (self.0)(key).map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        (self.0)(key).map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        drop((self.0)(key));
        Histogram::noop()
    }
}

impl<F> fmt::Debug for OnRegister<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRegister").finish_non_exhaustive()
    }
}

struct Panicking(Panics);

impl Panicking {
    fn register(&self, key: &Key) -> Arc<Metric> {
        assert_ne!(self.0, Panics::AtFirst, "the metric {key}");
        Arc::new(Metric(key.to_string()))
    }
}

impl metrics::Recorder for Panicking {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.register(key))
    }
}

/// A metric that panics whatever it is told.
struct Metric(String);

impl Metric {
    fn told(&self) {
        panic!("the metric {}", self.0)
    }
}

impl CounterFn for Metric {
    fn increment(&self, _: u64) {
        self.told();
    }

    fn absolute(&self, _: u64) {
        self.told();
    }
}

impl GaugeFn for Metric {
    fn increment(&self, _: f64) {
        self.told();
    }

    fn decrement(&self, _: f64) {
        self.told();
    }

    fn set(&self, _: f64) {
        self.told();
    }
}

impl HistogramFn for Metric {
    fn record(&self, _: f64) {
        self.told();
    }
}
