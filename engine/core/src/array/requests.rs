//! Host requests: checked, metered, admitted, handed to the pod's machine; reads gated and parked.

use metropod_dedupe::Room;
use metropod_protocol::{Input as MachineInput, PodId, RequestId, Serving, Time};

use super::Array;
use super::retry::Kind;
use crate::door::{Effect, HostError, Source};
use crate::fetch::Fetch;
use crate::operation::Operation;
use crate::pod::{ParkedRead, ReadGate, Waiting};

/// Segments that new data leaves beside the reserve: one that is written to, and one to be begun.
const SPARE_SEGMENTS: u64 = 2;

/// Of the reserve, the part that is lent for space that is freed and not yet the device's again, one in so many.
const LENT_SHARE: u64 = 4;

impl Array {
    pub(super) fn host(&mut self, now: Time, request: RequestId, pod: PodId, operation: Operation) {
        if let Err(error) = self.check_host(now, pod, &operation) {
            return self.complete(request, Err(error));
        }
        self.meter_host(now, request, pod, operation);
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn read(
        &mut self,
        now: Time,
        request: RequestId,
        pod: PodId,
        source: Source,
        offset: u64,
        length: u64,
        metered: bool,
    ) {
        let read = ParkedRead { request, source, offset, length, position: None };
        let Some(found) = self.pods.get(&pod) else {
            return self.complete(request, Err(HostError::NoSuchVolume));
        };
        if let Err(error) = found.check_range(&read) {
            return self.complete(request, Err(error));
        }
        // Where reads are refused none waits for its turn to be.
        let served = matches!(found.machine.serving(now), Serving::Yes | Serving::Held);
        if metered && served { self.meter_read(now, pod, read) } else { self.read_metered(now, pod, read) }
    }

    pub(super) fn read_metered(&mut self, now: Time, pod: PodId, mut read: ParkedRead) {
        let request = read.request;
        let Some(found) = self.pods.get_mut(&pod) else {
            return self.complete(request, Err(HostError::NoSuchVolume));
        };
        match found.gate(now, &mut read) {
            ReadGate::Go => self.fetch(pod, &read),
            ReadGate::Wait => found.reads.push(read),
            ReadGate::Refuse(error) => self.complete(request, Err(error)),
        }
    }

    pub(super) fn withdraw(&mut self, now: Time, pod: PodId, request: RequestId) {
        if self.admission.leave(pod, request) || self.leave_line(pod, request) {
            return self.complete(request, Err(HostError::Withdrawn));
        }
        let Some(found) = self.pods.get_mut(&pod) else { return };
        if let Some(at) = found.reads.iter().position(|read| read.request == request) {
            found.reads.swap_remove(at);
            return self.complete(request, Err(HostError::Withdrawn));
        }
        if found.waiting.contains_key(&request) {
            self.step_pod(now, pod, MachineInput::Withdraw { request });
        }
    }

    /// Decides again about the reads that wait at a pod.
    pub(super) fn review_reads(&mut self, now: Time, pod: PodId) {
        let Some(found) = self.pods.get_mut(&pod) else { return };
        if found.reads.is_empty() {
            return;
        }
        for mut read in std::mem::take(&mut found.reads) {
            let Some(found) = self.pods.get_mut(&pod) else { return };
            match found.gate(now, &mut read) {
                ReadGate::Go => self.fetch(pod, &read),
                ReadGate::Wait => found.reads.push(read),
                ReadGate::Refuse(error) => self.complete(read.request, Err(error)),
            }
        }
    }

    pub(super) fn complete(&mut self, request: RequestId, result: Result<(), HostError>) {
        self.effects.push_back(Effect::Complete { request, result });
    }

    pub(super) fn check_host(&self, now: Time, pod: PodId, operation: &Operation) -> Result<(), HostError> {
        let found = self.pods.get(&pod).ok_or(HostError::NoSuchVolume)?;
        if self.poisoned.is_some() {
            return Err(HostError::Media);
        }
        let (volume, offset, length) = operation.touches().ok_or(HostError::OutOfRange)?;
        // What is damaged here is not written over unseen: the other array's copy serves.
        if found.damaged {
            return Err(HostError::Media);
        }
        // Full: what cannot be stored is refused rather than held for ever; reads and trims go on. While space may still be
        // given back it is held (`has_room`).
        if matches!(operation, Operation::Write { .. }) && self.lacks_space() && !self.may_get_space() {
            return Err(HostError::NoSpace);
        }
        let read = ParkedRead {
            request: RequestId(0),
            source: Source::Volume(volume),
            offset,
            length,
            position: None,
        };
        found.check_range(&read)?;
        match found.machine.serving(now) {
            Serving::Yes | Serving::Held => Ok(()),
            Serving::Suspended => Err(HostError::Suspended),
            Serving::Off => Err(HostError::Offline),
        }
    }

    /// Whether the device is full, or the capacity but for what keeps the array going.
    pub(super) fn lacks_space(&self) -> bool {
        self.background.retries.is_full() || self.available_bytes() == 0
    }

    /// Whether space may come back without anybody's doing: what is staged may need less of it than it seems, as what is there
    /// already does, and what fits into segments that count whole.
    fn may_get_space(&self) -> bool {
        let retries = &self.background.retries;
        let writable = !retries.is_full() && !retries.is_failing(Kind::Destage);
        let staged = self.store.staged_bytes() > 0 && writable;
        staged || self.collection.may_help()
    }

    /// What may still be taken in, in bytes of stored records. What is freed is lent from the reserve until a checkpoint gives
    /// it back.
    pub(super) fn available_bytes(&self) -> u64 {
        let room = self.store.room();
        let lent = room.freed_bytes.min(room.reserve_bytes / LENT_SHARE);
        room.free_bytes.saturating_add(lent).saturating_sub(self.owed_bytes(&room))
    }

    /// What of the room is spoken for, in bytes.
    pub(super) fn owed_bytes(&self, room: &Room) -> u64 {
        room.staged_bytes.saturating_add(SPARE_SEGMENTS * u64::from(self.config.store.segment_bytes))
    }

    pub(super) fn submit_host(&mut self, now: Time, request: RequestId, pod: PodId, operation: &Operation) {
        let (descriptor, attachment) = operation.encode();
        if let Some(found) = self.pods.get_mut(&pod) {
            let cost = operation.cost();
            found.held_bytes += cost;
            found.waiting.insert(request, Waiting::Host(cost));
        }
        self.step_pod(now, pod, MachineInput::Submit { request, descriptor, attachment });
    }

    fn fetch(&mut self, pod: PodId, read: &ParkedRead) {
        let Some(found) = self.pods.get(&pod) else { return };
        let (offset, length) = (read.offset, read.length);
        let fetch = match read.source {
            Source::Volume(id) => {
                found.maps.get(&id).map(|map| Fetch::of_map(map, &self.nodes, offset, length))
            }
            Source::Snapshot(id) => {
                found.images.get(&id).map(|image| Fetch::of_image(image, &self.nodes, offset, length))
            }
        };
        match fetch {
            Some(fetch) => {
                self.effects.push_back(Effect::Fetch { request: read.request, fetch: Box::new(fetch) });
            }
            None => self.complete(read.request, Err(HostError::NoSuchVolume)),
        }
    }
}
