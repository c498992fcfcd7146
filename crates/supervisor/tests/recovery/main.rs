//! What goes beyond OTP when a child ends: backoff, a budget of its own, quarantine, and the cause of an
//! escalation.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

mod backoff;
mod bounce;
mod dynamic;
mod limits;
mod settings;
mod support;
