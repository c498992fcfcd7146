//! The guard as a [`tower::Layer`](GuardLayer): before a client, or before a whole server.
//!
//! A request that is let through goes to the inner service; all others end with the
//! [`GuardError`] that says who refused. See [`GuardLayer`].

use std::fmt;
use std::future::poll_fn;
use std::hash::Hash;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use perennial_breaker::Outcome;
use tower_layer::Layer;
use tower_service::Service;

use crate::handle::failures_are_errors;
use crate::stage::{Lend, NoPool};
use crate::{Guard, GuardError, call};

/// Puts a [`Guard`] before a service.
///
/// The guard's pool, if it has one, lends a worker for the time of the request; the inner service does not see it.
/// What a layer makes shares the guard and its counts, however often it is cloned. Each request costs one
/// allocation, that of its future.
///
/// The guard refuses when a request comes, not in `poll_ready`: only then are the request and its key known.
///
/// The inner service is made ready within the protected operation, by a clone of its own for each request. So what its
/// `poll_ready` reports, as a client does that cannot connect, is a failure of the operation, and the wait for it ends
/// with the deadline. A guarded service itself is always ready: what is to hold back requests, such as a bulkhead, belongs
/// to the guard, or before it.
///
/// Where the inner service's error is tower's `BoxError`, and a layer outside wants one as well, there stands
/// `map_err(GuardError::into_boxed)` between them: a `GuardError` of a box is no [`std::error::Error`].
///
/// # Examples
///
/// ```
/// use perennial_guard::tower::GuardLayer;
/// use perennial_guard::{Guard, GuardError};
/// use perennial_breaker::Outcome;
/// use perennial_rate_limit::{Quota, RateGate};
/// use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let guard = Guard::builder("echo").gate(RateGate::new()).quota(Quota::per_minute(1)).build()?;
/// let layer = GuardLayer::new(guard)
///     // Each tenant has a quota of its own ...
///     .key_by(|(tenant, _): &(u32, &str)| *tenant)
///     // ... and an answer may be a failure.
///     .classify(|result: &Result<u16, std::io::Error>| match result {
///         Ok(500..) | Err(_) => Outcome::Failure,
///         Ok(_) => Outcome::Success,
///     });
/// let mut echo = layer.layer(service_fn(|(_, _): (u32, &str)| async { Ok::<_, std::io::Error>(200) }));
///
/// assert_eq!(echo.ready().await?.call((7, "hello")).await?, 200);
/// let refused = echo.ready().await?.call((7, "again")).await.unwrap_err();
/// assert!(matches!(refused, GuardError::RateLimited { .. }));
/// assert_eq!(echo.ready().await?.call((8, "hello")).await?, 200);
/// # Ok(())
/// # }
/// ```
pub struct GuardLayer<P = NoPool, K = (), By = OwnKey, Judge = ByResult> {
    guard: Arc<Guard<P, K>>,
    by: By,
    judge: Judge,
    /// Where it was made: each call comes from somewhere inside tower.
    at: &'static Location<'static>,
}

impl<P, K> GuardLayer<P, K> {
    /// Guards with the guard's own key; an `Err` of the inner service counts as a failure.
    ///
    /// What its requests borrow from a pool is listed as borrowed where this is called.
    #[must_use]
    #[track_caller]
    pub fn new(guard: Guard<P, K>) -> Self {
        Self {
            at: Location::caller(),
            guard: Arc::new(guard),
            by: OwnKey,
            judge: ByResult,
        }
    }
}

impl<P, K, By, Judge> GuardLayer<P, K, By, Judge> {
    /// Spends the quota of a key that is read from each request. The guard must have a quota:
    /// without one each request ends with [`GuardConfigError::NoQuota`](crate::GuardConfigError::NoQuota).
    #[must_use]
    pub fn key_by<F>(self, key: F) -> GuardLayer<P, K, KeyBy<F>, Judge> {
        GuardLayer {
            guard: self.guard,
            by: KeyBy(key),
            judge: self.judge,
            at: self.at,
        }
    }

    /// Judges each result for the breaker: an answer such as an HTTP status of 500 may be a failure.
    #[must_use]
    pub fn classify<F>(self, judge: F) -> GuardLayer<P, K, By, JudgeBy<F>> {
        GuardLayer {
            guard: self.guard,
            by: self.by,
            judge: JudgeBy(judge),
            at: self.at,
        }
    }
}

