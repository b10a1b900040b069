//! What each resource of the API does with the array.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use metropod::{Array, Limits};
use serde_json::{Value, json};

use super::body::Body;
use super::refusal::Refusal;
use super::shapes::{
    ArrayShape, ConnectRequest, ConnectedShape, ConnectionShape, CreatePodRequest, CreateSnapshotRequest,
    CreateVolumeRequest, KeyShape, PodShape, ScrubShape, SetPodRequest, SetVolumeRequest, SnapshotShape,
    StretchRequest, SwitchRequest, UnstretchRequest, VolumeShape,
};

pub(super) type Answer<T> = Result<Json<T>, Refusal>;
type Made<T> = Result<(StatusCode, Json<T>), Refusal>;

pub(super) async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

pub(super) async fn array(State(array): State<Array>) -> Json<ArrayShape> {
    Json(ArrayShape::new(array.status(), array.alarms()))
}

/// Answers at once; `collection.answered` of the array rises when it is done.
pub(super) async fn collect(State(array): State<Array>) -> (StatusCode, Json<ArrayShape>) {
    let before = ArrayShape::new(array.status(), array.alarms());
    tokio::spawn(async move {
        if let Err(error) = array.collect().await {
            tracing::warn!(%error, "a collection that was asked for failed");
        }
    });
    (StatusCode::ACCEPTED, Json(before))
}

pub(super) async fn scrub(State(array): State<Array>) -> Json<ScrubShape> {
    Json(array.scrub().into())
}

pub(super) async fn start_scrub(State(array): State<Array>) -> Made<ScrubShape> {
    array.scrub_start().await?;
    Ok((StatusCode::ACCEPTED, Json(array.scrub().into())))
}

pub(super) async fn stop_scrub(State(array): State<Array>) -> Answer<ScrubShape> {
    array.scrub_stop().await?;
    Ok(Json(array.scrub().into()))
}

pub(super) async fn connection_key(State(array): State<Array>) -> Made<KeyShape> {
    let key = blocking(move || array.connection_key()).await?;
    Ok((StatusCode::CREATED, Json(KeyShape { key: key? })))
}

pub(super) async fn connections(State(array): State<Array>) -> Json<Vec<ConnectionShape>> {
    Json(array.connections().into_iter().map(ConnectionShape::from).collect())
}

pub(super) async fn connect(
    State(array): State<Array>,
    Body(request): Body<ConnectRequest>,
) -> Made<ConnectedShape> {
    let name = blocking(move || {
        let address = resolve(&request.address)?;
        array.connect(address, &request.key).map_err(Refusal::from)
    })
    .await??;
    Ok((StatusCode::CREATED, Json(ConnectedShape { name })))
}

pub(super) async fn pods(State(array): State<Array>) -> Json<Vec<PodShape>> {
    Json(array.pods().into_iter().map(PodShape::from).collect())
}

pub(super) async fn pod(State(array): State<Array>, Path(name): Path<String>) -> Answer<PodShape> {
    pod_shape(&array, &name).map(Json)
}

pub(super) async fn create_pod(
    State(array): State<Array>,
    Body(request): Body<CreatePodRequest>,
) -> Made<PodShape> {
    array.create_pod(&request.name).await?;
    Ok((StatusCode::CREATED, Json(pod_shape(&array, &request.name)?)))
}

pub(super) async fn set_pod(
    State(array): State<Array>,
    Path(name): Path<String>,
    Body(request): Body<SetPodRequest>,
) -> Answer<PodShape> {
    if request == SetPodRequest::default() {
        return Err(Refusal::malformed("there is nothing to set"));
    }
    if let Some(preference) = request.failover_preference {
        array.set_preference(&name, preference.as_deref()).await?;
    }
    if let Some(quota_bytes) = request.quota_bytes {
        array.set_quota(&name, quota_bytes).await?;
    }
    if let Some(delay_ms) = request.eradication_delay_ms {
        array.set_eradication_delay(&name, Duration::from_millis(delay_ms)).await?;
    }
    pod_shape(&array, &name).map(Json)
}

pub(super) async fn stretch(
    State(array): State<Array>,
    Path(name): Path<String>,
    Body(request): Body<StretchRequest>,
) -> Made<PodShape> {
    array.stretch(&name, &request.array).await?;
    Ok((StatusCode::ACCEPTED, Json(pod_shape(&array, &name)?)))
}

