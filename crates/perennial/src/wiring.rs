//! What the crates below do not know of each other, tied together.

mod events;
mod gate;
mod health;
mod performance;

pub(crate) use events::bridge_events;
pub(crate) use gate::NameGate;
pub(crate) use health::{OwnChecks, register_health};
pub(crate) use performance::recorders;
