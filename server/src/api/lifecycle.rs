//! What the API does with pods, volumes and snapshots after they were made.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use metropod::Array;

use super::body::Body;
use super::handlers::{Answer, pod_shape, volume_shape};
use super::refusal::Refusal;
use super::shapes::{
    ContentsRequest, DiffShape, EradicatedShape, MoveRequest, OverwriteRequest, PodShape, SnapshotShape,
    VolumeShape,
};

/// Most ranges in the answer to a comparison.
const RANGES_MAX: usize = 100_000;

/// Longest time that a volume is measured for.
const MEASURE_TIME_MAX: Duration = Duration::from_secs(20);

type Named = Path<String>;

pub(super) fn routes() -> Router<Array> {
    Router::new()
        .route("/api/v1/pods/{pod}/destroy", post(destroy_pod))
        .route("/api/v1/pods/{pod}/recover", post(recover_pod))
        .route("/api/v1/pods/{pod}/eradicate", post(eradicate_pod))
        .route("/api/v1/volumes/{volume}/overwrite", post(overwrite))
        .route("/api/v1/volumes/{volume}/move", post(move_volume))
        .route("/api/v1/volumes/{volume}/destroy", post(destroy_volume))
        .route("/api/v1/volumes/{volume}/recover", post(recover_volume))
        .route("/api/v1/volumes/{volume}/eradicate", post(eradicate_volume))
        .route("/api/v1/volumes/{volume}/space", get(space))
        .route("/api/v1/diff/{first}/{second}", get(diff))
        .route("/api/v1/snapshots/{snapshot}", get(snapshot))
        .route("/api/v1/snapshots/{snapshot}/restore", post(restore))
        .route("/api/v1/snapshots/{snapshot}/destroy", post(destroy_snapshot))
        .route("/api/v1/snapshots/{snapshot}/recover", post(recover_snapshot))
        .route("/api/v1/snapshots/{snapshot}/eradicate", post(eradicate_snapshot))
}

async fn destroy_pod(
    State(array): State<Array>,
    Path(name): Named,
    Body(request): Body<ContentsRequest>,
) -> Answer<PodShape> {
    array.destroy_pod(&name, request.contents).await?;
    pod_shape(&array, &name).map(Json)
}

async fn recover_pod(State(array): State<Array>, Path(name): Named) -> Answer<PodShape> {
    array.recover_pod(&name).await?;
    pod_shape(&array, &name).map(Json)
}

async fn eradicate_pod(
    State(array): State<Array>,
    Path(name): Named,
    Body(request): Body<ContentsRequest>,
) -> Answer<EradicatedShape> {
    array.eradicate_pod(&name, request.contents).await?;
    Ok(Json(EradicatedShape { name }))
}

async fn overwrite(
    State(array): State<Array>,
    Path(name): Named,
    Body(request): Body<OverwriteRequest>,
) -> Answer<VolumeShape> {
    array.overwrite_volume(&request.source, &name).await?;
    volume_shape(&array, &name).map(Json)
}

/// The volume as it is called then.
async fn move_volume(
    State(array): State<Array>,
    Path(name): Named,
    Body(request): Body<MoveRequest>,
) -> Answer<VolumeShape> {
    array.move_volume(&name, &request.pod).await?;
    let volume = name.split_once("::").map_or(name.as_str(), |(_, volume)| volume);
    volume_shape(&array, &format!("{}::{volume}", request.pod)).map(Json)
}

async fn destroy_volume(State(array): State<Array>, Path(name): Named) -> Answer<VolumeShape> {
    array.destroy_volume(&name).await?;
    volume_shape(&array, &name).map(Json)
}

async fn recover_volume(State(array): State<Array>, Path(name): Named) -> Answer<VolumeShape> {
    array.recover_volume(&name).await?;
    volume_shape(&array, &name).map(Json)
}

async fn eradicate_volume(State(array): State<Array>, Path(name): Named) -> Answer<EradicatedShape> {
    array.eradicate_volume(&name).await?;
    Ok(Json(EradicatedShape { name }))
}

/// The volume with what can be measured, as far as that is done in time.
async fn space(State(array): State<Array>, Path(name): Named) -> Answer<VolumeShape> {
    let mut shape = volume_shape(&array, &name)?;
    if let Ok(measured) = tokio::time::timeout(MEASURE_TIME_MAX, array.logical_bytes(&name)).await {
        shape.logical_bytes = Some(measured?);
    }
    Ok(Json(shape))
}

async fn diff(
    State(array): State<Array>,
    Path((first, second)): Path<(String, String)>,
) -> Answer<DiffShape> {
    let diff = array.diff(&first, &second, RANGES_MAX).await?;
    Ok(Json(DiffShape::new(first, second, diff)))
}

async fn snapshot(State(array): State<Array>, Path(name): Named) -> Answer<SnapshotShape> {
    snapshot_shape(&array, &name).map(Json)
}

async fn restore(State(array): State<Array>, Path(name): Named) -> Answer<VolumeShape> {
    array.restore_snapshot(&name).await?;
    let volume = name.split_once('.').map_or(name.as_str(), |(volume, _)| volume);
    volume_shape(&array, volume).map(Json)
}

async fn destroy_snapshot(State(array): State<Array>, Path(name): Named) -> Answer<SnapshotShape> {
    array.destroy_snapshot(&name).await?;
    snapshot_shape(&array, &name).map(Json)
}

async fn recover_snapshot(State(array): State<Array>, Path(name): Named) -> Answer<SnapshotShape> {
    array.recover_snapshot(&name).await?;
    snapshot_shape(&array, &name).map(Json)
}

async fn eradicate_snapshot(State(array): State<Array>, Path(name): Named) -> Answer<EradicatedShape> {
    array.eradicate_snapshot(&name).await?;
    Ok(Json(EradicatedShape { name }))
}

fn snapshot_shape(array: &Array, name: &str) -> Result<SnapshotShape, Refusal> {
    let found = array.snapshots().into_iter().find(|snapshot| snapshot.name.eq_ignore_ascii_case(name));
    match found {
        Some(snapshot) => Ok(snapshot.into()),
        None => Err(Refusal::not_found("no such snapshot at this array", "see `metropod snapshot list`")),
    }
}
