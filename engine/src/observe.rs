//! Puts together what an array tells about itself.

use metropod_core::names::VolumeId;
use metropod_core::namespace::Destroyed;
use metropod_core::{Array as Core, CatchUp, Channel, Pod, ScrubProgress, ScrubState};
use metropod_dedupe::{Finding, Rot, segment_path};
use metropod_protocol::{ArrayId, MediatorStatus, Side, Time};

use crate::array::Array;
use crate::driver::now;
use crate::space::{newest, pod_space, size_bytes, volume_space};
use crate::status::{
    ArrayStatus, CollectionStatus, ConnectionStatus, MediatorWord, PodSide, PodStatus, Resync, ScrubFinding,
    ScrubStatus, SideStatus, SnapshotStatus, SpaceStatus, VolumeStatus,
};

impl Array {
    /// The array itself.
    pub fn status(&self) -> ArrayStatus {
        let inner = self.inner();
        inner.driver.look(|array| {
            let (journal_bytes, journal_budget_bytes) = array.journal_bytes();
            let store = array.store().stats();
            ArrayStatus {
                name: inner.name.clone(),
                id: hex(&inner.id.0),
                listen: inner.address.to_string(),
                mediator_status: match array.mediator() {
                    Some(_) => MediatorWord::Online,
                    None => MediatorWord::Unreachable,
                },
                journal_bytes,
                journal_budget_bytes,
                chunks: store.chunks,
                logical_bytes: store.logical_bytes,
                stored_bytes: store.stored_bytes,
                space: space(&array.store().space()),
                collection: collection(array),
            }
        })
    }

    /// Pods held here, by name.
    pub fn pods(&self) -> Vec<PodStatus> {
        let names = self.peer_names();
        let name_of = |id: ArrayId| {
            if id == self.inner().id {
                self.inner().name.clone()
            } else {
                names.get(&id).cloned().unwrap_or_else(|| hex(&id.0))
            }
        };
        let mut pods = self.inner().driver.look(|array| {
            array.pods().map(|pod| pod_status(array, pod, now(), &name_of)).collect::<Vec<_>>()
        });
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        pods
    }

    /// The pod called `name`, if it is held here.
    pub fn pod(&self, name: &str) -> Option<PodStatus> {
        self.pods().into_iter().find(|pod| pod.name.eq_ignore_ascii_case(name))
    }

    /// Volumes of all pods held here.
    pub fn volumes(&self) -> Vec<VolumeStatus> {
        self.inner().driver.look(|array| {
            let mut volumes = Vec::new();
            let newest = newest(array);
            for pod in array.pods() {
                let namespace = pod.namespace();
                let account = newest.and_then(|(account, age)| Some((account.pods.get(&pod.id())?, age)));
                for (id, volume) in &namespace.volumes {
                    let serial = format!("{}{:08x}", hex(&pod.id().0[..8]), id.0);
                    volumes.push(VolumeStatus {
                        name: format!("{}::{}", namespace.name, volume.name),
                        id: format!("{}-{:x}", hex(&pod.id().0), id.0),
                        size_bytes: volume.size_bytes,
                        serial,
                        limits: volume.limits,
                        eradicated_in_ms: left(pod, [volume.destroyed, namespace.destroyed]),
                        moving_to: moving_to(array, pod, *id),
                        space: account.and_then(|(account, age)| {
                            Some(volume_space(account.volumes.get(id)?, volume.size_bytes, age))
                        }),
                    });
                }
            }
            volumes
        })
    }

    /// Snapshots of all pods held here.
    pub fn snapshots(&self) -> Vec<SnapshotStatus> {
        self.inner().driver.look(|array| {
            let mut snapshots = Vec::new();
            let newest = newest(array);
            for pod in array.pods() {
                let namespace = pod.namespace();
                let account = newest.and_then(|(account, _)| account.pods.get(&pod.id()));
                for (id, snapshot) in &namespace.snapshots {
                    let Some(volume) = namespace.volumes.get(&id.volume) else { continue };
                    snapshots.push(SnapshotStatus {
                        name: format!("{}::{}.{}", namespace.name, volume.name, snapshot.suffix),
                        size_bytes: snapshot.size_bytes,
                        eradicated_in_ms: left(
                            pod,
                            [snapshot.destroyed, volume.destroyed, namespace.destroyed],
                        ),
                        unique_bytes: account.and_then(|account| account.snapshots.get(id).copied()),
                    });
                }
            }
            snapshots
        })
    }

