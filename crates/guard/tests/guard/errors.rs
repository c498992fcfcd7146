//! One error that says who refused, why, and when to come back.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::time::Duration;

use perennial_breaker::{BreakerState, CircuitOpen};
use perennial_guard::{Bulkhead, Guard, GuardConfigError, GuardError, Stage};
use perennial_pool::{CheckoutError, PoolConfig};
use perennial_rate_limit::{Quota, RateGate};

use crate::support::{ECHO, breaker, fail, ok, pool};

#[tokio::test(start_paused = true)]
async fn a_quota_of_zero_and_a_forced_breaker_and_a_closed_pool_are_final() {
    let gate = RateGate::new();
    let closed = Guard::builder("svc").gate(gate).quota(Quota::per_hour(0));
    let error = closed.run(|()| ok()).await.unwrap_err();
    assert_eq!(
        (error.refused_by(), error.retry_after()),
        (Some(Stage::RateLimit), None)
    );
    assert!(!error.is_retryable());
    assert_eq!(error.to_string(), "`svc` is rate limited");

    let breaker = breaker();
    breaker.trip();
    let guard = Guard::builder("svc")
        .breaker(breaker.clone())
        .build()
        .unwrap();
    let error = guard.run(|()| ok()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    assert!(error.is_retryable());
    breaker.force_open();
    let error = guard.run(|()| ok()).await.unwrap_err();
    assert!(matches!(
        &error,
        GuardError::CircuitOpen(CircuitOpen {
            state: BreakerState::ForcedOpen,
            ..
        })
    ));
    assert_eq!((error.is_retryable(), error.retry_after()), (false, None));

    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    pool.close();
    let error = Guard::builder("svc")
        .pool(pool)
        .run(|_| ok())
        .await
        .unwrap_err();
    assert!(matches!(
        &error,
        GuardError::Pool(CheckoutError::Closed { .. })
    ));
    assert!(!error.is_retryable() && error.is_refusal());
}

#[tokio::test(start_paused = true)]
async fn the_operations_own_error_is_read_through_and_handed_back() {
    let guard = Guard::builder("svc").build().unwrap();
    let error = guard.run(|()| fail()).await.unwrap_err();
    assert_eq!(error.to_string(), "broken");
    assert_eq!((error.refused_by(), error.is_retryable()), (None, false));
    assert_eq!(error.into_operation().unwrap().to_string(), "broken");

    #[derive(Debug, thiserror::Error)]
    #[error("order not stored")]
    struct NotStored(#[source] io::Error);
    let error = guard
        .run(|()| async { Err::<(), _>(NotStored(io::Error::other("disk full"))) })
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "order not stored");
    assert_eq!(error.source().unwrap().to_string(), "disk full");
}

#[tokio::test(start_paused = true)]
async fn an_error_in_a_box_is_mapped_or_boxed_and_a_refusal_stays_what_it_is() {
    type BoxError = Box<dyn Error + Send + Sync>;
    let gate = RateGate::new();
    let guard = Guard::builder("svc").gate(gate).quota(Quota::per_hour(2));
    let guard = guard.build().unwrap();
    let fails = || guard.run(|()| async { Err::<(), BoxError>(io::Error::other("broken").into()) });

    let failed = fails().await.unwrap_err().map_operation(io::Error::other);
    assert_eq!((&failed as &dyn Error).to_string(), "broken");
    let failed = fails().await.unwrap_err().into_boxed();
    assert!(failed.is::<io::Error>());

    let refused = fails().await.unwrap_err().map_operation(io::Error::other);
    assert_eq!(refused.refused_by(), Some(Stage::RateLimit));
    let wait = refused.retry_after().unwrap();
    let refused = fails().await.unwrap_err().into_boxed();
    let refused: &GuardError<Infallible> = refused.downcast_ref().unwrap();
    assert_eq!(refused.retry_after(), Some(wait));
}

#[test]
fn settings_that_cannot_be_meant_are_refused_by_name() {
    let zero = Guard::builder("svc").deadline(Duration::ZERO).build();
    assert!(matches!(zero, Err(GuardConfigError::ZeroDeadline { .. })));
    let zero = Guard::builder("svc")
        .slow_after(Duration::ZERO)
        .build()
        .unwrap_err();
    assert_eq!(
        zero.to_string(),
        "service `svc`: slow_after: must be longer than zero"
    );
    let second = Duration::from_secs(1);
    let timed = |slow_after| {
        let guard = Guard::builder("svc").deadline(second);
        guard.slow_after(slow_after).build()
    };
    assert!(timed(second).is_ok());
    let never = timed(second + Duration::from_nanos(1)).unwrap_err();
    assert_eq!(
        never.to_string(),
        "service `svc`: slow_after: must not be longer than the deadline"
    );
    let ungated = Guard::builder("svc").quota(Quota::per_hour(1)).build();
    assert_eq!(
        ungated.unwrap_err().to_string(),
        "service `svc`: quota: needs a rate gate; give the guard one with `gate`"
    );
    let unknown = Guard::builder("svc").pool(ECHO).build();
    assert_eq!(
        unknown.unwrap_err().to_string(),
        "service `svc`: no pool `echo` of this worker type; add it to the tree, or give the guard a handle"
    );
    let most = Bulkhead::new(u32::MAX.try_into().unwrap());
    assert_eq!(most.in_use(), 0);
}
