//! Children that come and go while the supervisor runs, all from one template.

mod actor;
mod config;
mod handle;
mod start;
mod template;

pub use config::{DynamicSpec, DynamicSupervisorBuilder};
pub use handle::{DynamicChild, DynamicSupervisor};
pub use template::ChildTemplate;
