use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use perennial_breaker::{Breaker, BreakerConfig, BreakerState, KeyedBreakers, Outcome, Trip};
use tokio::task::yield_now;
use tokio::time::advance;

use crate::{SECOND, fail};

/// How often an operation that is left alone says that it is not ready.
const WAITS: u32 = 5;

async fn operation(succeeds: bool) -> Result<(), ()> {
    for _ in 0..WAITS {
        yield_now().await;
    }
    if succeeds { Ok(()) } else { Err(()) }
}

/// Polls a future so often, and drops it; answers whether it was ready.
fn poll_and_drop(future: impl Future, times: u32) -> bool {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if future.as_mut().poll(&mut context).is_ready() {
            return true;
        }
    }
    false
}

/// A half-open breaker with two places, closed by two probes.
async fn half_open() -> Breaker {
    let config = BreakerConfig::builder()
        .trip(Trip::Consecutive(1))
        .half_open_permits(2)
        .successes_to_close(2);
    let breaker = Breaker::new("cancelled", config.build().unwrap());
    fail(&breaker, 1);
    advance(SECOND * 30).await;
    breaker
}

/// Nobody is inside: both places are there to take, and two good probes close.
fn assert_nothing_leaked(breaker: &Breaker) {
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    let probes: Vec<_> = (0..2).map(|_| breaker.try_acquire().unwrap()).collect();
    assert!(breaker.try_acquire().is_err());
    for probe in probes {
        probe.success();
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn brk_15_a_call_that_is_dropped_at_any_poll_gives_its_place_back() {
    for polls in 0..=WAITS {
        let breaker = half_open().await;
        assert!(!poll_and_drop(breaker.call(operation(true)), polls));
        let admitted = u64::from(polls > 0);
        assert_eq!(breaker.status().cancelled, admitted, "{polls}");
        assert_nothing_leaked(&breaker);
    }
}

#[tokio::test(start_paused = true)]
async fn brk_15_a_classified_call_that_is_dropped_at_any_poll_gives_its_place_back() {
    for polls in 0..=WAITS {
        let breaker = half_open().await;
        let call = breaker.call_with(|_| Outcome::Failure, operation(true));
        assert!(!poll_and_drop(call, polls));
        assert_eq!(breaker.status().failures, 1, "only the first");
        assert_nothing_leaked(&breaker);
    }
}

#[tokio::test(start_paused = true)]
async fn brk_15_a_call_of_a_key_that_is_dropped_at_any_poll_gives_its_place_back() {
    for polls in 0..=WAITS {
        let config = BreakerConfig::builder().trip(Trip::Consecutive(1));
        let breakers =
            KeyedBreakers::<u32>::new("keyed", config.build().unwrap(), 9.try_into().unwrap());
        breakers.get(&1).trip();
        advance(SECOND * 30).await;
        assert!(!poll_and_drop(breakers.call(&1, operation(true)), polls));
        breakers.try_acquire(&1).unwrap().success();
        assert_eq!(breakers.get(&1).state(), BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn brk_15_a_call_that_is_polled_to_its_end_counts_what_it_said() {
    for succeeds in [true, false] {
        let breaker = half_open().await;
        assert!(poll_and_drop(breaker.call(operation(succeeds)), WAITS + 1));
        let status = breaker.status();
        assert_eq!(status.cancelled, 0);
        assert_eq!(status.successes, u64::from(succeeds));
        let expected = if succeeds {
            BreakerState::HalfOpen
        } else {
            BreakerState::Open
        };
        assert_eq!(status.state, expected);
    }
}

/// What is good is the user's to say, of an `Ok` as well.
#[tokio::test]
async fn brk_15_an_ok_that_the_user_calls_a_failure_opens() {
    let breaker = Breaker::new(
        "judged",
        BreakerConfig::builder()
            .trip(Trip::Consecutive(1))
            .build()
            .unwrap(),
    );
    let judge = |answer: &Result<u16, ()>| match answer {
        Ok(..500) | Err(()) => Outcome::Success,
        Ok(_) => Outcome::Failure,
    };
    assert_eq!(
        breaker.call_with(judge, async { Err(()) }).await,
        Ok(Err(()))
    );
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(
        breaker.call_with(judge, async { Ok(503) }).await,
        Ok(Ok(503))
    );
    assert_eq!(breaker.state(), BreakerState::Open);
}
