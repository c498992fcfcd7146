//! The project's tests.

pub mod exrated;
pub mod figures;
pub mod fuse;
pub mod otp;
pub mod poolboy;
mod recording;

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
