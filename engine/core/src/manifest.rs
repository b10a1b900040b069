//! The manifest: everything a restart needs besides the journal, in one checked file.
//!
//! Bytes: docs/format.md, "Manifest". It names layers by id and place, trees by root, and carries the store's state
//! and every pod's protocol state.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use metropod_dedupe::Digest;
use metropod_journal::Lsn;
use metropod_protocol::{ArrayId, Chain, ConfigId, DurableState, Index, PodId, Position};
use metropod_snapshots::{Image, Layer, LayerId, Root};

use crate::checkpoint::{LayerPlace, LayerPlaces, PodDraft, images_of};
use crate::codec::{DecodeError, Reader, put_blob, put_count, put_option};
use crate::names::{SnapshotId, VolumeId};
use crate::namespace::{Namespace, PodImage};
use crate::pod::ForkPoint;
use crate::transfer::Touched;

const MAGIC: [u8; 8] = *b"MPODMANI";
const VERSION: u16 = 5;
/// Checkpoints and layers are numbered below this, so that the number after one that was read never wraps.
const NUMBER_MAX: u64 = 1 << 62;

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Number of the checkpoint.
    pub number: u64,
    /// The array it belongs to.
    pub array: ArrayId,
    /// First layer id that was not handed out.
    pub next_layer: u64,
    /// First journal record that is still needed.
    pub journal_from: Lsn,
    /// State of the chunk store.
    pub store: Bytes,
    /// Where layers are.
    pub places: LayerPlaces,
    /// Every pod.
    pub pods: Vec<PodDraft>,
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not a manifest.
    #[error("this is not a metropod manifest; put the right file back")]
    Foreign,
    /// Written by another version.
    #[error("format version {found} is not known here, only {VERSION} is; use the release that wrote it")]
    Version {
        /// Its version.
        found: u16,
    },
    /// The check does not match.
    #[error(
        "it is damaged; restore it from a copy, or begin this array anew and stretch its pods from their peer"
    )]
    Damaged,
    /// The content makes no sense.
    #[error("it is intact but cannot be read: {0}; keep it and report a defect")]
    Content(#[from] DecodeError),
}

/// The file's bytes.
pub fn encode(manifest: &Manifest) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&MAGIC);
    out.put_u16_le(VERSION);
    out.put_slice(&manifest.array.0);
    out.put_u64_le(manifest.number);
    out.put_u64_le(manifest.next_layer);
    out.put_u64_le(manifest.journal_from.0);
    put_blob(&mut out, &manifest.store);
    put_count(&mut out, manifest.places.len());
    for (id, place) in &manifest.places {
        out.put_u64_le(id.0);
        out.put_u64_le(place.run);
        out.put_u64_le(place.offset);
        out.put_u64_le(place.length);
    }
    put_count(&mut out, manifest.pods.len());
    for pod in &manifest.pods {
        encode_pod(pod, &mut out);
    }
    let check = crc32c::crc32c(&out);
    out.put_u32_le(check);
    out.freeze()
}

/// Checks a manifest and reads what can be read without its layers: the places.
pub fn open(bytes: &Bytes) -> Result<(Header, Reader), ManifestError> {
    if bytes.len() < MAGIC.len() + 2 + 4 || bytes[..8] != MAGIC {
        return Err(ManifestError::Foreign);
    }
    let found = u16::from_le_bytes([bytes[8], bytes[9]]);
    if found != VERSION {
        return Err(ManifestError::Version { found });
    }
    let (content, check) = (bytes.slice(..bytes.len() - 4), &bytes[bytes.len() - 4..]);
    if crc32c::crc32c(&content).to_le_bytes() != check {
        return Err(ManifestError::Damaged);
    }
    let mut reader = Reader::new(content.slice(10..));
    let array = ArrayId(reader.array()?);
    let number = reader.u64()?;
    let next_layer = reader.u64()?;
    if number.max(next_layer) >= NUMBER_MAX {
        return Err(DecodeError::Value { field: "number" }.into());
    }
    let journal_from = Lsn(reader.u64()?);
    let store = reader.blob()?;
    let mut places = LayerPlaces::new();
    for _ in 0..reader.count(32)? {
        let id = LayerId(reader.u64()?);
        let place = LayerPlace { run: reader.u64()?, offset: reader.u64()?, length: reader.u64()? };
        places.insert(id, place);
    }
    Ok((Header { array, number, next_layer, journal_from, store, places }, reader))
}

/// What a manifest says before its pods.
#[derive(Debug, Clone)]
pub struct Header {
    /// The array it belongs to.
    pub array: ArrayId,
    /// Number of the checkpoint.
    pub number: u64,
    /// First layer id that was not handed out.
    pub next_layer: u64,
    /// First journal record that is still needed.
    pub journal_from: Lsn,
    /// State of the chunk store.
    pub store: Bytes,
    /// Where layers are.
    pub places: LayerPlaces,
}

