//! `/openapi.json`: the API's description, kept beside the code it describes.

use axum::Json;
use serde_json::{Map, Value, json};

pub(super) async fn document() -> Json<Value> {
    Json(describe())
}

/// One operation: path, method, summary, request schema, answer's status, answer schema.
type Operation = (&'static str, &'static str, &'static str, Option<&'static str>, u16, Schema);

enum Schema {
    One(&'static str),
    Many(&'static str),
    Text,
}

use Schema::{Many, One, Text};

const OPERATIONS: [Operation; 43] = [
    ("/api/v1/array", "get", "The array", None, 200, One("Array")),
    (
        "/api/v1/array/collect",
        "post",
        "Gives back the space of what nothing refers to; collection.answered rises when it is done",
        None,
        202,
        One("Array"),
    ),
    ("/api/v1/array/space", "get", "Whose the space is, as of the newest count", None, 200, One("Space")),
    (
        "/api/v1/array/space",
        "post",
        "Counts whose the space is now; answered rises when it is done",
        None,
        202,
        One("Space"),
    ),
    (
        "/api/v1/array/scrub",
        "get",
        "How far the scrub is, or how the last one ended",
        None,
        200,
        One("Scrub"),
    ),
    (
        "/api/v1/array/scrub",
        "post",
        "Begins to read and prove everything stored; one that is under way goes on",
        None,
        202,
        One("Scrub"),
    ),
    ("/api/v1/array/scrub/stop", "post", "Stops the scrub", None, 200, One("Scrub")),
    ("/api/v1/array/connection-key", "post", "Makes a one-time connection key", None, 201, One("Key")),
    ("/api/v1/array/connections", "get", "Connected arrays", None, 200, Many("Connection")),
    (
        "/api/v1/array/connections",
        "post",
        "Connects to an array",
        Some("ConnectRequest"),
        201,
        One("Connected"),
    ),
    ("/api/v1/pods", "get", "Pods", None, 200, Many("Pod")),
    ("/api/v1/pods", "post", "Makes a pod", Some("CreatePodRequest"), 201, One("Pod")),
    ("/api/v1/pods/{pod}", "get", "One pod", None, 200, One("Pod")),
    ("/api/v1/pods/{pod}", "patch", "Changes a pod's settings", Some("SetPodRequest"), 200, One("Pod")),
    (
        "/api/v1/pods/{pod}/forecast",
        "get",
        "Which arrays go on after each possible loss, and why",
        None,
        200,
        One("Forecast"),
    ),
    (
        "/api/v1/pods/{pod}/explain",
        "get",
        "Why the pod is as it is at this array, and what was decided when",
        None,
        200,
        One("Explanation"),
    ),
    ("/api/v1/pods/{pod}/stretch", "post", "Stretches a pod", Some("StretchRequest"), 202, One("Pod")),
    (
        "/api/v1/pods/{pod}/switch",
        "post",
        "Has one array of a stretched pod order its writes",
        Some("SwitchRequest"),
        202,
        One("Pod"),
    ),
    (
        "/api/v1/pods/{pod}/unstretch",
        "post",
        "Takes a stretched pod from one of its arrays",
        Some("UnstretchRequest"),
        202,
        One("Pod"),
    ),
    (
        "/api/v1/pods/{pod}/destroy",
        "post",
        "Takes a pod out of use, until it is eradicated",
        Some("ContentsRequest"),
        200,
        One("Pod"),
    ),
    ("/api/v1/pods/{pod}/recover", "post", "Takes a destroyed pod into use again", None, 200, One("Pod")),
    (
        "/api/v1/pods/{pod}/eradicate",
        "post",
        "Removes a destroyed pod for good",
        Some("ContentsRequest"),
        200,
        One("Eradicated"),
    ),
    ("/api/v1/volumes", "get", "Volumes", None, 200, Many("Volume")),
    ("/api/v1/volumes", "post", "Makes or clones a volume", Some("CreateVolumeRequest"), 201, One("Volume")),
    ("/api/v1/volumes/{volume}", "get", "One volume (pod::volume)", None, 200, One("Volume")),
    (
        "/api/v1/volumes/{volume}",
        "patch",
        "Changes a volume's size or limits",
        Some("SetVolumeRequest"),
        200,
        One("Volume"),
    ),
    (
        "/api/v1/volumes/{volume}/overwrite",
        "post",
        "Gives a volume other content",
        Some("OverwriteRequest"),
        200,
        One("Volume"),
    ),
    (
        "/api/v1/volumes/{volume}/move",
        "post",
        "Moves a volume with its snapshots to another pod of the array",
        Some("MoveRequest"),
        200,
        One("Volume"),
    ),
    (
        "/api/v1/volumes/{volume}/destroy",
        "post",
        "Takes a volume out of use, until it is eradicated",
        None,
        200,
        One("Volume"),
    ),
    (
        "/api/v1/volumes/{volume}/recover",
        "post",
        "Takes a destroyed volume into use again",
        None,
        200,
        One("Volume"),
    ),
    (
        "/api/v1/volumes/{volume}/eradicate",
        "post",
        "Removes a destroyed volume for good",
        None,
        200,
        One("Eradicated"),
    ),
    (
        "/api/v1/volumes/{volume}/space",
        "get",
        "One volume with its space measured: reads the whole map; null if that takes too long",
        None,
        200,
        One("Volume"),
    ),
    ("/api/v1/diff/{first}/{second}", "get", "Where two volumes or snapshots differ", None, 200, One("Diff")),
    ("/api/v1/snapshots", "get", "Snapshots", None, 200, Many("Snapshot")),
    ("/api/v1/snapshots", "post", "Takes snapshots", Some("CreateSnapshotRequest"), 201, Many("Snapshot")),
    ("/api/v1/snapshots/{snapshot}", "get", "One snapshot (pod::volume.suffix)", None, 200, One("Snapshot")),
    (
        "/api/v1/snapshots/{snapshot}/restore",
        "post",
        "Gives the volume the snapshot's content",
        None,
        200,
        One("Volume"),
    ),
    (
        "/api/v1/snapshots/{snapshot}/destroy",
        "post",
        "Takes a snapshot out of use, until it is eradicated",
        None,
        200,
        One("Snapshot"),
    ),
    (
        "/api/v1/snapshots/{snapshot}/recover",
        "post",
        "Takes a destroyed snapshot into use again",
        None,
        200,
        One("Snapshot"),
    ),
    (
        "/api/v1/snapshots/{snapshot}/eradicate",
        "post",
        "Removes a destroyed snapshot for good",
        None,
        200,
        One("Eradicated"),
    ),
    ("/openapi.json", "get", "This document", None, 200, One("Any")),
    ("/healthz", "get", "Whether the array answers", None, 200, One("Any")),
    ("/metrics", "get", "Metrics in Prometheus' text format", None, 200, Text),
];

fn describe() -> Value {
    let mut paths = Map::new();
    for (path, method, summary, request, status, answer) in &OPERATIONS {
        let mut operation = json!({
            "summary": summary,
            "operationId": operation_id(method, path),
            "responses": {
                status.to_string(): {"description": "Done", "content": content(answer)},
                "default": {"description": "Refused or failed", "content": content(&One("Error"))},
            },
        });
        if let Some(request) = request {
            operation["requestBody"] = json!({"required": true, "content": content(&One(request))});
        }
        let item = paths.entry(*path).or_insert_with(|| json!({}));
        item[*method] = operation;
        let parameters: Vec<Value> = parameters(path)
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
            .collect();
        if !parameters.is_empty() {
            item["parameters"] = Value::Array(parameters);
        }
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Metropod",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Management of one array. Sizes are bytes, times milliseconds; what is not known is null.",
        },
        "paths": paths,
        "components": {"schemas": schemas()},
    })
}