    /// Arrays this one knows.
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        let inner = self.inner();
        let links = inner.links.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        links
            .peers()
            .into_iter()
            .map(|status| ConnectionStatus {
                name: status.peer.name.clone(),
                id: hex(&status.peer.id.0),
                address: status.peer.addresses.first().cloned().unwrap_or_default(),
                sync_up: inner.hub.is_up(status.peer.id, Channel::Sync),
                bulk_up: inner.hub.is_up(status.peer.id, Channel::Bulk),
            })
            .collect()
    }

    /// How far the reading and proving of everything stored is, or how the last one ended.
    pub fn scrub(&self) -> ScrubStatus {
        self.inner().driver.look(|array| scrub(array, now()))
    }

    /// Alarms since the start, the newest last, in words.
    pub fn alarms(&self) -> Vec<String> {
        self.inner().hub.alarms().iter().map(|alarm| alarm.to_string()).collect()
    }
}

fn space(space: &metropod_dedupe::Space) -> SpaceStatus {
    SpaceStatus {
        used_bytes: space.used_bytes,
        capacity_bytes: space.is_bounded().then_some(space.capacity_bytes),
        free_bytes: space.is_bounded().then_some(space.free_bytes()),
        fresh_bytes: space.fresh_bytes,
    }
}

fn collection(array: &Core) -> CollectionStatus {
    let counts = array.collect_counts();
    CollectionStatus {
        state: array.collecting(),
        passes: counts.passes,
        failed: counts.failed,
        dead_chunks: counts.dead_chunks,
        dead_bytes: counts.dead_bytes,
        freed_segments: counts.freed_segments,
        moved_bytes: counts.moved_bytes,
        answered: counts.answered,
        last_pass_ms: counts.last_pass.0 / 1_000_000,
    }
}

fn scrub(array: &Core, now: Time) -> ScrubStatus {
    let (progress, repairs) = (array.scrub_progress(), array.repair_counts());
    let ms_ago = |time: Time| now.since(time).0 / 1_000_000;
    let is_running = progress.state == ScrubState::Running;
    let left_ms = progress.bytes_left.saturating_mul(1000) / array.scrub_bytes_per_s().max(1);
    ScrubStatus {
        state: match progress.state {
            ScrubState::Idle => "idle",
            ScrubState::Running => "running",
            ScrubState::Resting => "resting",
        },
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_done + progress.bytes_left,
        segments_done: progress.segments_done,
        segments_total: progress.segments_done + progress.segments_left,
        records: progress.records,
        findings: progress.findings,
        listed: progress.listed.iter().map(|finding| scrub_finding(progress, finding)).collect(),
        chunks_found: repairs.found,
        chunks_repaired: repairs.repaired,
        chunks_not_repairable: repairs.failed,
        began_ms_ago: progress.began.map(ms_ago),
        ended_ms_ago: progress.ended.map(ms_ago),
        eta_ms: Some(left_ms).filter(|_| is_running),
        finished: progress.finished,
        failed: progress.failed,
    }
}

fn scrub_finding(progress: &ScrubProgress, finding: &Finding) -> ScrubFinding {
    let (kind, digest) = match finding.rot {
        Rot::Chunk(digest) => ("chunk", Some(digest.to_string())),
        Rot::Stretch => ("stretch", None),
        Rot::Header => ("header", None),
        Rot::Footer => ("footer", None),
        Rot::File => ("file", None),
    };
    let repaired = matches!(finding.rot, Rot::Chunk(digest) if progress.repaired.contains(&digest));
    ScrubFinding { kind, file: segment_path(finding.segment), digest, repaired }
}

