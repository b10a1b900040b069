//! The REST API under `/api/v1`, its description, health and metrics.
//!
//! An [`Array`] goes in, HTTP answers come out. Every management verb of the command line is a client of it.
//!
//! - A1: whatever arrives on the port, memory per connection stays bounded and the process stays up.
//! - A2: a request is answered within [`REQUEST_TIME_MAX`], if only to say that it is not done yet.
//! - A3: every error is JSON: what and why, what to do.

mod body;
mod handlers;
mod http;
mod lifecycle;
mod metrics;
mod openapi;
mod outlook;
mod refusal;
pub mod shapes;
mod space;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use metropod::Array;

pub use http::serve;

use body::BODY_BYTES_MAX;
use refusal::Refusal;

/// Longest time until a request is answered.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// The API of `array`.
pub fn router(array: Array) -> Router {
    Router::new()
        .route("/api/v1/array", get(handlers::array))
        .route("/api/v1/array/collect", post(handlers::collect))
        .route("/api/v1/array/space", get(space::space).post(space::count))
        .route("/api/v1/array/scrub", get(handlers::scrub).post(handlers::start_scrub))
        .route("/api/v1/array/scrub/stop", post(handlers::stop_scrub))
        .route("/api/v1/array/connection-key", post(handlers::connection_key))
        .route("/api/v1/array/connections", get(handlers::connections).post(handlers::connect))
        .route("/api/v1/pods", get(handlers::pods).post(handlers::create_pod))
        .route("/api/v1/pods/{pod}", get(handlers::pod).merge(patch(handlers::set_pod)))
        .route("/api/v1/pods/{pod}/stretch", post(handlers::stretch))
        .route("/api/v1/pods/{pod}/switch", post(handlers::switch))
        .route("/api/v1/pods/{pod}/unstretch", post(handlers::unstretch))
        .merge(outlook::routes())
        .merge(lifecycle::routes())
        .route("/api/v1/volumes", get(handlers::volumes).post(handlers::create_volume))
        .route("/api/v1/volumes/{volume}", get(handlers::volume).merge(patch(handlers::set_volume)))
        .route("/api/v1/snapshots", get(handlers::snapshots).post(handlers::create_snapshot))
        .route("/openapi.json", get(openapi::document))
        .route("/healthz", get(handlers::health))
        .route("/metrics", get(metrics::text))
        .fallback(nothing_there)
        .method_not_allowed_fallback(not_that_way)
        .layer(middleware::from_fn(in_time))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(array)
}

async fn nothing_there() -> Refusal {
    Refusal::not_found("no such resource", "see /openapi.json")
}

async fn not_that_way() -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "the resource does not know that method",
        "see /openapi.json",
    )
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("not done within {} s: the pod may be paused", REQUEST_TIME_MAX.as_secs()),
            "look at `metropod pod list`, then whether it was done, then try again",
        )
        .into_response(),
    }
}
