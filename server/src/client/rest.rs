//! The REST API as a client sees it: several arrays, tried in order.
//!
//! - R1: a request that may have been carried out is not sent to the next array; only one that reached nobody is.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::shapes::{
    ArrayShape, ConnectRequest, ConnectedShape, ConnectionShape, CountShape, CreatePodRequest,
    CreateSnapshotRequest, CreateVolumeRequest, ErrorShape, ExplanationShape, ForecastShape, KeyShape,
    PodShape, ScrubShape, SnapshotShape, StretchRequest, SwitchRequest, UnstretchRequest, VolumeShape,
};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// Longer than the server takes to say that it is not done.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(40);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Not an address of an API.
    #[error("{url:?} is no API address; give one such as http://127.0.0.1:8750")]
    Url {
        /// What was given.
        url: String,
    },
    /// Nobody answered.
    #[error("no array answers at {tried}: {why}; is it running, and is --api or METROPOD_API right?")]
    Unreachable {
        /// Where, separated by commas.
        tried: String,
        /// What the last one met.
        why: String,
    },
    /// The connection broke with the request under way.
    #[error("{url} did not finish its answer: {why}; look whether the request was carried out")]
    Broken {
        /// Who.
        url: String,
        /// How.
        why: String,
    },
    /// The array refused.
    #[error("{}; {}", .shape.error, .shape.remedy)]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        shape: ErrorShape,
    },
    /// Something else answered.
    #[error("{url} does not answer as an array of this version does (HTTP status {status}); check --api")]
    Foreign {
        /// Who.
        url: String,
        /// HTTP status.
        status: u16,
    },
}

/// A client of one or several arrays.
#[derive(Debug, Clone)]
pub struct Client {
    bases: Vec<String>,
    agent: ureq::Agent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Patch,
}

impl Client {
    /// For the arrays at these URLs.
    pub fn new<S: AsRef<str>>(urls: &[S]) -> Result<Client, ClientError> {
        let bases: Vec<String> = urls.iter().map(|url| base(url.as_ref())).collect::<Result<_, _>>()?;
        if bases.is_empty() {
            return Err(ClientError::Url { url: String::new() });
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_global(Some(ANSWER_TIME_MAX))
            .build()
            .into();
        Ok(Client { bases, agent })
    }

    /// The array.
    pub fn array(&self) -> Result<ArrayShape, ClientError> {
        self.get("array")
    }

    /// Asks for a collection; gives the array as it was before.
    pub fn collect(&self) -> Result<ArrayShape, ClientError> {
        self.send(Method::Post, "array/collect", &serde_json::json!({}))
    }

    /// Whose the space is, as of the newest count.
    pub fn space(&self) -> Result<CountShape, ClientError> {
        self.get("array/space")
    }

    /// Asks for a count; gives what there is before.
    pub fn count_space(&self) -> Result<CountShape, ClientError> {
        self.send(Method::Post, "array/space", &serde_json::json!({}))
    }

    /// How far the scrub is, or how the last one ended.
    pub fn scrub(&self) -> Result<ScrubShape, ClientError> {
        self.get("array/scrub")
    }

    /// Begins a scrub; one that is under way goes on.
    pub fn start_scrub(&self) -> Result<ScrubShape, ClientError> {
        self.send(Method::Post, "array/scrub", &serde_json::json!({}))
    }

    /// Stops the scrub.
    pub fn stop_scrub(&self) -> Result<ScrubShape, ClientError> {
        self.send(Method::Post, "array/scrub/stop", &serde_json::json!({}))
    }

    /// A one-time connection key.
    pub fn connection_key(&self) -> Result<KeyShape, ClientError> {
        self.send(Method::Post, "array/connection-key", &serde_json::json!({}))
    }

    /// Connects the array to another.
    pub fn connect(&self, address: &str, key: &str) -> Result<ConnectedShape, ClientError> {
        let request = ConnectRequest { address: address.to_owned(), key: key.to_owned() };
        self.send(Method::Post, "array/connections", &request)
    }

    /// Connected arrays.
    pub fn connections(&self) -> Result<Vec<ConnectionShape>, ClientError> {
        self.get("array/connections")
    }

    /// Pods.
    pub fn pods(&self) -> Result<Vec<PodShape>, ClientError> {
        self.get("pods")
    }

    /// One pod.
    pub fn pod(&self, pod: &str) -> Result<PodShape, ClientError> {
        self.get(&format!("pods/{}", segment(pod)))
    }

    /// Who would go on with a pod after each possible loss.
    pub fn forecast(&self, pod: &str) -> Result<ForecastShape, ClientError> {
        self.get(&format!("pods/{}/forecast", segment(pod)))
    }

    /// Why a pod is as it is at the array that answers.
    pub fn explain(&self, pod: &str) -> Result<ExplanationShape, ClientError> {
        self.get(&format!("pods/{}/explain", segment(pod)))
    }

    /// Makes a pod.
    pub fn create_pod(&self, pod: &str) -> Result<PodShape, ClientError> {
        self.send(Method::Post, "pods", &CreatePodRequest { name: pod.to_owned() })
    }

    /// Stretches a pod.
    pub fn stretch(&self, pod: &str, array: &str) -> Result<PodShape, ClientError> {
        let request = StretchRequest { array: array.to_owned() };
        self.send(Method::Post, &format!("pods/{}/stretch", segment(pod)), &request)
    }

    /// Has an array of a stretched pod order its writes.
    pub fn switch(&self, pod: &str, array: &str) -> Result<PodShape, ClientError> {
        let request = SwitchRequest { array: array.to_owned() };
        self.send(Method::Post, &format!("pods/{}/switch", segment(pod)), &request)
    }

    /// Takes a stretched pod from one of its arrays.
    pub fn unstretch(&self, pod: &str, array: &str, with_unknown: bool) -> Result<PodShape, ClientError> {
        let request = UnstretchRequest { array: array.to_owned(), with_unknown };
        self.send(Method::Post, &format!("pods/{}/unstretch", segment(pod)), &request)
    }

    /// Volumes.
    pub fn volumes(&self) -> Result<Vec<VolumeShape>, ClientError> {
        self.get("volumes")
    }

    /// One volume.
    pub fn volume(&self, volume: &str) -> Result<VolumeShape, ClientError> {
        self.get(&format!("volumes/{}", segment(volume)))
    }

    /// Makes an empty volume.
    pub fn create_volume(&self, volume: &str, size_bytes: u64) -> Result<VolumeShape, ClientError> {
        let request =
            CreateVolumeRequest { name: volume.to_owned(), size_bytes: Some(size_bytes), source: None };
        self.send(Method::Post, "volumes", &request)
    }

    /// Makes a volume with the content of another or of a snapshot.
    pub fn copy_volume(&self, source: &str, volume: &str) -> Result<VolumeShape, ClientError> {
        let request = CreateVolumeRequest {
            name: volume.to_owned(),
            size_bytes: None,
            source: Some(source.to_owned()),
        };
        self.send(Method::Post, "volumes", &request)
    }

    /// Snapshots.
    pub fn snapshots(&self) -> Result<Vec<SnapshotShape>, ClientError> {
        self.get("snapshots")
    }

    /// Takes snapshots.
    pub fn create_snapshot(&self, of: &str, suffix: Option<&str>) -> Result<Vec<SnapshotShape>, ClientError> {
        let request = CreateSnapshotRequest { of: of.to_owned(), suffix: suffix.map(str::to_owned) };
        self.send(Method::Post, "snapshots", &request)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::Get, path, Vec::new())
    }

