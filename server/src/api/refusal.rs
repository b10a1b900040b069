//! Errors as the API tells them: a status, what and why, what to do.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use metropod::{ConnectError, ManageError, Refusal as Cause};

use super::shapes::ErrorShape;

/// Said where an error brings no advice of its own.
const LOOK_AT_LOG: &str = "see the array's log";

/// A refused or failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) shape: ErrorShape,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal { status, shape: ErrorShape { error: error.into(), remedy: remedy.into() } }
    }

    pub(super) fn not_found(what: &str, remedy: &str) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, what, remedy)
    }

    pub(super) fn malformed(error: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, error, "see /openapi.json")
    }

    /// From an error's text, whose advice follows a semicolon.
    fn of(status: StatusCode, error: &dyn std::error::Error, advice: &str) -> Refusal {
        let text = error.to_string();
        match text.split_once("; ") {
            Some((error, remedy)) => Refusal::new(status, error, remedy),
            None => Refusal::new(status, text, advice),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.shape)).into_response()
    }
}

impl From<ManageError> for Refusal {
    fn from(error: ManageError) -> Refusal {
        let (status, advice) = match error {
            ManageError::BadName => (StatusCode::BAD_REQUEST, "choose another name"),
            ManageError::OtherPod => (StatusCode::BAD_REQUEST, "copy within one pod"),
            ManageError::NoSuchArray => (StatusCode::NOT_FOUND, "see `metropod array connections`"),
            ManageError::Refused(cause) => cause_of(cause),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, LOOK_AT_LOG),
        };
        Refusal::of(status, &error, advice)
    }
}

impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Refusal {
        let status = match &error {
            ConnectError::Issue(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Refusal::of(
            status,
            &error,
            "check the address, and make a new key with `metropod array connection-key` there",
        )
    }
}

fn cause_of(cause: Cause) -> (StatusCode, &'static str) {
    match cause {
        Cause::NoSuchPod | Cause::NoSuchVolume | Cause::NoSuchSnapshot => {
            (StatusCode::NOT_FOUND, "see `metropod pod list` and `metropod volume list`")
        }
        Cause::BadSize | Cause::BadTruncation => (StatusCode::BAD_REQUEST, "choose another size"),
        Cause::PodExists
        | Cause::VolumeExists
        | Cause::SnapshotExists
        | Cause::NameClash
        | Cause::NameOfDestroyed => (StatusCode::CONFLICT, "choose another name"),
        Cause::WouldShrink | Cause::HasContents | Cause::Destroyed | Cause::NotDestroyed => {
            (StatusCode::CONFLICT, "see `metropod volume list`")
        }
        Cause::OverQuota | Cause::QuotaTooSmall => (StatusCode::CONFLICT, "see `metropod pod show`"),
        Cause::MoveToSamePod => (StatusCode::BAD_REQUEST, "see `metropod pod list`"),
        Cause::Moving => (StatusCode::CONFLICT, "see `metropod volume list`, and try again"),
        Cause::Stretched | Cause::MoveOfStretched | Cause::TargetDestroyed => {
            (StatusCode::CONFLICT, "see `metropod pod list`")
        }
        Cause::NotConnected | Cause::NotAMember => {
            (StatusCode::CONFLICT, "see `metropod array connections` and `metropod pod list`")
        }
        Cause::StretchedAlready => (StatusCode::CONFLICT, "see `metropod pod list`"),
        Cause::Offline => (StatusCode::CONFLICT, "ask the other array"),
        Cause::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, "make room on the array's file system"),
        Cause::Busy => (StatusCode::SERVICE_UNAVAILABLE, "try again"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, LOOK_AT_LOG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_told_apart_from_the_error() {
        let refusal = Refusal::from(ManageError::Refused(Cause::PodExists));
        assert_eq!(refusal.status, StatusCode::CONFLICT);
        assert_eq!(refusal.shape.error, "a pod of this name exists already");
        assert_eq!(refusal.shape.remedy, "choose another name");
        let refusal = Refusal::from(ManageError::Refused(Cause::BadSize));
        assert_eq!(
            (refusal.status, refusal.shape.remedy.as_str()),
            (StatusCode::BAD_REQUEST, "choose another size")
        );
    }
}
