//! The guard as a layer.

use std::convert::Infallible;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use perennial_breaker::Outcome;
use perennial_guard::tower::GuardLayer;
use perennial_guard::{Guard, GuardConfigError, GuardError, OperationOutcome};
use perennial_pool::PoolConfig;
use perennial_rate_limit::{Quota, RateGate};
use tokio::time::Instant;
use tower::{BoxError, Layer as _, Service as _, ServiceExt as _, service_fn};

use crate::support::{breaker, pool};

#[tokio::test(start_paused = true)]
async fn clones_of_a_guarded_service_share_quota_breaker_and_pool() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let breaker = breaker();
    let guard = Guard::builder("svc")
        .gate(RateGate::new())
        .rate_key("all")
        .quota(Quota::per_hour(3))
        .breaker(breaker.clone())
        .pool(pool.clone())
        .build()
        .unwrap();
    let layer = GuardLayer::new(guard).classify(|answer: &Result<u16, io::Error>| match answer {
        Ok(500..) | Err(_) => Outcome::Failure,
        Ok(_) => Outcome::Success,
    });
    let lent = pool.clone();
    let echo = layer.layer(service_fn(move |status: u16| {
        let lent = lent.clone();
        async move {
            assert_eq!(lent.status().in_use, 1);
            Ok::<_, io::Error>(status)
        }
    }));
    assert_eq!(echo.clone().oneshot(200).await.unwrap(), 200);
    // A failure of the service is an answer all the same.
    assert_eq!(echo.clone().oneshot(503).await.unwrap(), 503);
    assert_eq!(breaker.status().failures, 1);
    let open = echo.clone().oneshot(200).await.unwrap_err();
    assert!(matches!(open, GuardError::CircuitOpen(_)));
    let over = echo.clone().oneshot(200).await.unwrap_err();
    assert!(matches!(over, GuardError::RateLimited { .. }));
    assert_eq!(pool.status().in_use, 0);
    let status = echo.guard().status();
    assert_eq!((status.begun(), status.refused()), (2, 2));
}

/// A service whose `poll_ready` is as it is told.
#[derive(Clone)]
struct Readiness(fn() -> Poll<io::Result<()>>);

impl tower::Service<()> for Readiness {
    type Response = ();
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0()
    }

    fn call(&mut self, (): ()) -> Self::Future {
        panic!("it was not ready");
    }
}

#[tokio::test(start_paused = true)]
async fn grd_18_an_error_in_poll_ready_is_a_failure_that_opens_the_circuit() {
    let breaker = breaker();
    let guard = Guard::builder("svc").breaker(breaker.clone());
    let layer = GuardLayer::new(guard.build().unwrap());
    let fails = || Poll::Ready(Err(io::Error::other("not today")));
    let mut service = layer.layer(Readiness(fails));
    let error = service.ready().await.unwrap().call(()).await.unwrap_err();
    assert!(matches!(error, GuardError::Operation(_)), "{error}");
    assert_eq!(error.to_string(), "not today");
    assert_eq!(breaker.status().failures, 1);
    let open = service.ready().await.unwrap().call(()).await.unwrap_err();
    assert!(matches!(open, GuardError::CircuitOpen(_)), "{open}");
}

#[tokio::test(start_paused = true)]
async fn grd_18_a_service_that_is_never_ready_meets_the_deadline() {
    let second = Duration::from_secs(1);
    let guard = Guard::builder("svc").breaker(breaker()).deadline(second);
    let layer = GuardLayer::new(guard.build().unwrap());
    let mut service = layer.layer(Readiness(|| Poll::Pending));
    let began = Instant::now();
    let error = service.ready().await.unwrap().call(()).await.unwrap_err();
    assert!(
        matches!(error, GuardError::DeadlineExceeded { .. }),
        "{error}"
    );
    assert_eq!(began.elapsed(), second);
    let open = service.ready().await.unwrap().call(()).await.unwrap_err();
    assert!(matches!(open, GuardError::CircuitOpen(_)), "{open}");
}

/// May be called only once it was polled ready, as the contract says; its clone has to be polled by itself.
#[derive(Default)]
struct Strict {
    is_ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl tower::Service<()> for Strict {
    type Response = ();
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "it was not ready");
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn grd_18_each_request_has_a_service_that_was_polled_ready() {
    let guard = Guard::builder("svc").build().unwrap();
    let mut service = GuardLayer::new(guard).layer(Strict::default());
    let first = service.ready().await.unwrap().call(());
    let second = service.ready().await.unwrap().clone().oneshot(());
    second.await.unwrap();
    first.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_gives_everything_back() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let guard = Guard::builder("svc").pool(pool.clone()).build().unwrap();
    let hang = |()| std::future::pending::<Result<(), io::Error>>();
    let mut service = GuardLayer::new(guard).layer(service_fn(hang));
    for _ in 0..3 {
        let mut request = service.ready().await.unwrap().call(());
        assert!(futures_util::poll!(&mut request).is_pending());
        assert_eq!(pool.status().in_use, 1);
        drop(request);
        assert_eq!(pool.status().in_use, 0);
    }
    assert_eq!(
        service.guard().status().count(OperationOutcome::Cancelled),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn grd_15_a_layer_is_listed_where_it_was_made() {
    let (_supervisor, pool) = pool(PoolConfig::new(1)).await;
    let guard = Guard::builder("svc").gate(RateGate::new());
    let guard = guard.quota(Quota::per_hour(1)).pool(pool.clone());
    let guard = guard.build().unwrap();
    let (line, layer) = (line!(), GuardLayer::new(guard));
    let echo = layer
        .key_by(|&key: &u32| key)
        .classify(|_: &_| Outcome::Success);
    let echo = echo.layer(service_fn(move |_| {
        let place = pool.holders()[0].location;
        async move { Ok::<_, io::Error>((place.file(), place.line())) }
    }));
    assert_eq!(echo.oneshot(7).await.unwrap(), (file!(), line));
}

#[tokio::test(start_paused = true)]
async fn grd_6_keys_of_requests_without_a_quota_are_an_error() {
    let guard = Guard::builder("svc").build().unwrap();
    let layer = GuardLayer::new(guard).key_by(|&key: &u32| key);
    let echo = layer.layer(service_fn(
        |key: u32| async move { Ok::<_, io::Error>(key) },
    ));
    let refused = echo.oneshot(7).await.unwrap_err();
    assert!(matches!(
        refused,
        GuardError::Config(GuardConfigError::NoQuota { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_guard_stands_between_layers_whose_errors_are_in_boxes() {
    /// Goes on with an inner service as tower's own layers do.
    async fn outside<S>(inner: S) -> BoxError
    where
        S: tower::Service<(), Response = (), Error: Into<BoxError>>,
    {
        inner.oneshot(()).await.unwrap_err().into()
    }
    let guard = Guard::builder("svc").gate(RateGate::new());
    let guard = guard.quota(Quota::per_hour(1)).build().unwrap();
    let inside = service_fn(|(): ()| async { Err::<(), BoxError>(io::Error::other("no").into()) });
    let service = GuardLayer::new(guard).layer(inside);
    let service = service.map_err(GuardError::into_boxed);
    let failed = outside(service.clone()).await;
    assert!(failed.is::<io::Error>(), "{failed}");
    let refused = outside(service).await;
    let refused = refused.downcast_ref::<GuardError<Infallible>>().unwrap();
    assert!(matches!(refused, GuardError::RateLimited { .. }));
}