/// Reads the pods, given the layers.
pub fn pods(
    mut reader: Reader,
    layers: &BTreeMap<LayerId, Arc<Layer>>,
) -> Result<Vec<PodDraft>, ManifestError> {
    let mut pods: Vec<PodDraft> = Vec::new();
    for _ in 0..reader.count(32)? {
        let pod = decode_pod(&mut reader, layers)?;
        if pods.iter().any(|known| known.id == pod.id) {
            return Err(DecodeError::Value { field: "pod" }.into());
        }
        pods.push(pod);
    }
    reader.end()?;
    Ok(pods)
}

fn encode_pod(pod: &PodDraft, out: &mut BytesMut) {
    out.put_slice(&pod.id.0);
    put_blob(out, &pod.state.encode());
    out.put_u64_le(pod.applied.0);
    out.put_u64_le(pod.since.0);
    encode_image(&pod.image, out);
    put_option(out, pod.fork.as_ref(), |out, fork| {
        out.put_slice(&fork.config.0);
        encode_position(&fork.at, out);
        encode_image(&fork.image, out);
        put_option(out, fork.touched.as_ref(), |out, touched| touched.encode(out));
    });
}

fn decode_pod(reader: &mut Reader, layers: &BTreeMap<LayerId, Arc<Layer>>) -> Result<PodDraft, DecodeError> {
    let id = PodId(reader.array()?);
    let state =
        DurableState::decode(reader.blob()?).map_err(|_| DecodeError::Part { part: "protocol state" })?;
    let applied = Index(reader.u64()?);
    let since = Lsn(reader.u64()?);
    let image = decode_image(reader, layers)?;
    let fork = reader.option(|reader| {
        Ok(ForkPoint {
            config: ConfigId(reader.array()?),
            at: decode_position(reader)?,
            image: decode_image(reader, layers)?,
            touched: reader.option(Touched::decode)?,
        })
    })?;
    Ok(PodDraft { id, state, applied, since, image, fork })
}

/// Appends a position's bytes.
pub fn encode_position(position: &Position, out: &mut BytesMut) {
    out.put_slice(&position.config.0);
    out.put_u64_le(position.index.0);
    out.put_slice(&position.chain.0);
}

/// Reads what [`encode_position`] wrote.
pub fn decode_position(reader: &mut Reader) -> Result<Position, DecodeError> {
    Ok(Position {
        config: ConfigId(reader.array()?),
        index: Index(reader.u64()?),
        chain: Chain(reader.array()?),
    })
}

/// The namespace, then its volumes' and snapshots' images in id order.
fn encode_image(image: &PodImage, out: &mut BytesMut) {
    image.namespace.encode(out);
    assert!(
        image.volumes.keys().eq(image.namespace.volumes.keys())
            && image.snapshots.keys().eq(image.namespace.snapshots.keys()),
        "a pod image holds exactly what its namespace names"
    );
    for image in images_of(image) {
        out.put_u64_le(image.size_bytes());
        put_option(out, image.root(), |out, root| {
            out.put_slice(&root.digest.0);
            out.put_u8(root.height);
        });
        put_count(out, image.layers().len());
        for layer in image.layers() {
            out.put_u64_le(layer.id().0);
        }
    }
}

fn decode_image(
    reader: &mut Reader,
    layers: &BTreeMap<LayerId, Arc<Layer>>,
) -> Result<PodImage, DecodeError> {
    let namespace = Namespace::decode(reader)?;
    let mut volumes: BTreeMap<VolumeId, Image> = BTreeMap::new();
    for id in namespace.volumes.keys() {
        volumes.insert(*id, decode_volume_image(reader, layers)?);
    }
    let mut snapshots: BTreeMap<SnapshotId, Image> = BTreeMap::new();
    for id in namespace.snapshots.keys() {
        snapshots.insert(*id, decode_volume_image(reader, layers)?);
    }
    Ok(PodImage { namespace, volumes, snapshots })
}

fn decode_volume_image(
    reader: &mut Reader,
    layers: &BTreeMap<LayerId, Arc<Layer>>,
) -> Result<Image, DecodeError> {
    let size_bytes = reader.u64()?;
    let root = reader.option(|reader| Ok(Root { digest: Digest(reader.array()?), height: reader.u8()? }))?;
    let mut stack = Vec::new();
    for _ in 0..reader.count(8)? {
        let id = LayerId(reader.u64()?);
        stack.push(layers.get(&id).cloned().ok_or(DecodeError::Part { part: "layer" })?);
    }
    Image::new(size_bytes, root, stack).map_err(|_| DecodeError::Value { field: "image" })
}
