//! Request bodies: JSON, small, complete; anything else is refused in words.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::refusal::Refusal;

/// Longest request body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;

/// A body of type `T`.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Refusal> {
        let bytes = Bytes::from_request(request, state).await.map_err(refuse)?;
        // `Option` fields may be missing; an empty body is an empty document.
        let text = if bytes.is_empty() { b"{}" } else { bytes.as_ref() };
        serde_json::from_slice(text)
            .map(Body)
            .map_err(|error| Refusal::malformed(format!("the request's body: {error}")))
    }
}

fn refuse(rejection: BytesRejection) -> Refusal {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request's body is longer than {BODY_BYTES_MAX} bytes"),
            "see /openapi.json",
        ),
        _ => Refusal::malformed("the request's body did not arrive"),
    }
}
