//! The guard as a layer.

use std::io;

use perennial_breaker::Outcome;
use perennial_guard::tower::GuardLayer;
use perennial_guard::{Guard, GuardError, OperationOutcome};
use perennial_pool::PoolConfig;
use perennial_rate_limit::{Quota, RateGate};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

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

#[tokio::test(start_paused = true)]
async fn an_error_in_poll_ready_is_the_inner_services_own() {
    #[derive(Clone)]
    struct Broken;
    impl tower::Service<()> for Broken {
        type Response = ();
        type Error = io::Error;
        type Future = std::future::Pending<Result<(), io::Error>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), io::Error>> {
            std::task::Poll::Ready(Err(io::Error::other("not today")))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            std::future::pending()
        }
    }
    let layer = GuardLayer::new(Guard::builder("svc").build().unwrap());
    let mut service = layer.layer(Broken);
    let error = service.ready().await.map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "not today");
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
    let guard = Guard::builder("svc").pool(pool.clone()).build().unwrap();
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
