//! When a read may go on: the position is fixed under the right to serve, then the log is waited for.

use metropod_protocol::{Index, Serving, Time};

use super::{ParkedRead, Pod};
use crate::door::{HostError, Source};
use crate::names::VolumeId;

/// What to do with a read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadGate {
    /// Fetch now.
    Go,
    /// Not yet.
    Wait,
    /// Never.
    Refuse(HostError),
}

impl Pod {
    /// Decides about a read and fixes its position when that is possible (P2).
    pub(crate) fn gate(&self, now: Time, read: &mut ParkedRead) -> ReadGate {
        let asked = *read;
        match self.gate_at(now, &mut read.position, |pod| pod.position_for(&asked)) {
            ReadGate::Go => self.check_range(read).map_or_else(ReadGate::Refuse, |()| ReadGate::Go),
            other => other,
        }
    }

    /// Decides about what has to see entries up to a position applied, and fixes it when that is possible (P2).
    pub(crate) fn gate_at(
        &self,
        now: Time,
        position: &mut Option<Index>,
        to_fix: impl FnOnce(&Pod) -> Index,
    ) -> ReadGate {
        if position.is_none() {
            match self.machine.serving(now) {
                Serving::Yes => *position = Some(to_fix(self)),
                Serving::Held => return ReadGate::Wait,
                Serving::Suspended => return ReadGate::Refuse(HostError::Suspended),
                Serving::Off => return ReadGate::Refuse(HostError::Offline),
            }
        }
        match *position {
            Some(position) if self.applied >= position => ReadGate::Go,
            // The entry waited for may have been cut; then this array is off and says so.
            Some(_) => match self.machine.serving(now) {
                Serving::Off => ReadGate::Refuse(HostError::Offline),
                _ if self.damaged => ReadGate::Refuse(HostError::Media),
                _ => ReadGate::Wait,
            },
            None => ReadGate::Wait,
        }
    }

    /// Newest entry in the log that the read must see applied.
    fn position_for(&self, read: &ParkedRead) -> Index {
        let Source::Volume(volume) = read.source else { return Index(0) };
        self.unapplied
            .iter()
            .rev()
            .find(|entry| overlaps(entry.touches, volume, read.offset, read.length))
            .map_or(Index(0), |entry| entry.index)
    }

    /// Whether the source exists, is in use and holds the range.
    pub(crate) fn check_range(&self, read: &ParkedRead) -> Result<(), HostError> {
        let size_bytes = match read.source {
            Source::Volume(id) => self.namespace.volumes.get(&id).map(|volume| volume.size_bytes),
            Source::Snapshot(id) => self.namespace.snapshots.get(&id).map(|snapshot| snapshot.size_bytes),
        };
        let size_bytes = size_bytes.ok_or(HostError::NoSuchVolume)?;
        if !self.is_in_use(read.source) {
            return Err(HostError::Destroyed);
        }
        match read.offset.checked_add(read.length) {
            Some(end) if end <= size_bytes => Ok(()),
            _ => Err(HostError::OutOfRange),
        }
    }
}

fn overlaps(touches: Option<(VolumeId, u64, u64)>, volume: VolumeId, offset: u64, length: u64) -> bool {
    touches.is_some_and(|(id, start, bytes)| {
        id == volume && start < offset.saturating_add(length) && offset < start.saturating_add(bytes)
    })
}
