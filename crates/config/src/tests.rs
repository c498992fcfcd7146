//! A config server above a database of its own.

mod chance;
mod deaths;
mod guarded;
mod settings;
mod stored;
mod support;
