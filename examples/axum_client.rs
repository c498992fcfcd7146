//! An axum handler whose client goes through a guard, as a tower layer: each tenant has a quota, a service that fails is
//! left alone, and every refusal becomes the status that says so.
//!
//! Nothing is listened on: both services are called in this process. A host would `axum::serve` the first, and put the
//! layer around an HTTP client.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use axum::routing::get;
use perennial::guard::Stage;
use perennial::guard::tower::GuardLayer;
use perennial::{BreakerConfig, GuardError, Outcome, Quota, Tree, Trip};
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _};

/// Whose quota a request to the rate service spends.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Tenant(String);

/// The client that the handler uses.
type Rates = BoxCloneSyncService<Request<Body>, Response, GuardError<Infallible>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tree = Tree::builder("shop")
        .breaker(
            "rates",
            BreakerConfig::builder()
                .trip(Trip::Consecutive(2))
                .build()?,
        )
        .start()
        .await?;

    let guard = tree
        .guard("rates")
        .quota(Quota::per_minute(2))
        .deadline(Duration::from_secs(2))
        .build()?;
    let layer = GuardLayer::new(guard)
        .key_by(|request: &Request<Body>| request.extensions().get::<Tenant>().cloned())
        .classify(|answer: &Result<Response, Infallible>| match answer {
            Ok(answer) if answer.status().is_server_error() => Outcome::Failure,
            _ => Outcome::Success,
        });
    let rates = Rates::new(layer.layer(rate_service()));

    let shop = Router::new()
        .route("/{tenant}/price-in/{currency}", get(price))
        .with_state(rates);
    for path in [
        "/alice/price-in/EUR",
        "/alice/price-in/EUR",
        "/alice/price-in/EUR",
        "/bob/price-in/GOLD",
        "/bob/price-in/GOLD",
        "/carol/price-in/EUR",
    ] {
        let request = Request::get(path).body(Body::empty())?;
        let answer = shop.clone().oneshot(request).await?;
        let status = answer.status();
        println!("{path}: {status}: {}", text(answer).await?);
    }
    tree.shutdown().await;
    Ok(())
}

/// What a thing of 100 dollars costs.
async fn price(
    State(rates): State<Rates>,
    Path((tenant, currency)): Path<(String, String)>,
) -> Result<String, (StatusCode, String)> {
    let broken = |error: &dyn std::error::Error| (StatusCode::BAD_GATEWAY, error.to_string());
    let request = Request::get(format!("/rate/{currency}"))
        .extension(Tenant(tenant))
        .body(Body::empty())
        .map_err(|error| broken(&error))?;
    let answer = rates.oneshot(request).await.map_err(refusal)?;
    if !answer.status().is_success() {
        let failed = format!("the rate service says {}", answer.status());
        return Err((StatusCode::BAD_GATEWAY, failed));
    }
    let rate = text(answer).await.map_err(|error| broken(&error))?;
    let rate: f64 = rate.parse().map_err(|error| broken(&error))?;
    Ok(format!("{:.2} {currency}", 100.0 * rate))
}

/// Who refused decides the status, and the error knows when to come back.
fn refusal(error: GuardError<Infallible>) -> (StatusCode, String) {
    let status = match error.refused_by() {
        Some(Stage::RateLimit) => StatusCode::TOO_MANY_REQUESTS,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        None => StatusCode::GATEWAY_TIMEOUT,
    };
    let wait = error.retry_after().unwrap_or_default().as_secs_f64().ceil();
    (status, format!("come back in {wait} s"))
}

/// Stands for a service elsewhere.
fn rate_service() -> Router {
    let rate = |Path(currency): Path<String>| async move {
        match currency.as_str() {
            "EUR" => Ok("0.92"),
            _ => Err(StatusCode::INTERNAL_SERVER_ERROR),
        }
    };
    Router::new().route("/rate/{currency}", get(rate))
}

async fn text(answer: Response) -> Result<String, axum::Error> {
    let bytes = to_bytes(answer.into_body(), usize::MAX).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
