//! How much of its memory limit the process uses, and what is given up when that becomes too much.

mod actor;
mod cell;
mod cleanup;
mod config;
mod handle;
mod machine;
mod reader;

pub use self::{
    cleanup::{
        CleanupError, CleanupFuture, CleanupOutcome, CleanupRecord, CleanupStrategy, Trigger,
    },
    config::{MemoryConfig, MemoryConfigBuilder, MemoryConfigError, MemoryLimit},
    handle::{MemoryManager, MemoryStats},
    machine::Pressure,
    reader::{MemoryReader, MemoryReading, SystemMemory},
};
