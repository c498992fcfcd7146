//! Logs that misbehave. Alone in its process: tracing keeps for the whole process which log lines are wanted.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use perennial_breaker::{Breaker, BreakerConfig, BreakerState, Trip};
use tracing::span;

/// Uses the breaker from inside of a log line, and panics.
struct Harmful {
    breaker: OnceLock<Breaker>,
    lines: AtomicUsize,
}

impl tracing::Subscriber for &'static Harmful {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("perennial_breaker")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.lines.fetch_add(1, Ordering::SeqCst);
        if let Some(breaker) = self.breaker.get() {
            breaker.force_closed();
        }
        panic!("the log is full");
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn telemetry_that_panics_or_uses_the_breaker_harms_nobody() {
    let harmful: &'static Harmful = Box::leak(Box::new(Harmful {
        breaker: OnceLock::new(),
        lines: AtomicUsize::new(0),
    }));
    let breaker = Breaker::new(
        "touchy",
        BreakerConfig::builder()
            .trip(Trip::Consecutive(1))
            .build()
            .unwrap(),
    );
    harmful.breaker.set(breaker.clone()).unwrap();
    tracing::subscriber::with_default(harmful, || {
        breaker.try_acquire().unwrap().failure();
        assert_eq!(breaker.state(), BreakerState::ForcedClosed);
        breaker.reset();
    });
    // Opened, forced; closed, forced again.
    assert_eq!(harmful.lines.load(Ordering::SeqCst), 4);
    assert_eq!(breaker.status().transitions, 4);
}
