//! What would happen to a pod, and why it is as it is.

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use metropod::Array;

use super::handlers::{Answer, no_such_pod, pod_shape};
use super::shapes::{ExplanationShape, ForecastShape};

pub(super) fn routes() -> Router<Array> {
    Router::new()
        .route("/api/v1/pods/{pod}/forecast", get(forecast))
        .route("/api/v1/pods/{pod}/explain", get(explain))
}

async fn forecast(State(array): State<Array>, Path(name): Path<String>) -> Answer<ForecastShape> {
    let pod = pod_shape(&array, &name)?;
    let lines = array.forecast(&name).ok_or_else(no_such_pod)?;
    Ok(Json(ForecastShape::new(pod.name, lines)))
}

async fn explain(State(array): State<Array>, Path(name): Path<String>) -> Answer<ExplanationShape> {
    let mut pod = pod_shape(&array, &name)?;
    // It may have been eradicated in between.
    let why = array.explain(&name).ok_or_else(no_such_pod)?;
    let own = pod.arrays.swap_remove(0);
    Ok(Json(ExplanationShape::new(pod.name, own.name, why)))
}
