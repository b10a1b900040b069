//! Who reaches a name: sets of snapshots and volumes, each kept once.
//!
//! Owners stand in one row: pod by pod, in it volume by volume, of each its snapshots and then what it holds now. So what
//! lives through a stretch of a volume's snapshots is one range, whatever their number.
//!
//! - O1: the empty set is what no volume and no snapshot reaches; joined with any other it changes nothing.
//! - O2: at most [`SETS_MAX`] sets of at most [`RANGES_MAX`] ranges are told apart. Then a new one is rounded up: to all
//!   snapshots of its volume, to its volume, to its pod, or to all. None of that changes its [`Share`]; a set of one owner
//!   is never rounded. Only who of several shares a name is not known any more ([`Owners::is_rounded`]).

use std::ops::Range;

use rustc_hash::FxHashMap;

/// Sets told apart.
const SETS_MAX: usize = 1 << 18;

/// Ranges of one set.
const RANGES_MAX: usize = 256;

/// Unions remembered.
const UNIONS_MAX: usize = 1 << 18;

/// A set of owners; numbers are given in the order in which sets are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(u32);

impl SetId {
    /// No owner (O1).
    pub const NONE: SetId = SetId(0);

    /// From 0 on, below [`Owners::sets`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a name counts as. Every set is exactly one of these, so that shares add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// No volume and no snapshot reaches it.
    Held,
    /// One volume holds it now, and nothing else but snapshots of its own.
    Volume(usize),
    /// Snapshots of one volume reach it, and nothing else.
    Snapshots {
        /// The volume.
        volume: usize,
        /// The snapshot, counted from the volume's first, if it is the only one.
        only: Option<usize>,
    },
    /// Several volumes of one pod, or their snapshots.
    Pod(usize),
    /// Several pods.
    Array,
}

/// See the module's text.
#[derive(Debug)]
pub struct Owners {
    /// By volume: where its snapshots begin in the row of owners.
    firsts: Vec<u32>,
    /// By volume: what it holds now, in the row of owners.
    lives: Vec<u32>,
    /// By volume: its pod.
    pods: Vec<usize>,
    sets: Vec<Box<[Range<u32>]>>,
    known: FxHashMap<Box<[Range<u32>]>, SetId>,
    unions: FxHashMap<(SetId, SetId), SetId>,
    sets_max: usize,
    rounded: bool,
}

impl Owners {
    /// For volumes, given by pod and number of snapshots; those of one pod stand together, pods rise.
    ///
    /// # Panics
    /// If they do not.
    pub fn new(volumes: impl IntoIterator<Item = (usize, usize)>) -> Owners {
        Owners::with_sets_max(volumes, SETS_MAX)
    }

    /// [`Owners::new`] that tells fewer sets apart.
    pub fn with_sets_max(volumes: impl IntoIterator<Item = (usize, usize)>, sets_max: usize) -> Owners {
        let none: Box<[Range<u32>]> = Box::default();
        let mut owners = Owners {
            firsts: Vec::new(),
            lives: Vec::new(),
            pods: Vec::new(),
            sets: vec![none.clone()],
            known: FxHashMap::from_iter([(none, SetId::NONE)]),
            unions: FxHashMap::default(),
            sets_max,
            rounded: false,
        };
        let mut next = 0;
        for (pod, snapshots) in volumes {
            assert!(owners.pods.last().is_none_or(|last| *last <= pod), "volumes of one pod stand together");
            owners.firsts.push(next);
            owners.lives.push(next + snapshots as u32);
            owners.pods.push(pod);
            next += snapshots as u32 + 1;
        }
        owners
    }

    /// What a volume holds now.
    pub fn volume(&mut self, volume: usize) -> SetId {
        let live = self.lives[volume];
        self.intern(std::iter::once(live..live + 1).collect())
    }

    /// One of a volume's snapshots.
    pub fn snapshot(&mut self, volume: usize, snapshot: usize) -> SetId {
        let owner = self.firsts[volume] + snapshot as u32;
        assert!(owner < self.lives[volume], "a volume has as many snapshots as were said");
        self.intern(std::iter::once(owner..owner + 1).collect())
    }

    /// Both.
    pub fn union(&mut self, one: SetId, other: SetId) -> SetId {
        if one == other || other == SetId::NONE {
            return one;
        }
        if one == SetId::NONE {
            return other;
        }
        let pair = (one.min(other), one.max(other));
        if let Some(known) = self.unions.get(&pair) {
            return *known;
        }
        let ranges = merged(&self.sets[one.index()], &self.sets[other.index()]);
        let union = match self.known.get(&ranges) {
            Some(known) => *known,
            None if self.sets.len() < self.sets_max && ranges.len() <= RANGES_MAX => self.intern(ranges),
            None => {
                self.rounded = true;
                let all = self.rounded_up(&ranges);
                self.intern(std::iter::once(all).collect())
            }
        };
        if self.unions.len() >= UNIONS_MAX {
            self.unions.clear();
        }
        self.unions.insert(pair, union);
        union
    }