    pub(super) fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(request).expect("requests are plain structures");
        self.ask(method, path, body)
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T, ClientError> {
        let mut last = String::new();
        for base in &self.bases {
            let url = format!("{base}/api/v1/{path}");
            let sent = match method {
                Method::Get => self.agent.get(&url).call(),
                Method::Post => self.agent.post(&url).content_type("application/json").send(&body),
                Method::Patch => self.agent.patch(&url).content_type("application/json").send(&body),
            };
            match sent {
                Ok(response) => return read(base, response),
                Err(error) if method == Method::Get || reached_nobody(&error) => last = error.to_string(),
                Err(error) => return Err(ClientError::Broken { url: base.clone(), why: error.to_string() }),
            }
        }
        Err(ClientError::Unreachable { tried: self.bases.join(", "), why: last })
    }
}

fn read<T: DeserializeOwned>(
    base: &str,
    mut response: ureq::http::Response<ureq::Body>,
) -> Result<T, ClientError> {
    let status = response.status();
    let bytes = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_vec()
        .map_err(|error| ClientError::Broken { url: base.to_owned(), why: error.to_string() })?;
    let foreign = || ClientError::Foreign { url: base.to_owned(), status: status.as_u16() };
    if status.is_success() {
        serde_json::from_slice(&bytes).map_err(|_| foreign())
    } else {
        let shape: ErrorShape = serde_json::from_slice(&bytes).map_err(|_| foreign())?;
        Err(ClientError::Refused { status: status.as_u16(), shape })
    }
}

/// Whether the request cannot have been received by anyone.
fn reached_nobody(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        ureq::Error::Timeout(which) => *which == ureq::Timeout::Connect || *which == ureq::Timeout::Resolve,
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}

fn base(url: &str) -> Result<String, ClientError> {
    let text = url.trim();
    let authority = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some(_) => "",
        None => text,
    };
    let base = format!("http://{}", authority.trim_end_matches('/'));
    if base.len() > "http://".len() && base.parse::<ureq::http::Uri>().is_ok() {
        Ok(base)
    } else {
        Err(ClientError::Url { url: url.to_owned() })
    }
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut before = b'.';
    for byte in name.bytes() {
        // A dot stands between names; `.` and `..` would be directories.
        let plain = match byte {
            b'.' => before.is_ascii_alphanumeric(),
            _ => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'_'),
        };
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        before = byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_a_scheme_are_http() {
        assert_eq!(base("127.0.0.1:1/").unwrap(), "http://127.0.0.1:1");
        assert_eq!(base(" http://a:1 ").unwrap(), "http://a:1");
        for bad in ["", "https://a", "ftp://a", "http://", "a b"] {
            assert!(matches!(base(bad), Err(ClientError::Url { .. })), "{bad}");
        }
    }

    #[test]
    fn names_cannot_leave_their_segment() {
        assert_eq!(segment("p::v.snap"), "p::v.snap");
        assert_eq!(segment("../x y?#"), "%2E%2E%2Fx%20y%3F%23");
    }

    #[test]
    fn an_array_that_is_not_there_is_said_so() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = Client::new(&[format!("http://{free}")]).unwrap();
        let error = client.create_pod("p").unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    }
}
