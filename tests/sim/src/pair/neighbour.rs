//! A second pod on both arrays: it shares journal, store, link and mediator with the first, and may prefer the other site.
//!
//! Its writes are large, so that the journals turn over. What it holds is compared in the end; the register checker is
//! for the first pod.

use std::collections::BTreeSet;

use metropod_core::names::{Name, VolumeId};
use metropod_core::operation::Manage;
use metropod_core::{Command, Input, Managed};
use metropod_protocol::PodId;

use super::{Frozen, IDS, Key, Nanos, Pair, ms};
use crate::payload::{self, SECTOR_BYTES};

/// The second pod.
pub const NEIGHBOUR: PodId = PodId([8; 16]);

/// Size of its volume, in bytes.
const BYTES: u64 = 4 << 20;

/// Longest write, in bytes.
const WRITE_BYTES_MAX: u64 = 128 << 10;

/// Writes under way at one array.
const IN_FLIGHT_MAX: usize = 4;

/// See the module's text.
#[derive(Default)]
pub(super) struct Neighbour {
    volume: Option<VolumeId>,
    under_way: [BTreeSet<Key>; 2],
    written: u64,
    acknowledged: u64,
}

impl Pair {
    /// Makes the second pod at site 0 and stretches it.
    pub fn add_neighbour(&mut self, preferred: Option<usize>) {
        let name = Name::new("neighbour").expect("a good name");
        self.must(0, Command::CreatePod { pod: NEIGHBOUR, name: name.clone() });
        let change = Manage::CreateVolume { name, size_bytes: BYTES };
        match self.must(0, Command::Change { pod: NEIGHBOUR, change }) {
            Managed::Volume(id) => {
                self.neighbour.volume = Some(id);
                // It is no clone of the first pod's volume.
                self.frozen.remove(&Frozen::Clone(id));
            }
            other => self.fail(&format!("a volume is made: {other:?}")),
        }
        self.must(0, Command::Stretch { pod: NEIGHBOUR, peer: IDS[1] });
        self.heal_within(super::checks::HEAL);
        let change = Manage::SetPreference(preferred.map(|site| IDS[site]));
        self.must(0, Command::Change { pod: NEIGHBOUR, change });
    }

    /// A host of the second pod writes, unless enough is under way.
    pub(super) fn neighbour_write(&mut self, site: usize) {
        let Some(volume) = self.neighbour.volume else { return };
        if self.sites[site].array.is_none() || self.neighbour.under_way[site].len() >= IN_FLIGHT_MAX {
            return;
        }
        let sectors = WRITE_BYTES_MAX / SECTOR_BYTES as u64;
        let first = self.random.below(BYTES / WRITE_BYTES_MAX) * sectors;
        self.neighbour.written += 1;
        // Odd: it does not compress.
        let value = self.neighbour.written * 2 + 1;
        let operation = payload::write(volume, first..first + sectors, value);
        let request = self.next_request(site);
        self.neighbour.under_way[site].insert(request);
        self.step(site, Input::Host { request, pod: NEIGHBOUR, operation });
    }

    /// Whether an answer was for the second pod.
    pub(super) fn neighbour_answer(&mut self, site: usize, request: Key, ok: bool) -> bool {
        let mine = self.neighbour.under_way[site].remove(&request);
        self.neighbour.acknowledged += u64::from(mine && ok);
        mine
    }

    /// The array died with what was under way.
    pub(super) fn neighbour_lost(&mut self, site: usize) {
        self.neighbour.under_way[site].clear();
    }

    /// Whether nobody waits for an answer about the second pod.
    pub(super) fn neighbour_rests(&self) -> bool {
        self.neighbour.under_way.iter().all(BTreeSet::is_empty)
    }

    /// Writes at a site to the second pod until `count` more are acknowledged; fails if one takes longer than `most`.
    pub fn neighbour_writes(&mut self, site: usize, count: u64, most: Nanos) {
        let until = self.neighbour.acknowledged + count;
        while self.neighbour.acknowledged < until {
            let (before, begin) = (self.neighbour.acknowledged, self.now);
            self.neighbour_write(site);
            while self.neighbour.acknowledged == before {
                if self.now > begin + most {
                    self.fail(&format!("hosts of the second pod at site {site} wait"));
                }
                self.run_for(ms(1));
            }
        }
    }
}