    /// Number of sets met, the empty one included.
    pub fn sets(&self) -> usize {
        self.sets.len()
    }

    /// Whether sets were rounded up (O2).
    pub fn is_rounded(&self) -> bool {
        self.rounded
    }

    /// What the set at an index counts as.
    pub fn share(&self, set: usize) -> Share {
        let ranges = &self.sets[set];
        let [Range { start, .. }, ..] = ranges[..] else { return Share::Held };
        let last = ranges[ranges.len() - 1].end - 1;
        let (volume, other) = (self.volume_of(start), self.volume_of(last));
        if volume != other {
            return match self.pods[volume] == self.pods[other] {
                true => Share::Pod(self.pods[volume]),
                false => Share::Array,
            };
        }
        match last == self.lives[volume] {
            true => Share::Volume(volume),
            false => Share::Snapshots {
                volume,
                only: (start == last).then_some((start - self.firsts[volume]) as usize),
            },
        }
    }

    /// The volumes that hold what the set at an index reaches now, in order; too many if sets were rounded.
    pub fn volumes(&self, set: usize) -> impl Iterator<Item = usize> + '_ {
        let at = |owner: u32| self.lives.partition_point(|live| *live < owner);
        self.sets[set].iter().flat_map(move |range| at(range.start)..at(range.end))
    }

    fn volume_of(&self, owner: u32) -> usize {
        self.lives.partition_point(|live| *live < owner)
    }

    /// The least of all snapshots of a volume, a volume, a pod and everything that has it all (O2).
    fn rounded_up(&self, ranges: &[Range<u32>]) -> Range<u32> {
        let (start, last) = (ranges[0].start, ranges[ranges.len() - 1].end - 1);
        let (from, to) = (self.volume_of(start), self.volume_of(last));
        if from == to {
            let live = self.lives[from];
            return self.firsts[from]..if last == live { live + 1 } else { live };
        }
        let (from, to) = match self.pods[from] == self.pods[to] {
            true => {
                let pod = self.pods[from];
                let next = self.pods.partition_point(|other| *other <= pod);
                (self.pods.partition_point(|other| *other < pod), next - 1)
            }
            false => (0, self.pods.len() - 1),
        };
        self.firsts[from]..self.lives[to] + 1
    }

    fn intern(&mut self, ranges: Box<[Range<u32>]>) -> SetId {
        let next = SetId(self.sets.len() as u32);
        let id = *self.known.entry(ranges.clone()).or_insert(next);
        if id == next {
            self.sets.push(ranges);
        }
        id
    }
}

/// Both, in order, neighbours joined.
fn merged(one: &[Range<u32>], other: &[Range<u32>]) -> Box<[Range<u32>]> {
    let mut all: Vec<Range<u32>> = one.iter().chain(other).cloned().collect();
    all.sort_unstable_by_key(|range| range.start);
    all.dedup_by(|next, kept| {
        let touches = next.start <= kept.end;
        if touches {
            kept.end = kept.end.max(next.end);
        }
        touches
    });
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A volume, and one of its snapshots or what it holds now.
    type Member = (usize, Option<usize>);

    #[test]
    fn each_set_is_one_share_and_rounding_does_not_change_it() {
        let volumes = [(0, 3), (0, 0), (2, 2)];
        for sets_max in [usize::MAX, 0] {
            let mut owners = Owners::with_sets_max(volumes, sets_max);
            let mut set_of = |members: &[Member]| {
                members.iter().fold(SetId::NONE, |set, (volume, snapshot)| {
                    let one = match snapshot {
                        Some(snapshot) => owners.snapshot(*volume, *snapshot),
                        None => owners.volume(*volume),
                    };
                    owners.union(set, one)
                })
            };
            let cases: [(&[Member], Share); 9] = [
                (&[], Share::Held),
                (&[(0, None)], Share::Volume(0)),
                (&[(0, Some(1)), (0, None), (0, Some(0))], Share::Volume(0)),
                (&[(0, Some(2))], Share::Snapshots { volume: 0, only: Some(2) }),
                (&[(0, Some(0)), (0, Some(2))], Share::Snapshots { volume: 0, only: None }),
                (&[(1, None)], Share::Volume(1)),
                (&[(0, Some(2)), (1, None)], Share::Pod(0)),
                (&[(0, None), (1, None)], Share::Pod(0)),
                (&[(1, None), (2, Some(1))], Share::Array),
            ];
            let sets: Vec<SetId> = cases.iter().map(|(members, _)| set_of(members)).collect();
            for ((members, share), set) in cases.iter().zip(&sets) {
                assert_eq!(owners.share(set.index()), *share, "{members:?}");
            }
            assert_eq!(owners.is_rounded(), sets_max == 0);
            let holders: Vec<usize> = owners.volumes(sets[8].index()).collect();
            assert_eq!(holders, if sets_max == 0 { vec![0, 1, 2] } else { vec![1] });
            assert_eq!(owners.volumes(sets[6].index()).last(), Some(1));
        }
    }
}