fn content(schema: &Schema) -> Value {
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    match schema {
        One(name) => json!({"application/json": {"schema": reference(name)}}),
        Many(name) => json!({"application/json": {"schema": {"type": "array", "items": reference(name)}}}),
        Text => json!({"text/plain": {"schema": {"type": "string"}}}),
    }
}

fn operation_id(method: &str, path: &str) -> String {
    let words =
        path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !matches!(*word, "" | "api" | "v1"));
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

/// Names in braces.
fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name)
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "format": "int64", "minimum": 0});
    let flag = json!({"type": "boolean"});
    let maybe_text = json!({"type": "string", "nullable": true});
    let maybe_count = json!({"type": "integer", "format": "int64", "minimum": 0, "nullable": true});
    let maybe_number = json!({"type": "number", "nullable": true});
    let mediator = json!({"type": "string", "enum": ["online", "unreachable", "wrong", "unknown"]});
    let pod_status = json!({
        "type": "string",
        "enum": ["online", "paused", "suspended", "baselining", "resyncing", "offline", "unknown"],
    });
    let link_status = json!({"type": "string", "enum": ["connected", "partially_connected", "connecting"]});
    let object = |fields: Value| {
        let names: Vec<&String> = fields.as_object().map(|map| map.keys().collect()).unwrap_or_default();
        json!({"type": "object", "required": names, "properties": fields})
    };
    let optional = |required: &[&str], fields: Value| json!({"type": "object", "required": required, "additionalProperties": false, "properties": fields});
    json!({
        "Any": {"type": "object"},
        "Error": object(json!({"error": text, "remedy": text})),
        "Key": object(json!({"key": text})),
        "Connected": object(json!({"name": text})),
        "Array": object(json!({
            "name": text, "id": text, "version": text, "listen": text, "mediator_status": mediator,
            "journal_bytes": count, "journal_budget_bytes": count, "chunks": count, "logical_bytes": count,
            "stored_bytes": count, "alarms": {"type": "array", "items": text},
            "space": object(json!({
                "used_bytes": count, "capacity_bytes": maybe_count, "free_bytes": maybe_count,
                "fresh_bytes": count,
            })),
            "collection": object(json!({
                "state": text, "passes": count, "failed": count, "dead_chunks": count, "dead_bytes": count,
                "freed_segments": count, "moved_bytes": count, "answered": count, "last_pass_ms": count,
            })),
        })),
        "Scrub": object(json!({
            "state": {"type": "string", "enum": ["idle", "running", "resting"]}, "bytes_done": count,
            "bytes_total": count, "segments_done": count, "segments_total": count, "records": count,
            "findings": count, "chunks_found": count, "chunks_repaired": count, "chunks_not_repairable": count,
            "listed": {"type": "array", "items": object(json!({
                "kind": {"type": "string", "enum": ["chunk", "stretch", "header", "footer", "file"]},
                "file": text, "digest": maybe_text, "repaired": flag,
            }))},
            "began_ms_ago": maybe_count, "ended_ms_ago": maybe_count, "eta_ms": maybe_count, "finished": count,
            "failed": count,
        })),
        "Connection": object(json!({
            "name": text, "id": text, "address": text, "status": link_status, "sync_up": flag, "bulk_up": flag,
        })),
        "Pod": object(json!({
            "name": text, "id": text, "epoch": object(json!({"era": count, "number": count})),
            "arrays": {"type": "array", "items": object(json!({
                "name": text, "status": pod_status, "sequencer": flag, "pre_elected": flag,
                "leaving": flag,
                "mediator_status": mediator, "progress": maybe_number, "recovery_point_ms": maybe_count,
                "resync": {"nullable": true, "allOf": [{"$ref": "#/components/schemas/Resync"}]},
            }))},
            "failover_preference": maybe_text, "volumes": count, "size_bytes": count, "quota_bytes": maybe_count,
            "provisioned_bytes": count, "eradication_delay_ms": count, "destroyed": flag,
            "eradicated_in_ms": maybe_count,
            "space": {"nullable": true, "allOf": [{"$ref": "#/components/schemas/PodSpace"}]},
        })),
        "Forecast": object(json!({
            "pod": text,
            "cuts": {"type": "array", "items": object(json!({
                "lost": {"type": "string", "enum": ["link", "array", "mediator", "link_and_mediator"]},
                "array": maybe_text,
                "outcome": {"type": "string", "enum": ["both", "one", "either", "nobody", "unknown"]},
                "online": {"type": "array", "items": text}, "because": text,
            }))},
        })),
        "Explanation": object(json!({
            "pod": text, "array": text, "status": pod_status,
            "epoch": object(json!({"era": count, "number": count})), "because": text, "until": maybe_text,
            "decisions": {"type": "array", "items": object(json!({
                "epoch": object(json!({"era": count, "number": count})), "index": count, "decided": text,
            }))},
        })),
        "PodSpace": object(json!({
            "as_of_ms_ago": count, "logical_bytes": count, "unique_bytes": count, "shared_bytes": count,
            "snapshots_bytes": count, "data_reduction": maybe_number, "total_reduction": maybe_number,
        })),
        "Space": object(json!({
            "newest": {"nullable": true, "allOf": [{"$ref": "#/components/schemas/SpaceShares"}]},
            "finished": count, "failed": count, "answered": count, "last_count_ms": count,
        })),
        "SpaceShares": object(json!({
            "as_of_ms_ago": count, "size_bytes": count, "logical_bytes": count, "unique_bytes": count,
            "shared_bytes": count, "snapshots_bytes": count, "held_bytes": count, "map_bytes": count,
            "unattributed_bytes": count, "staged_bytes": count, "cleanable_bytes": count,
            "overhead_bytes": {"type": "integer", "format": "int64"}, "freed_bytes": count, "used_bytes": count,
            "index_bytes": count, "journal_bytes": count, "missing_chunks": count,
            "data_reduction": maybe_number, "total_reduction": maybe_number,
        })),
        "Resync": object(json!({
            "bytes_logical": count, "bytes_done": count, "bytes_referenced": count, "bytes_compressed": count,
            "bytes_wire": count, "bytes_saved": count, "rate_bytes_per_s": count, "eta_ms": maybe_count,
        })),
        "Volume": object(json!({
            "name": text, "id": text, "size_bytes": count, "serial": text, "unique_bytes": maybe_count,
            "shared_bytes": maybe_count, "snapshots_bytes": maybe_count, "logical_bytes": maybe_count,
            "data_reduction": maybe_number, "total_reduction": maybe_number, "space_as_of_ms_ago": maybe_count,
            "iops_limit": maybe_count,
            "bandwidth_limit_bytes_per_s": maybe_count, "destroyed": flag, "eradicated_in_ms": maybe_count,
            "moving_to": maybe_text,
        })),
        "Snapshot": object(json!({
            "name": text, "size_bytes": count, "destroyed": flag, "eradicated_in_ms": maybe_count,
            "unique_bytes": maybe_count,
        })),
        "Eradicated": object(json!({"name": text})),
        "Diff": object(json!({
            "first": text, "second": text, "first_bytes": count, "second_bytes": count, "differing_bytes": count,
            "ranges": {"type": "array", "items": object(json!({
                "offset": count, "length": count, "zero_in_first": flag, "zero_in_second": flag,
            }))},
            "truncated": flag,
        })),
        "ConnectRequest": optional(&["address", "key"], json!({"address": text, "key": text})),
        "CreatePodRequest": optional(&["name"], json!({"name": text})),
        "SetPodRequest": optional(&[], json!({
            "failover_preference": maybe_text, "quota_bytes": maybe_count, "eradication_delay_ms": count,
        })),
        "ContentsRequest": optional(&[], json!({"contents": flag})),
        "SetVolumeRequest": optional(&[], json!({
            "size_bytes": count, "truncate": flag, "iops_limit": maybe_count,
            "bandwidth_limit_bytes_per_s": maybe_count,
        })),
        "MoveRequest": optional(&["pod"], json!({"pod": text})),
        "OverwriteRequest": optional(&["source"], json!({"source": text})),
        "StretchRequest": optional(&["array"], json!({"array": text})),
        "SwitchRequest": optional(&["array"], json!({"array": text})),
        "UnstretchRequest": optional(&["array"], json!({"array": text, "with_unknown": flag})),
        "CreateVolumeRequest": optional(&["name"], json!({"name": text, "size_bytes": count, "source": text})),
        "CreateSnapshotRequest": optional(&["of"], json!({"of": text, "suffix": text})),
    })
}

