//! What must hold after every event, and what must hold once the faults are over.
//!
//! - G1: never two arrays serve while one of them is alone; never two are alone.
//! - G2: memory and journal stay within their bounds.
//! - G3: in the end both serve, mirrored, the right is back at the mediator, and both hold the same, byte for byte.
//! - G4: whose the space is adds up, counts nothing twice, and misses nothing, whatever goes on while it is counted.

use metropod_core::space_account::SpaceAccount;
use metropod_core::{Alarm, Array};
use metropod_dedupe::Digest;
use metropod_protocol::{MediatorStatus, PodId, Serving, Side};
use metropod_snapshots::{Image, LayerId, Nodes};

use super::{Frozen, IDS, NEIGHBOUR, Nanos, POD, Pair, VOLUME_BYTES, hosts, ms};
use crate::executor::run;
use crate::payload::SECTOR_BYTES;

/// Staged bytes that these small worlds never come near.
const STAGED_MAX: u64 = 32 << 20;

/// How long healing may take once the faults are over.
pub const HEAL: Nanos = ms(60_000);

impl Pair {
    /// G4.
    pub(super) fn check_account(&mut self, account: &SpaceAccount) {
        self.counts.accounts += 1;
        self.counts.accounts_with_held += u64::from(account.held_bytes > 0);
        let census = &account.census;
        let counted = account.data_bytes() + account.held_bytes + account.map_bytes;
        if account.sum_bytes() != census.used_bytes as i64
            || counted > census.stored_bytes + census.staged_bytes
            || account.missing_chunks > 0
        {
            self.fail(&format!("G4: {account:?}"));
        }
    }

    /// Ends the run: an oracle does not hold.
    pub(super) fn fail(&self, what: &str) -> ! {
        for (site, pod) in [(0, POD), (1, POD), (0, NEIGHBOUR), (1, NEIGHBOUR)] {
            if let Some(pod) = self.array(site).and_then(|array| array.pod(pod)) {
                let now = self.sites[site].clock(self.now);
                let machine = pod.machine();
                eprintln!(
                    "{site}: {:?}\n   log {:?}..{:?} durable {:?} committed {:?} applied {:?} behind {:?} catch-up {:?}\n   history {:?}",
                    machine.status(now),
                    machine.base().index,
                    machine.log_end(),
                    machine.durable(),
                    machine.committed(),
                    pod.applied(),
                    machine.out_of_sync(),
                    catch_up(pod.catch_up()),
                    machine.history().iter().rev().take(4).collect::<Vec<_>>(),
                );
            } else {
                eprintln!("{site}: not running, or without the pod");
            }
        }
        for site in &self.sites {
            eprintln!("   {}", site.under_way());
        }
        panic!("seed {}, at {:.3} ms: {what}", self.seed, self.now as f64 / 1e6);
    }

    pub(super) fn check_world(&mut self) {
        let mut serving = [false; 2];
        let mut alone = [false; 2];
        for site in 0..2 {
            let at = &self.sites[site];
            let Some(array) = at.array.as_ref() else { continue };
            let (used, budget) = array.journal_bytes();
            let staged = array.store().staged_bytes();
            if used > budget + (5 << 20) || staged > STAGED_MAX {
                self.fail(&format!("G2: site {site}: journal {used} of {budget}, staged {staged}"));
            }
            let Some(pod) = array.pod(POD) else { continue };
            (serving[site], alone[site]) = self.serves_and_is_alone(site, POD);
            let behind = pod.machine().out_of_sync().is_some();
            if alone[site] != at.was_alone || behind != at.was_behind {
                self.counts.alone += u64::from(alone[site] && !at.was_alone);
                self.counts.behind += u64::from(behind && !at.was_behind);
                let at = &mut self.sites[site];
                (at.was_alone, at.was_behind) = (alone[site], behind);
                self.log(|| format!("{site} alone: {}, behind: {behind}", alone[site]));
            }
        }
        self.check_split(serving, alone);
        let [one, other] = [0, 1].map(|site| self.serves_and_is_alone(site, NEIGHBOUR));
        self.check_split([one.0, other.0], [one.1, other.1]);
    }