pub(super) async fn switch(
    State(array): State<Array>,
    Path(name): Path<String>,
    Body(request): Body<SwitchRequest>,
) -> Made<PodShape> {
    array.switch(&name, &request.array).await?;
    Ok((StatusCode::ACCEPTED, Json(pod_shape(&array, &name)?)))
}

pub(super) async fn unstretch(
    State(array): State<Array>,
    Path(name): Path<String>,
    Body(request): Body<UnstretchRequest>,
) -> Made<PodShape> {
    array.unstretch(&name, &request.array, request.with_unknown).await?;
    Ok((StatusCode::ACCEPTED, Json(pod_shape(&array, &name)?)))
}

pub(super) async fn volumes(State(array): State<Array>) -> Json<Vec<VolumeShape>> {
    Json(array.volumes().into_iter().map(VolumeShape::from).collect())
}

pub(super) async fn volume(State(array): State<Array>, Path(name): Path<String>) -> Answer<VolumeShape> {
    volume_shape(&array, &name).map(Json)
}

pub(super) async fn create_volume(
    State(array): State<Array>,
    Body(request): Body<CreateVolumeRequest>,
) -> Made<VolumeShape> {
    match (request.size_bytes, &request.source) {
        (Some(size_bytes), None) => array.create_volume(&request.name, size_bytes).await?,
        (None, Some(source)) => array.clone_volume(source, &request.name).await?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(Refusal::malformed("a volume has a size_bytes or a source, one of the two"));
        }
    };
    Ok((StatusCode::CREATED, Json(volume_shape(&array, &request.name)?)))
}

pub(super) async fn set_volume(
    State(array): State<Array>,
    Path(name): Path<String>,
    Body(request): Body<SetVolumeRequest>,
) -> Answer<VolumeShape> {
    if (SetVolumeRequest { truncate: false, ..request.clone() }) == SetVolumeRequest::default() {
        return Err(Refusal::malformed("there is nothing to set"));
    }
    if let Some(size_bytes) = request.size_bytes {
        array.resize_volume(&name, size_bytes, request.truncate).await?;
    }
    if request.iops_limit.is_some() || request.bandwidth_limit_bytes_per_s.is_some() {
        let now = volume_shape(&array, &name)?;
        let iops = request.iops_limit.unwrap_or(now.iops_limit).unwrap_or(0);
        let bandwidth = request.bandwidth_limit_bytes_per_s.unwrap_or(now.bandwidth_limit_bytes_per_s);
        array.set_limits(&name, Limits { iops, bytes_per_s: bandwidth.unwrap_or(0) }).await?;
    }
    volume_shape(&array, &name).map(Json)
}

pub(super) async fn snapshots(State(array): State<Array>) -> Json<Vec<SnapshotShape>> {
    Json(array.snapshots().into_iter().map(SnapshotShape::from).collect())
}

pub(super) async fn create_snapshot(
    State(array): State<Array>,
    Body(request): Body<CreateSnapshotRequest>,
) -> Made<Vec<SnapshotShape>> {
    let taken = array.create_snapshot(&request.of, request.suffix.as_deref()).await?;
    let shapes = array
        .snapshots()
        .into_iter()
        .filter(|snapshot| taken.iter().any(|name| name.eq_ignore_ascii_case(&snapshot.name)))
        .map(SnapshotShape::from)
        .collect();
    Ok((StatusCode::CREATED, Json(shapes)))
}

pub(super) fn pod_shape(array: &Array, name: &str) -> Result<PodShape, Refusal> {
    match array.pod(name) {
        Some(pod) => Ok(pod.into()),
        None => Err(no_such_pod()),
    }
}

pub(super) fn no_such_pod() -> Refusal {
    Refusal::not_found("no such pod at this array", "see `metropod pod list`")
}

pub(super) fn volume_shape(array: &Array, name: &str) -> Result<VolumeShape, Refusal> {
    let found = array.volumes().into_iter().find(|volume| volume.name.eq_ignore_ascii_case(name));
    match found {
        Some(volume) => Ok(volume.into()),
        None => Err(Refusal::not_found("no such volume at this array", "see `metropod volume list`")),
    }
}

fn resolve(address: &str) -> Result<SocketAddr, Refusal> {
    let unusable = |why: String| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the address {address:?} cannot be used: {why}"),
            "give the other array's HOST:PORT",
        )
    };
    let mut found = address.to_socket_addrs().map_err(|error| unusable(error.to_string()))?;
    found.next().ok_or_else(|| unusable("the host has no address".to_owned()))
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the request met a bug", "see the array's log")
    })
}
