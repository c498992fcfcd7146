//! The project's tests.

pub mod exrated;
pub mod figures;
pub mod fuse;
pub mod otp;
pub mod poolboy;
mod recording;

use tokio::runtime::{Builder, Runtime};

/// Makes the runtime of a benchmark: so many workers, or none, and then all of it is on one thread.
///
/// # Panics
///
/// If the system refuses threads.
#[must_use]
pub fn runtime(workers: usize) -> Runtime {
    let mut builder = match workers {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder.enable_time().build().expect("threads can be made")
}

/// The code on the pages for users, compiled and run.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/configuration.md")]
    struct Configuration;
    #[doc = include_str!("../../docs/getting-started.md")]
    struct GettingStarted;
    #[doc = include_str!("../../docs/messaging.md")]
    struct Messaging;
    #[doc = include_str!("../../docs/otp.md")]
    struct Otp;
}