    fn check_split(&self, serving: [bool; 2], alone: [bool; 2]) {
        if alone[0] && alone[1] {
            self.fail("G1: both arrays are alone");
        }
        if serving[0] && serving[1] && (alone[0] || alone[1]) {
            self.fail("G1: both arrays serve and one of them is alone");
        }
    }

    fn serves_and_is_alone(&self, site: usize, pod: PodId) -> (bool, bool) {
        let at = &self.sites[site];
        let Some(pod) = at.array.as_ref().and_then(|array| array.pod(pod)) else { return (false, false) };
        let machine = pod.machine();
        let serves = !at.frozen && machine.serving(at.clock(self.now)) == Serving::Yes;
        let alone = machine.out_of_sync().is_none()
            && machine.history().last().is_some_and(|item| {
                item.configuration.members.is_only(IDS[site]) && machine.committed() >= item.first
            });
        (serves, alone)
    }

    /// Both serve, mirrored, the right at the mediator, nothing under way.
    pub fn is_healed(&self) -> bool {
        let second = self.array(0).is_some_and(|array| array.pod(NEIGHBOUR).is_some());
        self.is_pod_healed(POD) && (!second || self.is_pod_healed(NEIGHBOUR))
    }

    fn is_pod_healed(&self, pod: PodId) -> bool {
        let healed = |site: usize| {
            let array = self.array(site)?;
            let pod = array.pod(pod)?;
            let machine = pod.machine();
            let status = machine.status(self.sites[site].clock(self.now));
            let healed = status.mine == Side::Online
                && status.peer == Some((IDS[1 - site], Side::Online))
                && status.mirrored
                && status.in_session
                && status.pre_elected.is_none()
                && status.mediator == MediatorStatus::Reachable;
            healed.then_some(machine.end())
        };
        matches!((healed(0), healed(1)), (Some(one), Some(other)) if one == other)
    }

    /// Runs until both arrays are as they should be, and fails if that takes too long.
    pub fn heal_within(&mut self, span: Nanos) {
        let until = self.now + span;
        while !self.is_healed() {
            if self.now >= until {
                self.fail("G3: not both online, mirrored and backed by the mediator in time");
            }
            self.run_for(ms(5));
        }
    }

    /// Runs until every request is answered.
    pub(super) fn rest_within(&mut self, span: Nanos) {
        let until = self.now + span;
        let resting = |pair: &Pair| {
            pair.neighbour_rests()
                && pair.sites.iter().all(|at| {
                    at.asked.is_empty()
                        && at.array.as_ref().is_some_and(|array| {
                            array.is_quiet()
                                && array.pods().all(|pod| pod.applied() == pod.machine().log_end())
                        })
                })
        };
        while !resting(self) {
            if self.now >= until {
                let open: Vec<usize> = self.sites.iter().map(|at| at.asked.len()).collect();
                self.fail(&format!("G3: requests stay unanswered: {open:?}"));
            }
            self.run_for(ms(1));
        }
    }

    /// Compares everything at both arrays (G3). They are healed and at rest.
    pub fn compare(&mut self) {
        let Some(volume) = self.volume else { return };
        let mut sources = vec![hosts::volume(volume)];
        sources.extend(self.frozen.keys().map(|frozen| Frozen::source(*frozen)));
        for source in sources {
            let one = self.read_whole(0, source);
            let other = self.read_whole(1, source);
            if let Some(at) = (0..one.len()).find(|at| one[*at] != other[*at]) {
                self.fail(&format!("G3: {source:?} differs at sector {}", at / SECTOR_BYTES));
            }
            self.counts.snapshots += 1;
        }
        for pod in [POD, NEIGHBOUR] {
            if self.digests(0, pod) != self.digests(1, pod) {
                self.fail("G3: the digests differ");
            }
            let space = |site| self.array(site).and_then(|array| array.pod(pod)).map(|pod| pod.namespace());
            if space(0) != space(1) {
                self.fail("G3: the namespaces differ");
            }
        }
    }

