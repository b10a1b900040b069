//! What a pod holds besides block content: its name, volumes, snapshots and settings.
//!
//! - N1: changed only by applying committed log entries in order, so that both arrays hold the same at the same index.
//! - N2: encoded canonically: equal namespaces have equal bytes.
//! - N3: snapshots of a volume have rising numbers, none of them twice: a snapshot keeps its number when its volume moves to
//!   another pod, and the next one there has the index of its entry or one more than the last, whichever is more.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use metropod_protocol::{ArrayId, Index, PodId};
use metropod_snapshots::Image;

use crate::codec::{DecodeError, Reader, put_count, put_option, put_text};
use crate::names::{Name, SnapshotId, VolumeId};
use crate::operation::Target;

/// Smallest volume, in bytes.
pub const VOLUME_BYTES_MIN: u64 = 1 << 20;

/// Largest volume, in bytes: 40-bit block addresses.
pub const VOLUME_BYTES_MAX: u64 = 1 << 52;

/// Volume sizes are multiples of this, in bytes.
pub const SIZE_UNIT_BYTES: u64 = 512;

/// How long what is destroyed can be recovered unless the pod says otherwise, in milliseconds: a day.
pub const ERADICATION_DELAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Something is out of use and waits for its eradication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destroyed {
    /// The entry that destroyed it: recovered and destroyed anew, it waits anew.
    pub by: Index,
    /// How long it still waits, as far as entries have counted, in milliseconds; never less than it really has to.
    pub left_ms: u64,
}

/// Bounds on what hosts may ask of a volume at each array; 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in a second.
    pub iops: u64,
    /// Bytes in a second, as hosts count them: before reduction.
    pub bytes_per_s: u64,
}

impl Limits {
    /// Appends the bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.iops);
        out.put_u64_le(self.bytes_per_s);
    }

    /// Reads what [`Limits::encode`] wrote.
    pub fn decode(reader: &mut Reader) -> Result<Limits, DecodeError> {
        Ok(Limits { iops: reader.u64()?, bytes_per_s: reader.u64()? })
    }
}

/// A volume's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Unique in the pod.
    pub name: Name,
    /// A multiple of [`SIZE_UNIT_BYTES`].
    pub size_bytes: u64,
    /// Bounds on its use.
    pub limits: Limits,
    /// Set while it waits for its eradication.
    pub destroyed: Option<Destroyed>,
    /// Number of the last snapshot that was taken of it, whether it is still there or not (N3).
    pub last_snapshot: u64,
}

/// A snapshot's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What follows the dot in `vol.suffix`; unique for the volume.
    pub suffix: Name,
    /// Size of the volume when it was taken.
    pub size_bytes: u64,
    /// Set while it waits for its eradication; its volume may be destroyed besides.
    pub destroyed: Option<Destroyed>,
}

impl Volume {
    /// A volume in use, without limits.
    pub fn new(name: Name, size_bytes: u64) -> Volume {
        Volume { name, size_bytes, limits: Limits::default(), destroyed: None, last_snapshot: 0 }
    }

    /// The number of the snapshot that the entry at `index` takes of it (N3).
    pub fn next_snapshot(&self, index: Index) -> u64 {
        index.0.max(self.last_snapshot.saturating_add(1))
    }
}

impl Snapshot {
    /// A snapshot in use.
    pub fn new(suffix: Name, size_bytes: u64) -> Snapshot {
        Snapshot { suffix, size_bytes, destroyed: None }
    }
}

/// A volume on its way to another pod of the array: out of use, with its content, until it is there (`array/moves.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moving {
    /// The volume.
    pub volume: VolumeId,
    /// Where it goes.
    pub to: PodId,
    /// The entry that sent it there: names the move, with the pod that it leaves.
    pub by: Index,
}

