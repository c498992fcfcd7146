//! Whether each service can do its work, and what follows for the whole.

mod actor;
mod cell;
mod check;
mod config;
mod handle;
mod machine;

pub use self::{
    check::{Check, CheckReport, HealthCheck, HealthFuture, with_liveness},
    config::{HealthConfig, HealthConfigBuilder, HealthConfigError},
    handle::HealthAggregator,
    machine::{Overall, QuickHealth, ServiceHealth, Status, SystemHealth},
};
