//! Is this caller within quota? The gate before a call.
//!
//! A service that serves everybody who asks, as often as they ask, serves the
//! loudest. This crate answers, per caller, whether the next call is within a
//! [`Quota`], and if not, when it will be. It answers at once, in the caller's own
//! task, from shared memory: no message is sent and no server is asked.
//!
//! ```
//! use perennial_rate_limit::{Decision, Quota, RateGate};
//!
//! let gate = RateGate::new();
//! let quota = Quota::per_minute(10).burst(2);
//!
//! match gate.check("billing", &("charge", 7_u64), &quota) {
//!     Decision::Allowed { remaining } => assert_eq!(remaining, 1),
//!     Decision::Refused { retry_after } => println!("come back in {retry_after:?}"),
//!     Decision::Never => println!("not with this quota"),
//! }
//! ```
//!
//! - [`KeyedLimiter`] gives every key of one type the same quota, and stands alone.
//! - [`RateGate`] is a tree's one gate: many scopes and quotas, keys of any type, and an
//!   actor ([`RateGate::child_spec`]) that sweeps idle keys.
//! - [`Algorithm`] says how a quota is metered. [`meter`] is for algorithms that are not among them: it
//!   runs whatever implements the trait of `ratelimit_meter`, which ours do as well.
//! - A limiter, and a [`GateLimiter`] for one scope and quota of a gate, answers at once with `check`, or waits for a turn with
//!   `until_ready` and a [`Patience`].
//!
//! The feature `governor` adds `GovernorLimiter`, which meters by governor.
//!
//! # Guarantees
//!
//! - **Never more than the quota**, from however many threads, however late their
//!   readings of the clock, and also when they touch a new key at once.
//! - **`retry_after` is exact**: if nobody else spends from the key, a retry at
//!   that instant is admitted, and one a nanosecond earlier is not.
//! - **Bounded memory**: keys are capped. [`WhenFull`] says what gives way: by
//!   default, the first guarantee for the key that has spent least.
//! - **A forgotten key was idle**: a sweep removes a key when it is as good as new.
//! - **The actor can die**: what is spent lives in the gate, not in its actor.
//!
//! # Not here
//!
//! Queues: of several who wait for one key, any may be first. Limits across machines, and limits on calls in flight.
//! Times of day are not followed: fixed windows line up with the clock that the process
//! saw when it started.

mod actor;
mod clock;
mod config;
mod decision;
mod error;
mod event;
mod fingerprint;
#[cfg(feature = "governor")]
mod governor;
mod handle;
mod limiter;
mod machine;
pub mod meter;
mod quota;
mod rules;
mod store;
mod sync;
mod wait;

#[cfg(feature = "governor")]
pub use self::governor::GovernorLimiter;
pub use self::{
    clock::{Clock, ManualClock},
    config::{RateGateConfig, WhenFull},
    decision::{Decision, KeyStatus},
    error::{CheckError, QuotaError, RateGateConfigError, WaitError},
    handle::{GateLimiter, RateGate, RateGateBuilder, ScopeStatus},
    limiter::{KeyedLimiter, KeyedLimiterBuilder},
    quota::{Algorithm, Quota},
    store::Swept,
    wait::Patience,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_shared<T: std::fmt::Debug + Send + Sync>() {}

    #[test]
    fn public_types_are_debug_send_and_sync() {
        assert_shared::<Algorithm>();
        assert_shared::<CheckError>();
        assert_shared::<Clock>();
        assert_shared::<Decision>();
        assert_shared::<GateLimiter>();
        #[cfg(feature = "governor")]
        assert_shared::<GovernorLimiter<String>>();
        assert_shared::<KeyStatus>();
        assert_shared::<KeyedLimiter<String>>();
        assert_shared::<KeyedLimiterBuilder<String>>();
        assert_shared::<ManualClock>();
        assert_shared::<meter::MeterLimiter<String, meter::Gcra>>();
        assert_shared::<Quota>();
        assert_shared::<QuotaError>();
        assert_shared::<RateGate>();
        assert_shared::<RateGateBuilder>();
        assert_shared::<RateGateConfig>();
        assert_shared::<RateGateConfigError>();
        assert_shared::<ScopeStatus>();
        assert_shared::<Swept>();
        assert_shared::<Patience>();
        assert_shared::<WaitError>();
        assert_shared::<WhenFull>();
    }
}