impl<P, K, By: Clone, Judge: Clone> Clone for GuardLayer<P, K, By, Judge> {
    fn clone(&self) -> Self {
        Self {
            guard: Arc::clone(&self.guard),
            by: self.by.clone(),
            judge: self.judge.clone(),
            at: self.at,
        }
    }
}

impl<P, K, By, Judge> fmt::Debug for GuardLayer<P, K, By, Judge> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GuardLayer").field(&self.guard).finish()
    }
}

impl<S, P, K, By: Clone, Judge: Clone> Layer<S> for GuardLayer<P, K, By, Judge> {
    type Service = Guarded<S, P, K, By, Judge>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service behind a [`Guard`]; made by [`GuardLayer`].
pub struct Guarded<S, P = NoPool, K = (), By = OwnKey, Judge = ByResult> {
    inner: S,
    layer: GuardLayer<P, K, By, Judge>,
}

impl<S, P, K, By, Judge> Guarded<S, P, K, By, Judge> {
    /// Returns the guard.
    #[must_use]
    pub fn guard(&self) -> &Guard<P, K> {
        &self.layer.guard
    }

    /// Returns the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: Clone, P, K, By: Clone, Judge: Clone> Clone for Guarded<S, P, K, By, Judge> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S: fmt::Debug, P, K, By, Judge> fmt::Debug for Guarded<S, P, K, By, Judge> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("inner", &self.inner)
            .field("guard", &self.layer.guard)
            .finish()
    }
}

impl<S, Request, P, K, By, Judge> Service<Request> for Guarded<S, P, K, By, Judge>
where
    S: Service<Request> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    Request: Send + 'static,
    P: Lend + 'static,
    P::Item: 'static,
    K: Hash + Eq + Send + Sync + 'static,
    By: Key<Request>,
    Judge: Judges<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = GuardError<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut inner = self.inner.clone();
        let GuardLayer {
            guard,
            by,
            judge,
            at,
        } = self.layer.clone();
        Box::pin(async move {
            let key = by.key(&request);
            let operation = |item| async move {
                let answer = match poll_fn(|context| inner.poll_ready(context)).await {
                    Ok(()) => inner.call(request).await,
                    Err(error) => Err(error),
                };
                // A worker is lent for the whole request.
                drop(item);
                answer
            };
            let classify = |result: &_| judge.judge(result);
            match &key {
                Some(key) => {
                    let key = call::ThisKey(key);
                    guard
                        .attempt(at, key, &guard.deadline, operation, classify)
                        .await
                }
                None => {
                    let key = call::OwnKey(&guard.key);
                    guard
                        .attempt(at, key, &guard.deadline, operation, classify)
                        .await
                }
            }
        })
    }
}

/// Whose quota a request spends: of all requests the guard's own key.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnKey;

/// Whose quota a request spends: as a function says.
#[derive(Clone, Copy, Debug)]
pub struct KeyBy<F>(F);

/// What a result says of the service: an `Err` is a failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByResult;

/// What a result says of the service: as a function says.
#[derive(Clone, Copy, Debug)]
pub struct JudgeBy<F>(F);

/// Reads the key of a request: [`OwnKey`], [`KeyBy`].
pub trait Key<Request>: Clone + Send + Sync + 'static {
    /// The key's type.
    type Key: Hash + Eq + Send + Sync + 'static;

    /// Returns the request's key, or `None` for the guard's own.
    fn key(&self, request: &Request) -> Option<Self::Key>;
}

/// Judges a result: [`ByResult`], [`JudgeBy`].
pub trait Judges<T, E>: Clone + Send + Sync + 'static {
    /// Returns what the result says of the service.
    fn judge(&self, result: &Result<T, E>) -> Outcome;
}

impl<Request> Key<Request> for OwnKey {
    type Key = ();

    fn key(&self, _: &Request) -> Option<()> {
        None
    }
}

impl<Request, Found, F> Key<Request> for KeyBy<F>
where
    F: Fn(&Request) -> Found + Clone + Send + Sync + 'static,
    Found: Hash + Eq + Send + Sync + 'static,
{
    type Key = Found;

    fn key(&self, request: &Request) -> Option<Found> {
        Some((self.0)(request))
    }
}

impl<T, E> Judges<T, E> for ByResult {
    fn judge(&self, result: &Result<T, E>) -> Outcome {
        failures_are_errors(result)
    }
}

impl<T, E, F> Judges<T, E> for JudgeBy<F>
where
    F: Fn(&Result<T, E>) -> Outcome + Clone + Send + Sync + 'static,
{
    fn judge(&self, result: &Result<T, E>) -> Outcome {
        (self.0)(result)
    }
}
