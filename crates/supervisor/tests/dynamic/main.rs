//! What dynamic supervisors promise, one by one; the recordings of OTP's own supervisor check the rest.

#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

mod children;
mod concurrent;
mod restarts;
mod support;
mod turmoil;
