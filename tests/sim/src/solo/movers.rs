//! The volume that hosts write moves between two pods with its snapshots, while they write and the power goes.
//!
//! - W1: once a move has ended the volume is in use in one pod, and only there; what was answered says where.
//! - W2: nothing acknowledged is lost on the way (S1).
//! - W3: a move ends by itself, also after any crash; another volume of its name that was first at the target turns it back.

use metropod_core::names::{Name, SnapshotId, VolumeId};
use metropod_core::namespace::Volume;
use metropod_core::operation::{Manage, Target};
use metropod_core::{Array, Command, Input, Managed};
use metropod_protocol::{PodId, Span};

use super::{IN_FLIGHT_MAX, POD, Solo, VOLUME_BYTES};

const OTHER: PodId = PodId([8; 16]);

/// Size of a volume of the same name that is in the way.
const RIVAL_BYTES: u64 = 2 * VOLUME_BYTES;

impl Solo {
    /// Lets the volume move.
    pub fn moving(mut self) -> Solo {
        let name = Name::new("other").expect("a good name");
        self.manage(Command::CreatePod { pod: OTHER, name }).expect("the second pod can be made");
        self.moving = true;
        self
    }

    /// Moves the volume, writes being under way; sometimes its name is taken meanwhile.
    pub(super) fn move_volume(&mut self) {
        let to = if self.home == POD { OTHER } else { POD };
        let start = self.starts;
        if !self.remove_rival(to) || self.starts != start {
            return;
        }
        let (pod, volume) = (self.home, self.volume.expect("made at the beginning"));
        let mut asked = Vec::new();
        // Some do not know that somebody asked already.
        for _ in 0..1 + self.random.below(2) {
            let Some(array) = &mut self.array else { return };
            let request = array.next_request();
            self.input(Input::Manage { request, command: Command::Move { pod, volume, to } });
            asked.push(request);
        }
        let name = Name::new("vol").expect("a good name");
        let change = Manage::CreateVolume { name, size_bytes: RIVAL_BYTES };
        let is_taken = self.random.chance(30) && self.manage(Command::Change { pod: to, change }).is_ok();
        if self.starts == start {
            self.find_home(true);
        }
        if self.starts == start {
            let came = self.home == to;
            assert!(came != is_taken, "W3: the name was taken: {is_taken}, and the volume came: {came}");
            for request in asked {
                let at = self.answers.iter().position(|(answered, _)| *answered == request);
                let answer =
                    at.and_then(|at| self.answers.remove(at)).expect("W3: everybody who asked is answered");
                assert!(answer.1.is_ok() == came, "W1: {:?}, and the volume came: {came}", answer.1);
            }
            self.counts.moves += u64::from(came);
            self.counts.turned_back += u64::from(!came);
        }
    }

    /// Two snapshots are destroyed one after the other, then their volume moves; gives how long each waited for its end.
    pub fn destroyed_snapshots_move(&mut self) -> [Span; 2] {
        self.take_snapshot();
        self.take_snapshot();
        let numbers: Vec<u64> = self.snapshots.keys().copied().collect();
        let [mut began, mut ended] = [[None; 2]; 2];
        for (at, taken_at) in numbers.iter().enumerate() {
            let volume = self.volume.expect("made at the beginning");
            let target = Target::Snapshot(SnapshotId { volume, taken_at: *taken_at });
            let destroyed = self.manage(Command::Destroy { pod: POD, target, contents: false });
            assert_eq!(destroyed, Ok(Managed::Done));
            began[at] = Some(self.now);
            // Not long enough for any of it to be counted.
            self.pass_time(Span::millis(100_000));
        }
        self.snapshots.clear();
        let (pod, volume) = (self.home, self.volume.expect("made at the beginning"));
        assert_eq!(self.manage(Command::Move { pod, volume, to: OTHER }), Ok(Managed::Done));
        self.find_home(false);
        while ended.contains(&None) {
            self.pass_time(Span::millis(10_000));
            self.settle();
            let found = self.array.as_ref().and_then(|array| array.pod(OTHER)).expect("no power is cut");
            for (at, taken_at) in numbers.iter().enumerate() {
                let there = found.namespace().snapshots.keys().any(|id| id.taken_at == *taken_at);
                if !there && ended[at].is_none() {
                    ended[at] = Some(self.now);
                }
            }
        }
        let both = began.into_iter().zip(ended);
        let waited: Vec<Span> =
            both.map(|(began, ended)| ended.expect("both").since(began.expect("both"))).collect();
        [waited[0], waited[1]]
    }

    /// Whether nothing is in the way at `pod`.
    fn remove_rival(&mut self, pod: PodId) -> bool {
        let Some(id) = self.volumes_of(pod, RIVAL_BYTES).pop() else { return true };
        let target = Target::Volume(id);
        let _destroyed = self.manage(Command::Destroy { pod, target, contents: false });
        let change = Manage::Eradicate { target, contents: false, waited: None };
        self.manage(Command::Change { pod, change }).is_ok()
    }

    /// Waits for the end of a move and looks where the volume is; hosts may be writing to where it is in use.
    pub(super) fn find_home(&mut self, writing: bool) {
        for _ in 0..10_000 {
            if self.media.is_dark() {
                return self.crash();
            }
            // After a start the namespaces are the manifest's until the log is applied.
            let ended = |array: &Array| {
                array
                    .pods()
                    .all(|pod| pod.namespace().moving.is_none() && pod.applied() >= pod.machine().log_end())
            };
            let found: Vec<(PodId, VolumeId)> = [POD, OTHER]
                .into_iter()
                .flat_map(|pod| self.volumes_of(pod, VOLUME_BYTES).into_iter().map(move |id| (pod, id)))
                .collect();
            if let [(pod, id)] = found[..]
                && self.array.as_ref().is_some_and(ended)
            {
                (self.home, self.volume) = (pod, Some(id));
                return;
            }
            let in_use = |(pod, id): &&(PodId, VolumeId)| {
                let pod = self.array.as_ref().and_then(|array| array.pod(*pod));
                pod.is_some_and(|pod| pod.namespace().is_in_use(*id))
            };
            let in_use: Vec<_> = found.iter().filter(in_use).copied().collect();
            assert!(in_use.len() <= 1, "W1: in use in both");
            if let [(pod, id)] = in_use[..]
                && writing
                && self.writes.len() < IN_FLIGHT_MAX
                && self.random.chance(10)
            {
                (self.home, self.volume) = (pod, Some(id));
                self.send_write();
            }
            self.go_on(Span::millis(20));
        }
        panic!("W3: a move ends");
    }

    /// Volumes of this size and no clones, whether in use or not.
    fn volumes_of(&self, pod: PodId, size_bytes: u64) -> Vec<VolumeId> {
        let pod = self.array.as_ref().and_then(|array| array.pod(pod));
        let volumes = pod.into_iter().flat_map(|pod| &pod.namespace().volumes);
        let is_meant = |volume: &Volume| volume.size_bytes == size_bytes && volume.name.as_str() == "vol";
        volumes.filter(|(_, volume)| is_meant(volume)).map(|(id, _)| *id).collect()
    }
}
