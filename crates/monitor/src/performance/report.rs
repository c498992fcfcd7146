use serde::Serialize;

use super::{Alert, Window};

/// What is known about one service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ServicePerformance {
    /// The service.
    pub service: String,
    /// Everything since the service was first seen.
    pub total: Totals,
    /// The last minute.
    pub minute: WindowStats,
    /// The last hour.
    pub hour: WindowStats,
    /// The last day.
    pub day: WindowStats,
    /// What is usual; `None` before there were samples enough.
    pub baseline: Option<Baseline>,
    /// The alerts that are raised for it.
    pub alerts: Vec<Alert>,
}

impl ServicePerformance {
    /// Picks the figures of one window.
    pub fn window(&self, window: Window) -> &WindowStats {
        match window {
            Window::Minute => &self.minute,
            Window::Hour => &self.hour,
            Window::Day => &self.day,
        }
    }
}

/// Counts since a service was first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Operations.
    pub count: u64,
    /// Operations that failed.
    pub errors: u64,
}

/// The figures of one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WindowStats {
    /// The window.
    pub window: Window,
    /// Operations.
    pub count: u64,
    /// Operations that failed.
    pub errors: u64,
    /// The share that failed, from 0 to 1; `None` without operations.
    pub error_rate: Option<f64>,
    /// Operations per second: the count divided by the time that the window covers, but at least by one second.
    pub throughput: f64,
    /// Latencies; `None` without operations.
    pub latency: Option<LatencyStats>,
}

/// Latencies in microseconds.
///
/// A percentile `p` of `n` samples is the sample at place `floor(p * (n - 1))` of their ascending order, counted from 0,
/// so that it is never more than the largest sample. Minimum, average and maximum are exact; percentiles are within 1 %
/// over the last minute and 7 % over the hour and the day. Latencies above 60 seconds count as 60 in percentiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LatencyStats {
    /// The shortest.
    pub min_us: f64,
    /// The mean.
    pub avg_us: f64,
    /// The longest.
    pub max_us: f64,
    /// The median.
    pub p50_us: f64,
    /// The 95th percentile.
    pub p95_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
}

/// What is usual for a service: the figures of an hour, taken at intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Baseline {
    /// How many operations it rests on.
    pub samples: u64,
    /// The share that failed.
    pub error_rate: f64,
    /// Operations per second.
    pub throughput: f64,
    /// Latencies.
    pub latency: LatencyStats,
}

impl Baseline {
    /// The figures of a window that has at least `samples` operations.
    pub(crate) fn of(stats: &WindowStats, samples: u64) -> Option<Self> {
        if stats.count < samples {
            return None;
        }
        Some(Self {
            samples: stats.count,
            error_rate: stats.error_rate?,
            throughput: stats.throughput,
            latency: stats.latency?,
        })
    }
}
