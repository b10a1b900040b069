//! What a pod holds besides block content: its name, volumes, snapshots and settings.
//!
//! - N1: changed only by applying committed log entries in order, so that both arrays hold the same at the same index.
//! - N2: encoded canonically: equal namespaces have equal bytes.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use metropod_protocol::ArrayId;
use metropod_snapshots::Image;

use crate::codec::{DecodeError, Reader, put_count, put_option, put_text};
use crate::names::{Name, SnapshotId, VolumeId};

/// Smallest volume, in bytes.
pub const VOLUME_BYTES_MIN: u64 = 1 << 20;

/// Largest volume, in bytes: 40-bit block addresses.
pub const VOLUME_BYTES_MAX: u64 = 1 << 52;

/// Volume sizes are multiples of this, in bytes.
pub const SIZE_UNIT_BYTES: u64 = 512;

/// A volume's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Unique in the pod.
    pub name: Name,
    /// A multiple of [`SIZE_UNIT_BYTES`].
    pub size_bytes: u64,
}

/// A snapshot's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What follows the dot in `vol.suffix`; unique for the volume.
    pub suffix: Name,
    /// Size of the volume when it was taken.
    pub size_bytes: u64,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// The pod's name.
    pub name: Name,
    /// Volumes by id.
    pub volumes: BTreeMap<VolumeId, Volume>,
    /// Snapshots by id.
    pub snapshots: BTreeMap<SnapshotId, Snapshot>,
    /// Failover preference.
    pub preferred: Option<ArrayId>,
    /// The other array, once the pod is being stretched.
    pub peer: Option<(ArrayId, ArrayId)>,
}

impl Namespace {
    /// An empty pod.
    pub fn new(name: Name) -> Namespace {
        Namespace { name, volumes: BTreeMap::new(), snapshots: BTreeMap::new(), preferred: None, peer: None }
    }

    /// The volume called `name`.
    pub fn volume(&self, name: &Name) -> Option<(VolumeId, &Volume)> {
        self.volumes.iter().find(|(_, volume)| volume.name == *name).map(|(id, volume)| (*id, volume))
    }

    /// The snapshot of `volume` with `suffix`.
    pub fn snapshot(&self, volume: VolumeId, suffix: &Name) -> Option<(SnapshotId, &Snapshot)> {
        self.snapshots
            .iter()
            .find(|(id, snapshot)| id.volume == volume && snapshot.suffix == *suffix)
            .map(|(id, snapshot)| (*id, snapshot))
    }

    /// The other array of the pod, seen from `me`.
    pub fn peer_of(&self, me: ArrayId) -> Option<ArrayId> {
        self.peer.map(|(one, other)| if one == me { other } else { one })
    }

    /// Appends the canonical bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        put_text(out, self.name.as_str());
        put_count(out, self.volumes.len());
        for (id, volume) in &self.volumes {
            out.put_u64_le(id.0);
            put_text(out, volume.name.as_str());
            out.put_u64_le(volume.size_bytes);
        }
        put_count(out, self.snapshots.len());
        for (id, snapshot) in &self.snapshots {
            out.put_u64_le(id.volume.0);
            out.put_u64_le(id.taken_at);
            put_text(out, snapshot.suffix.as_str());
            out.put_u64_le(snapshot.size_bytes);
        }
        put_option(out, self.preferred, |out, id| out.put_slice(&id.0));
        put_option(out, self.peer, |out, (one, other)| {
            out.put_slice(&one.0);
            out.put_slice(&other.0);
        });
    }

    /// Reads what [`Namespace::encode`] wrote.
    pub fn decode(reader: &mut Reader) -> Result<Namespace, DecodeError> {
        let mut namespace = Namespace::new(read_name(reader)?);
        for _ in 0..reader.count(21)? {
            let id = VolumeId(reader.u64()?);
            let volume = Volume { name: read_name(reader)?, size_bytes: read_size(reader)? };
            namespace.volumes.insert(id, volume);
        }
        for _ in 0..reader.count(29)? {
            let id = SnapshotId { volume: VolumeId(reader.u64()?), taken_at: reader.u64()? };
            let snapshot = Snapshot { suffix: read_name(reader)?, size_bytes: read_size(reader)? };
            namespace.snapshots.insert(id, snapshot);
        }
        namespace.preferred = reader.option(|reader| Ok(ArrayId(reader.array()?)))?;
        namespace.peer = reader.option(|reader| Ok((ArrayId(reader.array()?), ArrayId(reader.array()?))))?;
        Ok(namespace)
    }
}

/// Reads a checked name.
pub fn read_name(reader: &mut Reader) -> Result<Name, DecodeError> {
    Name::new(&reader.text()?).map_err(|_| DecodeError::Value { field: "name" })
}

fn read_size(reader: &mut Reader) -> Result<u64, DecodeError> {
    let size = reader.u64()?;
    if size_is_valid(size) { Ok(size) } else { Err(DecodeError::Value { field: "size" }) }
}

/// Whether a volume may have this size.
pub fn size_is_valid(size_bytes: u64) -> bool {
    (VOLUME_BYTES_MIN..=VOLUME_BYTES_MAX).contains(&size_bytes) && size_bytes.is_multiple_of(SIZE_UNIT_BYTES)
}

/// A frozen point of a whole pod: the state after applying the log up to one index.
#[derive(Debug, Clone)]
pub struct PodImage {
    /// Names and settings at that index.
    pub namespace: Namespace,
    /// Content of every volume in `namespace.volumes`.
    pub volumes: BTreeMap<VolumeId, Image>,
    /// Content of every snapshot in `namespace.snapshots`.
    pub snapshots: BTreeMap<SnapshotId, Image>,
}

impl PodImage {
    /// The namespace's canonical bytes.
    pub fn namespace_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.namespace.encode(&mut out);
        out.freeze()
    }
}
