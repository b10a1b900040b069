//! Management operations: changes of a pod's namespace, as its log carries them.
//!
//! - G1: an operation says everything that its result depends on besides the namespace at its place in the log: no
//!   array's clock, only how long the proposer knows something to be so.
//! - G2: what changes block content names its volume by id, so that the changed range can be told from the bytes alone
//!   ([`touches`]).

use bytes::{BufMut, BytesMut};
use metropod_protocol::{ArrayId, Index, PodId};

use crate::codec::{DecodeError, Reader, put_option, put_text};
use crate::names::{Name, SnapshotId, VolumeId};
use crate::namespace::{Limits, VOLUME_BYTES_MAX, read_name};

/// Tag of [`Manage::MoveIn`].
pub(super) const MOVE_IN: u8 = 16;

/// A change of a pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manage {
    /// Makes an empty volume.
    CreateVolume {
        /// Its name.
        name: Name,
        /// Its size.
        size_bytes: u64,
    },
    /// Takes a snapshot of one volume, or of all: one cut.
    CreateSnapshot {
        /// The volume; all of the pod when absent.
        volume: Option<Name>,
        /// What follows the dot.
        suffix: Name,
    },
    /// Makes a volume with the content of a volume or snapshot.
    CloneVolume {
        /// The source volume.
        source: Name,
        /// Its snapshot; the present content when absent.
        suffix: Option<Name>,
        /// Name of the clone.
        name: Name,
    },
    /// Sets or clears the failover preference.
    SetPreference(Option<ArrayId>),
    /// Records that `joiner` is to hold the pod too.
    Invite {
        /// The array that holds the pod.
        host: ArrayId,
        /// The array that joins.
        joiner: ArrayId,
    },
    /// Changes a volume's size.
    Resize {
        /// The volume.
        volume: VolumeId,
        /// Its new size.
        size_bytes: u64,
        /// Whether it may lose what lies beyond a smaller size.
        truncate: bool,
    },
    /// Takes something out of use; it is eradicated when its time has come, and can be recovered until then.
    Destroy {
        /// What.
        target: Target,
        /// For a pod: even if it holds volumes.
        contents: bool,
        /// How long it can be recovered, in milliseconds.
        delay_ms: u64,
    },
    /// Takes something destroyed into use again, as it was.
    Recover(Target),
    /// Removes something destroyed for good and frees its name.
    Eradicate {
        /// What.
        target: Target,
        /// For a pod: even if it holds volumes.
        contents: bool,
        /// Proposed because what this entry destroyed has waited long enough; somebody's wish, at any time, when absent.
        waited: Option<Index>,
    },
    /// What is destroyed has waited longer.
    Elapsed {
        /// Since this entry.
        since: Index,
        /// So many milliseconds.
        ms: u64,
    },
    /// Gives a volume the content of another, or of a snapshot.
    Overwrite {
        /// The volume.
        volume: VolumeId,
        /// The content.
        from: Content,
    },
    /// Sets or clears the bound on the sum of the volumes' sizes, in bytes.
    SetQuota(Option<u64>),
    /// Sets how long what is destroyed from now on can be recovered, in milliseconds.
    SetEradicationDelay(u64),
    /// Sets a volume's limits.
    SetLimits {
        /// The volume.
        volume: VolumeId,
        /// The limits.
        limits: Limits,
    },
    /// A volume is to leave for another pod of the array: out of use from here on.
    MoveOut {
        /// The volume.
        volume: VolumeId,
        /// Where it goes.
        to: PodId,
    },
    /// A volume of another pod of the array comes.
    MoveIn(Arrival),
    /// One array of the two is to hold the pod no more.
    Leave(ArrayId),
    /// It holds the pod no more: the other, alone, says so.
    Left(ArrayId),
    /// The move that the entry `by` of this pod began has ended.
    MoveEnd {
        /// The entry.
        by: Index,
        /// The volume stays here; it is in the other pod, and no more here, when not set.
        stays: bool,
    },
}

/// A volume that comes from another pod of the array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The pod that it leaves.
    pub from: PodId,
    /// The entry there that sent it.
    pub by: Index,
    /// Entry of that pod up to which its content was changed there.
    pub through: Index,
    /// Its id there.
    pub volume: VolumeId,
    /// Its name.
    pub name: Name,
    /// Its size.
    pub size_bytes: u64,
    /// Its limits.
    pub limits: Limits,
    /// How long its destroyed snapshots still wait there, in milliseconds: as long as the one that waits longest.
    pub left_ms: u64,
}

