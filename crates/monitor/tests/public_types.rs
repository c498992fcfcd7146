//! What every public type promises.

use std::fmt::Debug;

use perennial_monitor::*;

fn shared<T: Debug + Send + Sync + 'static>() {}
fn report<T: Debug + Clone + serde::Serialize + Send + Sync + 'static>() {}

#[test]
fn public_types_are_debug_send_and_sync() {
    shared::<MemoryManager>();
    shared::<PerformanceMonitor>();
    shared::<Recorder>();
    shared::<AlertEvents>();
    shared::<HealthAggregator>();
    shared::<SystemMemory>();
    shared::<MemoryLimit>();
    shared::<MemoryConfigBuilder>();
    shared::<MemoryConfigError>();
    shared::<PerformanceConfigBuilder>();
    shared::<PerformanceConfigError>();
    shared::<AlertRuleBuilder>();
    shared::<AlertRuleError>();
    shared::<HealthConfigBuilder>();
    shared::<HealthConfigError>();
    shared::<Severity>();
}

#[test]
fn configurations_and_reports_are_cloned_and_serialized() {
    report::<MemoryConfig>();
    report::<MemoryStats>();
    report::<MemoryReading>();
    report::<CleanupRecord>();
    report::<CleanupOutcome>();
    report::<Trigger>();
    report::<Pressure>();
    report::<PerformanceConfig>();
    report::<ServicePerformance>();
    report::<WindowStats>();
    report::<LatencyStats>();
    report::<Baseline>();
    report::<Totals>();
    report::<Alert>();
    report::<AlertEvent>();
    report::<AlertRule>();
    report::<HealthConfig>();
    report::<SystemHealth>();
    report::<ServiceHealth>();
    report::<QuickHealth>();
    report::<CheckReport>();
    report::<Check>();
    report::<Overall>();
    report::<Status>();
}