fn pod_status(array: &Core, pod: &Pod, now: Time, name_of: &impl Fn(ArrayId) -> String) -> PodStatus {
    let status = pod.machine().status(now);
    let me = array.id();
    let resync = resync(pod.catch_up(), now);
    let side = |id: ArrayId, side: Side, mediator_status: MediatorWord| {
        let word = side_status(side);
        let behind = matches!(word, SideStatus::Baselining | SideStatus::Resyncing);
        PodSide {
            name: name_of(id),
            status: word,
            sequencer: status.sequencer == Some(id),
            pre_elected: status.pre_elected == Some(id),
            leaving: pod.namespace().leaving == Some(id),
            mediator_status,
            progress: resync.filter(|_| behind).map(|resync| share(&resync)),
            resync: resync.filter(|_| behind),
        }
    };
    let mut arrays = vec![side(me, status.mine, mediator_word(status.mediator))];
    if let Some((peer, peer_side)) = status.peer {
        arrays.push(side(peer, peer_side, MediatorWord::Unknown));
    }
    let namespace = pod.namespace();
    let in_use = || {
        let volumes = namespace.volumes.iter();
        let stay = volumes.filter(|(id, volume)| volume.destroyed.is_none() && !namespace.is_moving(**id));
        stay.map(|(_, volume)| volume)
    };
    PodStatus {
        name: namespace.name.to_string(),
        id: pod.id(),
        epoch: status.epoch,
        arrays,
        failover_preference: namespace.preferred.map(name_of),
        volumes: in_use().count(),
        size_bytes: in_use().fold(0, |sum, volume| sum.saturating_add(volume.size_bytes)),
        quota_bytes: namespace.quota_bytes,
        provisioned_bytes: namespace.provisioned_bytes(),
        eradication_delay_ms: namespace.eradication_delay_ms,
        eradicated_in_ms: left(pod, [namespace.destroyed]),
        space: newest(array).and_then(|(account, age)| {
            let account = account.pods.get(&pod.id())?;
            Some(pod_space(account, size_bytes(array, pod.id(), account), age))
        }),
    }
}

/// Name of the pod that a volume is on its way to.
fn moving_to(array: &Core, pod: &Pod, id: VolumeId) -> Option<String> {
    let moving = pod.namespace().moving.filter(|moving| moving.volume == id)?;
    let to = array.pod(moving.to).map(|to| to.namespace().name.to_string());
    Some(to.unwrap_or_else(|| hex(&moving.to.0)))
}

/// Milliseconds until the first of these is eradicated, if any is destroyed.
fn left<const N: usize>(pod: &Pod, destroyed: [Option<Destroyed>; N]) -> Option<u64> {
    destroyed.into_iter().flatten().map(|destroyed| pod.milliseconds_left(destroyed, now())).min()
}

fn resync(catch_up: &CatchUp, now: Time) -> Option<Resync> {
    let counts = catch_up.progress()?.sample();
    let began = catch_up.began().unwrap_or(now);
    let elapsed_ms = now.since(began).0 / 1_000_000;
    let rate_bytes_per_s = (counts.bytes_done * 1000).checked_div(elapsed_ms).unwrap_or(0);
    let left = counts.bytes_logical.saturating_sub(counts.bytes_done);
    Some(Resync {
        bytes_logical: counts.bytes_logical,
        bytes_done: counts.bytes_done,
        bytes_referenced: counts.bytes_referenced,
        bytes_compressed: counts.bytes_compressed,
        bytes_wire: counts.bytes_wire,
        bytes_saved: counts.bytes_done.saturating_sub(counts.bytes_wire),
        rate_bytes_per_s,
        eta_ms: (left * 1000).checked_div(rate_bytes_per_s),
    })
}

fn share(resync: &Resync) -> f64 {
    if resync.bytes_logical == 0 { 1.0 } else { resync.bytes_done as f64 / resync.bytes_logical as f64 }
}

pub(crate) fn side_status(side: Side) -> SideStatus {
    match side {
        Side::Online => SideStatus::Online,
        Side::Paused => SideStatus::Paused,
        Side::Suspended => SideStatus::Suspended,
        Side::Offline => SideStatus::Offline,
        Side::Resyncing => SideStatus::Resyncing,
        Side::Baselining => SideStatus::Baselining,
        Side::Unknown => SideStatus::Unknown,
    }
}

fn mediator_word(status: MediatorStatus) -> MediatorWord {
    match status {
        MediatorStatus::None => MediatorWord::Unknown,
        MediatorStatus::Reachable => MediatorWord::Online,
        MediatorStatus::Unreachable => MediatorWord::Unreachable,
        MediatorStatus::Wrong => MediatorWord::Wrong,
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
