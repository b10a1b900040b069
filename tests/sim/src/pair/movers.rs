//! The volume moves between pods of site 0 before its pod is stretched: there and back, so that its pod's log has brought it.
//!
//! - O1: what it and its snapshots held they hold in their pod, and on both arrays once that is stretched: the joiner begins
//!   behind the entry that brought it.
//! - O2: of a move and a stretch asked for at once one may be refused, and says so; the volume is in one pod, and in use.
//! - O3: a stretched pod gives no volume away and takes none.

use std::collections::BTreeMap;

use metropod_core::names::{Name, SnapshotId, VolumeId};
use metropod_core::operation::Manage;
use metropod_core::{Command, ManageError};
use metropod_protocol::PodId;

use super::{Frozen, IDS, POD, Pair, VOLUME_BYTES, us};

/// The other pod of site 0.
const OTHER: PodId = PodId([6; 16]);

/// Longest between a request to move and one to stretch.
const BETWEEN: u64 = us(3_000);

impl Pair {
    /// Has the volume move before its pod is stretched.
    pub fn moved(mut self) -> Pair {
        self.moves = true;
        self
    }

    /// With a snapshot; then the pod is asked to be stretched, by chance before the volume is back.
    pub(super) fn move_there_and_back(&mut self) {
        let name = Name::new("other").expect("a good name");
        self.must(0, Command::CreatePod { pod: OTHER, name });
        let suffix = Name::new("before").expect("a good name");
        self.must(0, Command::Change { pod: POD, change: Manage::CreateSnapshot { volume: None, suffix } });
        self.move_volume(POD, OTHER);
        if self.random.chance(50) {
            return self.move_volume(OTHER, POD);
        }
        let volume = self.volume_in(OTHER).expect("it is there");
        let mut asked = vec![Command::Move { pod: OTHER, volume, to: POD }];
        asked.insert(self.random.below(2) as usize, Command::Stretch { pod: POD, peer: IDS[1] });
        let requests: Vec<_> = asked
            .into_iter()
            .map(|command| {
                let request = self.manage(0, command).expect("site 0 runs");
                let span = self.random.below(BETWEEN);
                self.run_for(span);
                request
            })
            .collect();
        for request in requests {
            match self.answer(0, request) {
                Ok(_) => {}
                Err(ManageError::Moving | ManageError::MoveOfStretched | ManageError::NotConnected) => {
                    self.counts.moves_or_stretches_refused += 1;
                }
                Err(error) => self.fail(&format!("O2: {error}")),
            }
        }
        self.find_volume();
    }

    fn move_volume(&mut self, from: PodId, to: PodId) {
        let volume = self.volume_in(from).expect("it is there");
        self.must(0, Command::Move { pod: from, volume, to });
        if self.volume_in(from).is_some() {
            self.fail("O1: what has moved is gone");
        }
        self.find_volume();
    }

    /// Looks where the volume is, and how it is called there.
    fn find_volume(&mut self) {
        let found: Vec<VolumeId> = [POD, OTHER].into_iter().filter_map(|pod| self.volume_in(pod)).collect();
        let [id] = found[..] else { self.fail(&format!("O2: the volume is in one pod: {found:?}")) };
        self.volume = Some(id);
        let renamed = std::mem::take(&mut self.frozen).into_iter().map(|(frozen, times)| match frozen {
            Frozen::Snapshot(snapshot) => (Frozen::Snapshot(SnapshotId { volume: id, ..snapshot }), times),
            clone => (clone, times),
        });
        self.frozen = renamed.collect::<BTreeMap<_, _>>();
    }

    /// Whether the volume came home before its pod was stretched.
    pub(super) fn is_home(&self) -> bool {
        self.volume_in(POD).is_some()
    }

    /// O3; the pod is stretched and has no volume called as that of the other.
    pub(super) fn expect_no_moves(&mut self) {
        let name = Name::new("stays").expect("a good name");
        let change = Manage::CreateVolume { name, size_bytes: VOLUME_BYTES };
        self.must(0, Command::Change { pod: OTHER, change });
        let stays =
            self.array(0).and_then(|array| array.pod(OTHER)?.namespace().volumes.keys().next().copied());
        let stays = stays.expect("it was just made");
        let own = self.volume.expect("it came home");
        self.frozen.remove(&Frozen::Clone(stays));
        for (pod, volume, to) in [(POD, own, OTHER), (OTHER, stays, POD)] {
            let request = self.manage(0, Command::Move { pod, volume, to }).expect("site 0 runs");
            let answer = self.answer(0, request);
            if answer != Err(ManageError::MoveOfStretched) {
                self.fail(&format!("O3: {answer:?}"));
            }
        }
    }

    fn volume_in(&self, pod: PodId) -> Option<VolumeId> {
        let name = Name::new("vol").expect("a good name");
        self.array(0)?.pod(pod)?.namespace().volume(&name).map(|(id, _)| id)
    }
}
