//! Whose the space is.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use metropod::Array;

use super::shapes::CountShape;

pub(super) async fn space(State(array): State<Array>) -> Json<CountShape> {
    Json(array.space().into())
}

/// Answers at once; `answered` rises when it is done.
pub(super) async fn count(State(array): State<Array>) -> (StatusCode, Json<CountShape>) {
    let before = array.space().into();
    tokio::spawn(async move {
        if let Err(error) = array.count_space().await {
            tracing::warn!(%error, "a count of the space that was asked for failed");
        }
    });
    (StatusCode::ACCEPTED, Json(before))
}
