//! Breakers as their users meet them.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

mod cancelling;
mod conditions;
mod recorders;
mod settings;

use std::time::Duration;

use perennial_breaker::{Breaker, BreakerConfig, Trip};

const SECOND: Duration = Duration::from_secs(1);

fn breaker(trip: Trip) -> Breaker {
    Breaker::new(
        "service",
        BreakerConfig::builder().trip(trip).build().unwrap(),
    )
}

fn fail(breaker: &Breaker, times: u32) {
    for _ in 0..times {
        breaker.try_acquire().unwrap().failure();
    }
}

fn succeed(breaker: &Breaker, times: u32) {
    for _ in 0..times {
        breaker.try_acquire().unwrap().success();
    }
}
