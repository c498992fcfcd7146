//! How fast, how often and how well each service works.

mod actor;
mod alert;
mod cell;
mod config;
mod handle;
mod report;
mod rule;
mod series;
mod window;

pub use self::{
    alert::{Alert, AlertEvent},
    config::{PerformanceConfig, PerformanceConfigBuilder, PerformanceConfigError},
    handle::{AlertEvents, PerformanceMonitor, Recorder},
    report::{Baseline, LatencyStats, ServicePerformance, Totals, WindowStats},
    rule::{
        AlertRule, AlertRuleBuilder, AlertRuleError, Comparison, Metric, ServiceMatch, Severity,
    },
    series::Outcome,
    window::Window,
};
