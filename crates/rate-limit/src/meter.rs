//! The contract of `ratelimit_meter`: our algorithms for it, and a limiter for any other.
//!
//! The limiters of this crate choose their algorithm by [`Quota`](crate::Quota), and nobody needs this module for
//! them. It is for those who bring an algorithm of their own, or one that ships with `ratelimit_meter`:
//! [`MeterLimiter`] runs whatever implements [`Algorithm`] over [`Nanos`]. Our five do as well, so they also run
//! wherever that trait is asked for. This module follows the major versions of `ratelimit_meter`.
//!
//! The algorithms that ship with `ratelimit_meter` 5 have defects which ours have not: its GCRA admits one cell too
//! many and charges a batch nearly twice, and its leaky bucket admits without bound when readings of the clock come
//! out of order. Plug them in for comparison.

mod limiter;

pub use ratelimit_meter::{
    GCRA as ShippedGcra, LeakyBucket as ShippedLeakyBucket, NonConformance,
    algorithms::{Algorithm, RateLimitState},
};

pub use self::limiter::MeterLimiter;
pub use crate::{
    clock::Nanos,
    machine::{
        Cell, FixedWindow, Gcra, LeakyBucket, Locked, Log, NotUntil, SlidingWindow, Taken,
        TokenBucket,
    },
};
