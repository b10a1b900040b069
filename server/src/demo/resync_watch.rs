//! Follows a baseline or resync from one look at the pod to the next, over all its rounds.

use crate::api::shapes::{PodShape, ResyncShape};

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct ResyncWatch {
    /// Rounds that ended.
    before: ResyncShape,
    /// The round under way, as last seen.
    now: ResyncShape,
}

impl ResyncWatch {
    /// Takes a look. A round that has less done than before is a new one.
    pub(super) fn look(&mut self, pod: &PodShape) {
        let Some(seen) = pod.arrays.iter().find_map(|side| side.resync) else { return };
        if seen.bytes_done < self.now.bytes_done {
            self.before = self.total();
        }
        self.now = seen;
    }

    /// All rounds together; rate and remaining time are the last round's.
    pub(super) fn total(&self) -> ResyncShape {
        let (before, now) = (&self.before, &self.now);
        ResyncShape {
            bytes_logical: before.bytes_logical + now.bytes_logical,
            bytes_done: before.bytes_done + now.bytes_done,
            bytes_referenced: before.bytes_referenced + now.bytes_referenced,
            bytes_compressed: before.bytes_compressed + now.bytes_compressed,
            bytes_wire: before.bytes_wire + now.bytes_wire,
            bytes_saved: before.bytes_saved + now.bytes_saved,
            rate_bytes_per_s: now.rate_bytes_per_s,
            eta_ms: now.eta_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::shapes::{EpochShape, PodSideShape};

    fn pod(resync: Option<(u64, u64)>) -> PodShape {
        let resync = resync.map(|(bytes_done, bytes_wire)| ResyncShape {
            bytes_logical: 100,
            bytes_done,
            bytes_wire,
            ..ResyncShape::default()
        });
        let side = PodSideShape {
            name: "A".into(),
            status: "resyncing".into(),
            sequencer: false,
            pre_elected: false,
            leaving: false,
            mediator_status: "online".into(),
            progress: None,
            recovery_point_ms: None,
            resync,
        };
        PodShape {
            name: "p".into(),
            id: String::new(),
            epoch: EpochShape { era: 0, number: 1 },
            arrays: vec![side],
            failover_preference: None,
            volumes: 0,
            size_bytes: 0,
            quota_bytes: None,
            provisioned_bytes: 0,
            eradication_delay_ms: 0,
            destroyed: false,
            eradicated_in_ms: None,
            space: None,
        }
    }

    #[test]
    fn rounds_add_up_and_looks_do_not() {
        let mut watch = ResyncWatch::default();
        for seen in [Some((10, 5)), Some((90, 40)), Some((20, 7)), None] {
            watch.look(&pod(seen));
        }
        let total = watch.total();
        assert_eq!((total.bytes_logical, total.bytes_done, total.bytes_wire), (200, 110, 47));
    }
}