    fn read_whole(&mut self, site: usize, source: metropod_core::Source) -> bytes::Bytes {
        let sectors = VOLUME_BYTES / SECTOR_BYTES as u64;
        self.sites[site].read = None;
        if self.read_from(site, source, 0..sectors, Some(source)).is_none() {
            self.fail("G3: an array does not hold the pod");
        }
        self.rest_within(ms(5_000));
        match self.sites[site].read.take() {
            Some(bytes) => bytes,
            None => self.fail(&format!("G3: {source:?} cannot be read at {site}")),
        }
    }

    /// Canonical digests of every volume and snapshot.
    pub(super) fn digests(&self, site: usize, pod: PodId) -> Vec<Digest> {
        let Some(array) = self.array(site) else { return Vec::new() };
        let Some(pod) = array.pod(pod) else { return Vec::new() };
        let nodes = Nodes::new(array.store().clone());
        // Reads of a resting array's nodes: answered at once by a queue of their own.
        let volumes = pod.namespace().volumes.keys().filter_map(|id| pod.volume_map(*id));
        let images: Vec<Image> = volumes
            .map(|map| map.clone().freeze(LayerId(u64::MAX)))
            .chain(pod.namespace().snapshots.keys().filter_map(|id| pod.snapshot_image(*id).cloned()))
            .collect();
        let at = &self.sites[site];
        at.answer_at_once(true);
        let digests = images
            .iter()
            .map(|image| run(metropod_snapshots::volume_digest(image, &nodes)).expect("nodes can be read"))
            .collect();
        at.answer_at_once(false);
        digests
    }

    pub(super) fn log_status(&self, site: usize, pod: PodId) {
        if !self.verbose {
            return;
        }
        let now = self.sites[site].clock(self.now);
        if let Some(found) = self.array(site).and_then(|array| array.pod(pod)) {
            let status = found.machine().status(now);
            self.log(|| {
                format!(
                    "{site} is {:?}, sees {:?}, session {}, mirrored {}, pre-elected {:?}, {:?}, epoch {:?}, racing {}",
                    status.mine,
                    status.peer.map(|(_, side)| side),
                    status.in_session,
                    status.mirrored,
                    status.pre_elected.map(Pair::site_of),
                    status.mediator,
                    status.epoch,
                    status.racing,
                )
            });
        }
    }

    pub(super) fn alarm(&mut self, site: usize, alarm: Alarm) {
        self.log(|| format!("{site} ALARM {alarm:?}"));
        match alarm {
            Alarm::Protocol(_, alarm) => {
                use metropod_protocol::Alarm as Cause;
                if matches!(
                    alarm,
                    Cause::Diverged
                        | Cause::SplitBrain
                        | Cause::CommittedWouldBeCut
                        | Cause::PeerTooFarBehind
                        | Cause::PeerBrokeProtocol
                ) || (alarm == Cause::WrongMediator && !self.mediator.wrong[site])
                {
                    self.fail(&format!("site {site} raises {alarm:?}"));
                }
            }
            Alarm::DamagedChunk(_) | Alarm::DamagedSegment(_) if self.rotting => {}
            Alarm::CorruptEntry(_)
            | Alarm::BadFrame(_)
            | Alarm::DamagedChunk(_)
            | Alarm::BadChunk(_)
            | Alarm::DamagedSegment(_) => {
                self.fail(&format!("site {site} raises {alarm:?}"));
            }
            Alarm::JournalPoisoned(_)
            | Alarm::NoSpace
            | Alarm::FlowFailed { .. }
            | Alarm::TransferFailed(_)
            | Alarm::ChunkRepaired(_) => {}
        }
    }

    /// The register as the mediator's disk holds it.
    pub fn register(&self) -> metropod_protocol::mediator::Register {
        self.mediator.registers.get(&POD).copied().unwrap_or_default()
    }
}

fn catch_up(of: &metropod_core::CatchUp) -> &'static str {
    use metropod_core::CatchUp;
    match of {
        CatchUp::Idle => "idle",
        CatchUp::Sending(_) => "sending",
        CatchUp::Suffix { .. } => "suffix",
        CatchUp::Receiving(_) => "receiving",
        CatchUp::Flipping(_) => "flipping",
    }
}

/// Whether an array runs at all: for scenarios.
pub(super) fn runs(array: Option<&Array>) -> bool {
    array.is_some()
}