#[cfg(test)]
mod tests {
    use super::super::shapes::{
        CountShape, CutShape, DecisionShape, EpochShape, ExplanationShape, PodSideShape, PodSpaceShape,
        ResyncShape, SharesShape, VolumeShape,
    };
    use super::*;

    fn collect_references(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match (key.as_str(), value) {
                        ("$ref", Value::String(reference)) => into.push(reference.clone()),
                        _ => collect_references(value, into),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_has_its_schema() {
        let document = describe();
        let mut references = Vec::new();
        collect_references(&document, &mut references);
        assert!(references.len() > OPERATIONS.len());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn schemas_name_the_fields_that_answers_have() {
        let fields = |pointer: &str| -> Vec<String> {
            let properties =
                describe().pointer(&format!("/components/schemas/{pointer}/properties")).cloned();
            properties.unwrap().as_object().unwrap().keys().cloned().collect()
        };
        let keys = |value: Value| value.as_object().unwrap().keys().cloned().collect::<Vec<String>>();
        let volume = VolumeShape {
            name: String::new(),
            id: String::new(),
            size_bytes: 0,
            serial: String::new(),
            unique_bytes: None,
            shared_bytes: None,
            snapshots_bytes: None,
            logical_bytes: None,
            data_reduction: None,
            total_reduction: None,
            space_as_of_ms_ago: None,
            iops_limit: None,
            bandwidth_limit_bytes_per_s: None,
            destroyed: false,
            eradicated_in_ms: None,
            moving_to: None,
        };
        assert_eq!(fields("Volume"), keys(serde_json::to_value(volume).unwrap()));
        assert_eq!(fields("Space"), keys(serde_json::to_value(CountShape::default()).unwrap()));
        assert_eq!(fields("SpaceShares"), keys(serde_json::to_value(SharesShape::default()).unwrap()));
        assert_eq!(fields("PodSpace"), keys(serde_json::to_value(PodSpaceShape::default()).unwrap()));
        assert_eq!(fields("Resync"), keys(serde_json::to_value(ResyncShape::default()).unwrap()));
        let side = PodSideShape {
            name: String::new(),
            status: String::new(),
            sequencer: false,
            pre_elected: false,
            leaving: false,
            mediator_status: String::new(),
            progress: None,
            recovery_point_ms: None,
            resync: None,
        };
        assert_eq!(fields("Pod/properties/arrays/items"), keys(serde_json::to_value(side).unwrap()));
        let cut = CutShape {
            lost: String::new(),
            array: None,
            outcome: String::new(),
            online: Vec::new(),
            because: String::new(),
        };
        assert_eq!(fields("Forecast/properties/cuts/items"), keys(serde_json::to_value(cut).unwrap()));
        let epoch = EpochShape { era: 0, number: 0 };
        let why = ExplanationShape {
            pod: String::new(),
            array: String::new(),
            status: String::new(),
            epoch,
            because: String::new(),
            until: None,
            decisions: Vec::new(),
        };
        assert_eq!(fields("Explanation"), keys(serde_json::to_value(why).unwrap()));
        let decision = DecisionShape { epoch, index: 0, decided: String::new() };
        let decisions = "Explanation/properties/decisions/items";
        assert_eq!(fields(decisions), keys(serde_json::to_value(decision).unwrap()));
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let mut names: Vec<_> =
            OPERATIONS.iter().map(|(path, method, ..)| operation_id(method, path)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), OPERATIONS.len());
    }
}