/// What came last from another pod of the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// The entry there that sent it.
    pub by: Index,
    /// The volume, as it is called here.
    pub volume: VolumeId,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// The pod's name.
    pub name: Name,
    /// Volumes by id, destroyed ones too: they keep their names.
    pub volumes: BTreeMap<VolumeId, Volume>,
    /// Snapshots by id, destroyed ones too.
    pub snapshots: BTreeMap<SnapshotId, Snapshot>,
    /// Failover preference.
    pub preferred: Option<ArrayId>,
    /// The other array, once the pod is being stretched.
    pub peer: Option<(ArrayId, ArrayId)>,
    /// The array of the two that is to hold the pod no more.
    pub leaving: Option<ArrayId>,
    /// The entry from which the next one that counts has to count: the last that did, or that began to.
    pub counted_from: Index,
    /// How long what is destroyed from now on can be recovered, in milliseconds.
    pub eradication_delay_ms: u64,
    /// Bound on the sum of the volumes' sizes, in bytes.
    pub quota_bytes: Option<u64>,
    /// Set while the pod waits for its eradication.
    pub destroyed: Option<Destroyed>,
    /// The volume that leaves for another pod.
    pub moving: Option<Moving>,
    /// The last volume that came here from each other pod.
    pub arrived: BTreeMap<PodId, Arrived>,
}

impl Namespace {
    /// An empty pod.
    pub fn new(name: Name) -> Namespace {
        Namespace {
            name,
            volumes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            preferred: None,
            peer: None,
            leaving: None,
            counted_from: Index(0),
            eradication_delay_ms: ERADICATION_DELAY_MS,
            quota_bytes: None,
            destroyed: None,
            moving: None,
            arrived: BTreeMap::new(),
        }
    }

    /// Whether the volume leaves for another pod.
    pub fn is_moving(&self, volume: VolumeId) -> bool {
        self.moving.is_some_and(|moving| moving.volume == volume)
    }

    /// Whether hosts may use a volume: neither it nor the pod is destroyed, and it does not leave the pod.
    pub fn is_in_use(&self, volume: VolumeId) -> bool {
        self.destroyed.is_none()
            && !self.is_moving(volume)
            && self.volumes.get(&volume).is_some_and(|volume| volume.destroyed.is_none())
    }

    /// Sum of all volumes' sizes, those that wait for their eradication included: what counts against the quota. So
    /// recovering a volume needs no room.
    pub fn provisioned_bytes(&self) -> u64 {
        self.volumes.values().fold(0, |sum, volume| sum.saturating_add(volume.size_bytes))
    }

    /// What waits for its eradication.
    pub fn destroyed_things(&self) -> impl Iterator<Item = (Target, Destroyed)> {
        let volumes = self.volumes.iter().map(|(id, volume)| (volume.destroyed, Target::Volume(*id)));
        let snapshots =
            self.snapshots.iter().map(|(id, snapshot)| (snapshot.destroyed, Target::Snapshot(*id)));
        std::iter::once((self.destroyed, Target::Pod))
            .chain(volumes)
            .chain(snapshots)
            .filter_map(|(destroyed, target)| Some((target, destroyed?)))
    }

    /// Something is about to be destroyed by the entry `at`: time is counted from there if nothing else waits.
    pub fn begin_counting(&mut self, at: Index) {
        if self.destroyed_things().next().is_none() {
            self.counted_from = at;
        }
    }