/// What is destroyed, recovered or eradicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The pod itself.
    Pod,
    /// A volume with its snapshots.
    Volume(VolumeId),
    /// A snapshot.
    Snapshot(SnapshotId),
}

/// Where content is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// What a volume holds now.
    Volume(VolumeId),
    /// What it held when the snapshot was taken.
    Snapshot(SnapshotId),
}

impl Manage {
    /// Appends the operation.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self {
            Manage::CreateVolume { name, size_bytes } => {
                out.put_u8(1);
                put_text(out, name.as_str());
                out.put_u64_le(*size_bytes);
            }
            Manage::CreateSnapshot { volume, suffix } => {
                out.put_u8(2);
                put_option(out, volume.as_ref(), |out, name| put_text(out, name.as_str()));
                put_text(out, suffix.as_str());
            }
            Manage::CloneVolume { source, suffix, name } => {
                out.put_u8(3);
                put_text(out, source.as_str());
                put_option(out, suffix.as_ref(), |out, suffix| put_text(out, suffix.as_str()));
                put_text(out, name.as_str());
            }
            Manage::SetPreference(array) => {
                out.put_u8(4);
                put_option(out, *array, |out, id| out.put_slice(&id.0));
            }
            Manage::Invite { host, joiner } => {
                out.put_u8(5);
                out.put_slice(&host.0);
                out.put_slice(&joiner.0);
            }
            Manage::Resize { volume, size_bytes, truncate } => {
                out.put_u8(6);
                out.put_u64_le(volume.0);
                out.put_u64_le(*size_bytes);
                out.put_u8(u8::from(*truncate));
            }
            Manage::Destroy { target, contents, delay_ms } => {
                out.put_u8(7);
                put_target(out, *target);
                out.put_u8(u8::from(*contents));
                out.put_u64_le(*delay_ms);
            }
            Manage::Recover(target) => {
                out.put_u8(8);
                put_target(out, *target);
            }
            Manage::Eradicate { target, contents, waited } => {
                out.put_u8(9);
                put_target(out, *target);
                out.put_u8(u8::from(*contents));
                put_option(out, *waited, |out, by| out.put_u64_le(by.0));
            }
            Manage::Elapsed { since, ms } => {
                out.put_u8(10);
                out.put_u64_le(since.0);
                out.put_u64_le(*ms);
            }
            Manage::Overwrite { volume, from } => {
                out.put_u8(11);
                out.put_u64_le(volume.0);
                match from {
                    Content::Volume(id) => put_target(out, Target::Volume(*id)),
                    Content::Snapshot(id) => put_target(out, Target::Snapshot(*id)),
                }
            }
            Manage::SetQuota(quota) => {
                out.put_u8(12);
                put_option(out, *quota, |out, bytes| out.put_u64_le(bytes));
            }
            Manage::SetEradicationDelay(delay_ms) => {
                out.put_u8(13);
                out.put_u64_le(*delay_ms);
            }
            Manage::SetLimits { volume, limits } => {
                out.put_u8(14);
                out.put_u64_le(volume.0);
                limits.encode(out);
            }
            Manage::MoveOut { volume, to } => {
                out.put_u8(15);
                out.put_u64_le(volume.0);
                out.put_slice(&to.0);
            }
            Manage::MoveIn(arrival) => {
                out.put_u8(MOVE_IN);
                out.put_slice(&arrival.from.0);
                out.put_u64_le(arrival.by.0);
                out.put_u64_le(arrival.through.0);
                out.put_u64_le(arrival.volume.0);
                put_text(out, arrival.name.as_str());
                out.put_u64_le(arrival.size_bytes);
                arrival.limits.encode(out);
                out.put_u64_le(arrival.left_ms);
            }
            Manage::MoveEnd { by, stays } => {
                out.put_u8(17);
                out.put_u64_le(by.0);
                out.put_u8(u8::from(*stays));
            }
            Manage::Leave(array) => {
                out.put_u8(18);
                out.put_slice(&array.0);
            }
            Manage::Left(array) => {
                out.put_u8(19);
                out.put_slice(&array.0);
            }
        }
    }

    /// Reads what [`Manage::encode`] wrote.
    pub(super) fn decode(reader: &mut Reader) -> Result<Manage, DecodeError> {
        Ok(match reader.u8()? {
            1 => Manage::CreateVolume { name: read_name(reader)?, size_bytes: reader.u64()? },
            2 => Manage::CreateSnapshot { volume: reader.option(read_name)?, suffix: read_name(reader)? },
            3 => Manage::CloneVolume {
                source: read_name(reader)?,
                suffix: reader.option(read_name)?,
                name: read_name(reader)?,
            },
            4 => Manage::SetPreference(reader.option(|reader| Ok(ArrayId(reader.array()?)))?),
            5 => Manage::Invite { host: ArrayId(reader.array()?), joiner: ArrayId(reader.array()?) },
            6 => Manage::Resize {
                volume: VolumeId(reader.u64()?),
                size_bytes: reader.u64()?,
                truncate: reader.flag()?,
            },
            7 => Manage::Destroy {
                target: read_target(reader)?,
                contents: reader.flag()?,
                delay_ms: reader.u64()?,
            },
            8 => Manage::Recover(read_target(reader)?),
            9 => Manage::Eradicate {
                target: read_target(reader)?,
                contents: reader.flag()?,
                waited: reader.option(|reader| Ok(Index(reader.u64()?)))?,
            },
            10 => Manage::Elapsed { since: Index(reader.u64()?), ms: reader.u64()? },
            11 => Manage::Overwrite {
                volume: VolumeId(reader.u64()?),
                from: match read_target(reader)? {
                    Target::Volume(id) => Content::Volume(id),
                    Target::Snapshot(id) => Content::Snapshot(id),
                    Target::Pod => return Err(DecodeError::Value { field: "content" }),
                },
            },
            12 => Manage::SetQuota(reader.option(Reader::u64)?),
            13 => Manage::SetEradicationDelay(reader.u64()?),
            14 => Manage::SetLimits { volume: VolumeId(reader.u64()?), limits: Limits::decode(reader)? },
            15 => Manage::MoveOut { volume: VolumeId(reader.u64()?), to: PodId(reader.array()?) },
            MOVE_IN => Manage::MoveIn(Arrival {
                from: PodId(reader.array()?),
                by: Index(reader.u64()?),
                through: Index(reader.u64()?),
                volume: VolumeId(reader.u64()?),
                name: read_name(reader)?,
                size_bytes: reader.u64()?,
                limits: Limits::decode(reader)?,
                left_ms: reader.u64()?,
            }),
            17 => Manage::MoveEnd { by: Index(reader.u64()?), stays: reader.flag()? },
            18 => Manage::Leave(ArrayId(reader.array()?)),
            19 => Manage::Left(ArrayId(reader.array()?)),
            _ => return Err(DecodeError::Value { field: "management operation" }),
        })
    }
}

