//! Is the system healthy? Memory, performance, health.
//!
//! A system that runs for months needs to know three things about itself: how near it is to its memory limit, how fast
//! and how reliably each of its services works, and whether each can do its work at all. This crate answers each with a
//! handle over shared cells and one plain actor that drives it:
//!
//! | handle | its actor | what it answers |
//! | --- | --- | --- |
//! | [`MemoryManager`] | `memory_manager` | [`Pressure`]: low, medium, high, critical |
//! | [`PerformanceMonitor`] | `performance_monitor` | counts, errors, throughput, latencies; alerts; baselines |
//! | [`HealthAggregator`] | `health_aggregator` | healthy, degraded, unhealthy, a score, and causes |
//!
//! ```
//! use std::time::Duration;
//! use perennial_monitor::{
//!     Check, CheckReport, HealthAggregator, MemoryManager, Outcome, Overall, PerformanceMonitor, Pressure,
//! };
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let memory = MemoryManager::default();
//! let performance = PerformanceMonitor::default();
//! let health = HealthAggregator::default();
//!
//! // On the hot path: one atomic load, and one short lock.
//! assert_eq!(memory.level(), Pressure::Low);
//! let database = performance.recorder("database");
//! database.record(Outcome::Success, Duration::from_micros(700));
//!
//! // Health is asked through closures, so that this crate knows none of the services.
//! health.register("database", Box::new(move || {
//!     let performance = performance.clone();
//!     async move {
//!         let failing = performance.report("database").and_then(|db| db.minute.error_rate) > Some(0.5);
//!         CheckReport::new().with(Check::alive(!failing))
//!     }
//! }));
//! let report = health.check().await;
//! assert_eq!(report.overall(memory.level()), Overall::Healthy);
//! # });
//! ```
//!
//! # Guarantees
//!
//! - State lives in the cells: a kill of any of the three actors loses nothing, and its successor goes on.
//! - No caller waits for an actor. The level is one atomic load, recording one short lock without allocation, a health
//!   check runs in the caller's task.
//! - What the host provides (clean-up strategies, health checks, memory readers) runs in tasks of its own under a deadline.
//!   Its failure, panic or silence is a result, and stops nothing else.
//! - Windows are monotonic. A sample leaves a window when it is as old as the window is long, or up to one step earlier.
//! - An alert is raised once when its threshold is crossed, and cleared once when the value has come back far enough.
//!
//! # What it does not do
//!
//! It only looks: apart from the clean-up strategies that the host registers, nothing here changes anything. It does not
//! restart what is unhealthy, which is a supervisor's work, and refuses nothing, which is the guard's. A Rust program can't
//! stop a check that blocks its thread; such a check counts as unanswered, and is not started again before it has ended.

mod duration;
mod event;
mod health;
mod memory;
mod performance;
mod sync;

pub use health::{
    Check, CheckReport, HealthAggregator, HealthCheck, HealthConfig, HealthConfigBuilder,
    HealthConfigError, HealthFuture, Overall, QuickHealth, ServiceHealth, Status, SystemHealth,
    with_liveness,
};
pub use memory::{
    CleanupError, CleanupFuture, CleanupOutcome, CleanupRecord, CleanupStrategy, MemoryConfig,
    MemoryConfigBuilder, MemoryConfigError, MemoryLimit, MemoryManager, MemoryReader,
    MemoryReading, MemoryStats, Pressure, SystemMemory, Trigger,
};
pub use performance::{
    Alert, AlertEvent, AlertEvents, AlertRule, AlertRuleBuilder, AlertRuleError, Baseline,
    Comparison, LatencyStats, Metric, Outcome, PerformanceConfig, PerformanceConfigBuilder,
    PerformanceConfigError, PerformanceMonitor, Recorder, ServiceMatch, ServicePerformance,
    Severity, Totals, Window, WindowStats,
};
