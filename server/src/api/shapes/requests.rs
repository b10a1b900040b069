//! Bodies of requests. A field that is missing and one that is `null` may mean different things: see each.

use serde::{Deserialize, Deserializer, Serialize};

/// Body of `POST /api/v1/array/connections`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// `HOST:PORT` the other array listens on.
    pub address: String,
    /// Its connection key.
    pub key: String,
}

/// Body of `POST /api/v1/pods`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreatePodRequest {
    /// Name.
    pub name: String,
}

/// Body of `PATCH /api/v1/pods/{pod}`: what is missing stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPodRequest {
    /// The preferred array; `null` for none.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub failover_preference: Option<Option<String>>,
    /// Bound on the sum of the volumes' sizes; `null` for none.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<Option<u64>>,
    /// How long what is destroyed can be recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eradication_delay_ms: Option<u64>,
}

/// Body of `POST /api/v1/pods/{pod}/destroy` and `/eradicate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentsRequest {
    /// Even if the pod holds volumes.
    #[serde(default)]
    pub contents: bool,
}

/// Body of `PATCH /api/v1/volumes/{volume}`: what is missing stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetVolumeRequest {
    /// New size, a multiple of 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Whether the volume may lose what lies beyond a smaller size.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncate: bool,
    /// Requests in a second at each array; `null` for no limit.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub iops_limit: Option<Option<u64>>,
    /// Bytes in a second at each array; `null` for no limit.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub bandwidth_limit_bytes_per_s: Option<Option<u64>>,
}

/// Body of `POST /api/v1/volumes/{volume}/overwrite`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverwriteRequest {
    /// `pod::volume` or `pod::volume.suffix` whose content the volume gets.
    pub source: String,
}

/// Body of `POST /api/v1/volumes/{volume}/move`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The pod of this array that the volume goes to.
    pub pod: String,
}

/// Body of `POST /api/v1/pods/{pod}/stretch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StretchRequest {
    /// A connected array.
    pub array: String,
}

/// Body of `POST /api/v1/pods/{pod}/switch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchRequest {
    /// The array that is to order.
    pub array: String,
}

/// Body of `POST /api/v1/pods/{pod}/unstretch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnstretchRequest {
    /// The array that is to hold the pod no more.
    pub array: String,
    /// Also if the other array is not heard.
    #[serde(default)]
    pub with_unknown: bool,
}

/// Body of `POST /api/v1/volumes`: an empty volume of a size, or a clone of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateVolumeRequest {
    /// `pod::volume`.
    pub name: String,
    /// Size of an empty volume, a multiple of 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// `pod::volume` or `pod::volume.suffix` to clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Body of `POST /api/v1/snapshots`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshotRequest {
    /// `pod::volume`, or `pod` for all its volumes in one cut.
    pub of: String,
    /// What follows the dot; made from the time if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
}

/// A field that is there, if only as `null`.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(input: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(input).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_clears_and_missing_leaves_alone() {
        let read = |text: &str| serde_json::from_str::<SetPodRequest>(text).unwrap();
        assert_eq!(read("{}"), SetPodRequest::default());
        assert_eq!(read("{\"quota_bytes\": null}").quota_bytes, Some(None));
        assert_eq!(read("{\"quota_bytes\": 7}").quota_bytes, Some(Some(7)));
        for text in ["{}", "{\"quota_bytes\":null}", "{\"failover_preference\":\"A\"}"] {
            assert_eq!(serde_json::to_string(&read(text)).unwrap(), text);
        }
    }
}