/// Volume and byte range whose content an encoded operation may change: all of a volume that is overwritten, and what
/// a truncation may cut off. `reader` stands behind the operation's tag.
pub(super) fn touches(reader: &mut Reader) -> Option<(VolumeId, u64, u64)> {
    match Manage::decode(reader).ok()? {
        Manage::Resize { volume, size_bytes, truncate: true } => {
            Some((volume, size_bytes, VOLUME_BYTES_MAX.saturating_sub(size_bytes)))
        }
        Manage::Overwrite { volume, .. } => Some((volume, 0, VOLUME_BYTES_MAX)),
        _ => None,
    }
}

fn put_target(out: &mut BytesMut, target: Target) {
    match target {
        Target::Pod => out.put_u8(0),
        Target::Volume(volume) => {
            out.put_u8(1);
            out.put_u64_le(volume.0);
        }
        Target::Snapshot(snapshot) => {
            out.put_u8(2);
            out.put_u64_le(snapshot.volume.0);
            out.put_u64_le(snapshot.taken_at);
        }
    }
}

fn read_target(reader: &mut Reader) -> Result<Target, DecodeError> {
    Ok(match reader.u8()? {
        0 => Target::Pod,
        1 => Target::Volume(VolumeId(reader.u64()?)),
        2 => Target::Snapshot(SnapshotId { volume: VolumeId(reader.u64()?), taken_at: reader.u64()? }),
        _ => return Err(DecodeError::Value { field: "target" }),
    })
}