    /// The entry `at` says that so many milliseconds have passed since the entry `since`. What was destroyed by then has
    /// waited that much longer; of what was destroyed later nothing is said. If another entry counted from there, that
    /// time is counted already.
    pub fn elapse(&mut self, at: Index, since: Index, ms: u64) {
        if since != self.counted_from {
            return;
        }
        self.counted_from = at;
        let volumes = self.volumes.values_mut().map(|volume| &mut volume.destroyed);
        let snapshots = self.snapshots.values_mut().map(|snapshot| &mut snapshot.destroyed);
        for destroyed in std::iter::once(&mut self.destroyed).chain(volumes).chain(snapshots).flatten() {
            if destroyed.by <= since {
                destroyed.left_ms = destroyed.left_ms.saturating_sub(ms);
            }
        }
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
            volume.limits.encode(out);
            put_destroyed(out, volume.destroyed);
            out.put_u64_le(volume.last_snapshot);
        }
        put_count(out, self.snapshots.len());
        for (id, snapshot) in &self.snapshots {
            out.put_u64_le(id.volume.0);
            out.put_u64_le(id.taken_at);
            put_text(out, snapshot.suffix.as_str());
            out.put_u64_le(snapshot.size_bytes);
            put_destroyed(out, snapshot.destroyed);
        }
        put_option(out, self.preferred, |out, id| out.put_slice(&id.0));
        put_option(out, self.peer, |out, (one, other)| {
            out.put_slice(&one.0);
            out.put_slice(&other.0);
        });
        put_option(out, self.leaving, |out, id| out.put_slice(&id.0));
        out.put_u64_le(self.counted_from.0);
        out.put_u64_le(self.eradication_delay_ms);
        put_option(out, self.quota_bytes, |out, bytes| out.put_u64_le(bytes));
        put_destroyed(out, self.destroyed);
        put_option(out, self.moving, |out, moving| {
            out.put_u64_le(moving.volume.0);
            out.put_slice(&moving.to.0);
            out.put_u64_le(moving.by.0);
        });
        put_count(out, self.arrived.len());
        for (pod, arrived) in &self.arrived {
            out.put_slice(&pod.0);
            out.put_u64_le(arrived.by.0);
            out.put_u64_le(arrived.volume.0);
        }
    }

    /// Reads what [`Namespace::encode`] wrote.
    pub fn decode(reader: &mut Reader) -> Result<Namespace, DecodeError> {
        let mut namespace = Namespace::new(read_name(reader)?);
        for _ in 0..reader.count(46)? {
            let id = VolumeId(reader.u64()?);
            let volume = Volume {
                name: read_name(reader)?,
                size_bytes: read_size(reader)?,
                limits: Limits::decode(reader)?,
                destroyed: read_destroyed(reader)?,
                last_snapshot: reader.u64()?,
            };
            namespace.volumes.insert(id, volume);
        }
        for _ in 0..reader.count(30)? {
            let id = SnapshotId { volume: VolumeId(reader.u64()?), taken_at: reader.u64()? };
            let snapshot = Snapshot {
                suffix: read_name(reader)?,
                size_bytes: read_size(reader)?,
                destroyed: read_destroyed(reader)?,
            };
            namespace.snapshots.insert(id, snapshot);
        }
        namespace.preferred = reader.option(|reader| Ok(ArrayId(reader.array()?)))?;
        namespace.peer = reader.option(|reader| Ok((ArrayId(reader.array()?), ArrayId(reader.array()?))))?;
        namespace.leaving = reader.option(|reader| Ok(ArrayId(reader.array()?)))?;
        namespace.counted_from = Index(reader.u64()?);
        namespace.eradication_delay_ms = reader.u64()?;
        namespace.quota_bytes = reader.option(Reader::u64)?;
        namespace.destroyed = read_destroyed(reader)?;
        namespace.moving = reader.option(|reader| {
            let (volume, to) = (VolumeId(reader.u64()?), PodId(reader.array()?));
            Ok(Moving { volume, to, by: Index(reader.u64()?) })
        })?;
        for _ in 0..reader.count(32)? {
            let pod = PodId(reader.array()?);
            let arrived = Arrived { by: Index(reader.u64()?), volume: VolumeId(reader.u64()?) };
            namespace.arrived.insert(pod, arrived);
        }
        Ok(namespace)
    }
}

fn put_destroyed(out: &mut BytesMut, destroyed: Option<Destroyed>) {
    put_option(out, destroyed, |out, destroyed| {
        out.put_u64_le(destroyed.by.0);
        out.put_u64_le(destroyed.left_ms);
    });
}

fn read_destroyed(reader: &mut Reader) -> Result<Option<Destroyed>, DecodeError> {
    reader.option(|reader| Ok(Destroyed { by: Index(reader.u64()?), left_ms: reader.u64()? }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_have_rising_numbers_also_where_the_log_is_shorter() {
        let mut volume = Volume::new(Name::new("vol").unwrap(), VOLUME_BYTES_MIN);
        let mut numbers = Vec::new();
        // The log of another pod from the third on.
        for index in [10, 200, 30, 31, 201, 202, 203, 900] {
            volume.last_snapshot = volume.next_snapshot(Index(index));
            numbers.push(volume.last_snapshot);
        }
        assert_eq!(numbers, [10, 200, 201, 202, 203, 204, 205, 900]);
    }
}
