//! Dynamic supervisors side by side, among which keys are divided.

mod config;
mod handle;
mod route;

pub use config::{PartitionedSpec, PartitionedSupervisorBuilder};
pub use handle::{PartitionedChildInfo, PartitionedSupervisor};
