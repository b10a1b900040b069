//! Hosts and a manager at each site: overlapping writes, zeroes and reads, snapshots, clones, requests given up.

use std::ops::Range;

use bytes::Bytes;
use metropod_core::names::{Name, VolumeId};
use metropod_core::operation::Manage;
use metropod_core::task::FlowError;
use metropod_core::{Command, Fetch, HostError, Input, ManageError, Managed, Source};

use super::site::{Ended, SiteEvent};
use super::{Event, Frozen, Key, Nanos, POD, Pair, VOLUME_BYTES, ms};
use crate::payload::{self, SECTOR_BYTES};
use crate::register::Moment;

/// Sectors of the volume.
pub const SECTORS: u64 = VOLUME_BYTES / SECTOR_BYTES as u64;

/// Sectors of a block.
const BLOCK_SECTORS: u64 = 8;

/// Sectors of the part of the volume that most requests go to.
const HOT_SECTORS: u64 = 160;

/// Requests under way at one array.
const IN_FLIGHT_MAX: usize = 12;

/// Snapshots and clones in one run.
const FROZEN_MAX: usize = 5;

/// How busy the hosts are.
#[derive(Default)]
pub(super) struct Load {
    /// Longest pause between two requests at a site; 0: no requests.
    pub pause: Nanos,
    pub turning: [bool; 2],
    /// Sites without hosts.
    pub away: [bool; 2],
    pub manage: bool,
    /// How often a turn is also one of the second pod's hosts.
    pub neighbour_percent: u64,
    pub results: Vec<(usize, Key, Result<Managed, ManageError>)>,
}

/// A request under way.
pub(super) enum Asked {
    Write { number: u64 },
    Read { first: u64, count: u64, start: Moment, behind: bool, whole: Option<Source> },
    Manage { start: Moment },
}

/// A read whose data has come.
pub(super) struct ReadEnd {
    pub request: Key,
    pub result: Result<Bytes, FlowError>,
}

impl Pair {
    /// Lets hosts at both sites send a request now and then.
    pub(super) fn load(&mut self, pause: Nanos, manage: bool) {
        self.hosts.pause = pause;
        self.hosts.manage = manage;
        for site in 0..2 {
            if pause > 0 && !self.hosts.turning[site] {
                self.hosts.turning[site] = true;
                self.after(0, Event::Host { site });
            }
        }
    }

    pub(super) fn host_turn(&mut self, site: usize) {
        if self.hosts.pause == 0 {
            self.hosts.turning[site] = false;
            return;
        }
        let span = self.random.below(self.hosts.pause);
        self.after(span, Event::Host { site });
        let at = &self.sites[site];
        if at.array.is_none() || at.frozen || at.asked.len() >= IN_FLIGHT_MAX || self.hosts.away[site] {
            return;
        }
        if self.hosts.neighbour_percent > 0 && self.random.chance(self.hosts.neighbour_percent) {
            self.neighbour_write(site);
        }
        match self.random.below(100) {
            0..2 if self.hosts.manage => self.take_frozen(site),
            0..45 => self.random_read(site),
            _ => self.random_write(site),
        }
    }

    fn random_write(&mut self, site: usize) {
        let sectors = self.some_sectors();
        let zero = self.random.chance(12);
        if let Some((request, _)) = self.write(site, sectors, zero)
            && self.random.chance(20)
        {
            let span = self.random.below(ms(1_500));
            self.site_after(span, site, SiteEvent::Withdraw(request));
        }
    }

    fn random_read(&mut self, site: usize) {
        let sectors = self.some_sectors();
        if let Some(request) = self.read(site, sectors)
            && self.random.chance(20)
        {
            let span = self.random.below(ms(1_500));
            self.site_after(span, site, SiteEvent::Withdraw(request));
        }
    }

    fn some_sectors(&mut self) -> Range<u64> {
        let reach = if self.random.chance(85) { HOT_SECTORS } else { SECTORS };
        if self.random.chance(70) {
            let first = self.random.below(reach / BLOCK_SECTORS) * BLOCK_SECTORS;
            let length = BLOCK_SECTORS * (1 + self.random.below(3));
            first..(first + length).min(SECTORS)
        } else {
            let first = self.random.below(reach);
            first..(first + 1 + self.random.below(20)).min(SECTORS)
        }
    }

    /// A host sends a write: its request and its number.
    pub fn write(&mut self, site: usize, sectors: Range<u64>, zero: bool) -> Option<(Key, u64)> {
        let volume = self.volume?;
        self.sites[site].array.as_ref()?;
        let moment = self.tick();
        let number = self.history.sent(sectors.clone(), zero, moment);
        let operation = payload::write(volume, sectors.clone(), if zero { 0 } else { number });
        let request = self.next_request(site);
        self.log(|| format!("{site} write {number} of {sectors:?}{}", if zero { " zero" } else { "" }));
        self.sites[site].asked.insert(request, Asked::Write { number });
        self.note(number);
        self.step(site, Input::Host { request, pod: POD, operation });
        Some((request, number))
    }

    /// A host sends a read.
    pub fn read(&mut self, site: usize, sectors: Range<u64>) -> Option<Key> {
        let source = Source::Volume(self.volume?);
        self.read_from(site, source, sectors, None)
    }

    pub(super) fn read_from(
        &mut self,
        site: usize,
        source: Source,
        sectors: Range<u64>,
        whole: Option<Source>,
    ) -> Option<Key> {
        let behind = self.sites[site].array.as_ref()?.pod(POD)?.machine().out_of_sync().is_some();
        let request = self.next_request(site);
        let start = self.tick();
        let (first, count) = (sectors.start, sectors.end - sectors.start);
        self.sites[site].asked.insert(request, Asked::Read { first, count, start, behind, whole });
        let (offset, length) = (first * SECTOR_BYTES as u64, count * SECTOR_BYTES as u64);
        self.step(site, Input::Read { request, pod: POD, source, offset, length, metered: true });
        Some(request)
    }

    /// Takes a snapshot, or makes a clone.
    fn take_frozen(&mut self, site: usize) {
        if self.frozen.len() >= FROZEN_MAX {
            return;
        }
        let name = Name::new(&format!("f{}", self.moment)).expect("a good name");
        let source = Name::new("vol").expect("a good name");
        let change = if self.random.chance(70) {
            Manage::CreateSnapshot { volume: Some(source), suffix: name }
        } else {
            Manage::CloneVolume { source, suffix: None, name }
        };
        self.manage(site, Command::Change { pod: POD, change });
    }

    /// A manager sends a request.
    pub(super) fn manage(&mut self, site: usize, command: Command) -> Option<Key> {
        self.sites[site].array.as_ref()?;
        let request = self.next_request(site);
        let start = self.tick();
        self.log(|| format!("{site} manage {command:?}"));
        self.sites[site].asked.insert(request, Asked::Manage { start });
        self.step(site, Input::Manage { request, command });
        Some(request)
    }

    // ---- answers

    pub(super) fn host_answer(&mut self, site: usize, request: Key, result: Result<(), HostError>) {
        if self.neighbour_answer(site, request, result.is_ok()) {
            return;
        }
        let Some(asked) = self.sites[site].asked.remove(&request) else { return };
        let moment = self.tick();
        self.note(request.0 ^ u64::from(result.is_ok()) << 32);
        let Asked::Write { number } = asked else {
            assert!(result.is_err(), "a read ends in data or in an error");
            self.counts.errors += 1;
            return;
        };
        self.log(|| format!("{site} write {number}: {result:?}"));
        match result {
            Ok(()) => {
                self.counts.acknowledged += 1;
                self.history.acknowledged(number, moment);
            }
            Err(HostError::Withdrawn | HostError::Busy | HostError::Suspended) => {
                self.counts.errors += 1;
                if let Err(violation) = self.history.refused(number) {
                    self.fail(&format!("site {site}: {violation:?}"));
                }
            }
            Err(_) => {
                self.counts.errors += 1;
                self.history.failed(number, moment);
            }
        }
    }

    pub(super) fn fetch(&mut self, site: usize, request: Key, fetch: Fetch) {
        match self.sites[site].asked.get(&request) {
            Some(Asked::Read { behind: true, .. }) => {
                self.fail(&format!("site {site} answers a read that it got while out of sync"))
            }
            Some(_) => {}
            None => return,
        }
        self.sites[site].flows.spawn(async move {
            let result = fetch.read().await;
            Ended::Read(Box::new(ReadEnd { request, result }))
        });
    }

    pub(super) fn read_answer(&mut self, site: usize, end: ReadEnd) {
        let asked = self.sites[site].asked.remove(&end.request);
        let Some(Asked::Read { first, count, start, whole, .. }) = asked else { return };
        let moment = self.tick();
        let bytes = match end.result {
            Ok(bytes) => bytes,
            // It is never wrong, and may be missing: the arrays may be apart.
            Err(FlowError::Chunk(_)) if self.rotting && whole.is_none() => {
                self.counts.errors += 1;
                return;
            }
            Err(error) => self.fail(&format!("site {site} cannot read what it stored: {error:?}")),
        };
        assert_eq!(bytes.len() as u64, count * SECTOR_BYTES as u64);
        self.counts.reads += 1;
        self.note(u64::from_le_bytes(*bytes.first_chunk().expect("a sector at least")));
        let times = match whole.and_then(|source| self.frozen.get(&Frozen::of(source))) {
            // What is frozen reads as the volume did when it was taken.
            Some(taken) => taken.clone(),
            None => start..moment,
        };
        if let Err(violation) = self.history.read(first, &bytes, times) {
            self.fail(&format!("site {site} reads {first}+{count}, {whole:?}: {violation:?}"));
        }
        if whole.is_some() {
            self.sites[site].read = Some(bytes);
        }
    }

    pub(super) fn manager_answer(&mut self, site: usize, request: Key, result: Result<Managed, ManageError>) {
        let Some(Asked::Manage { start }) = self.sites[site].asked.remove(&request) else { return };
        let moment = self.tick();
        self.log(|| format!("{site} managed: {result:?}"));
        match &result {
            Ok(Managed::Snapshots(taken)) => {
                for id in taken {
                    self.frozen.insert(Frozen::Snapshot(*id), start..moment);
                }
            }
            Ok(Managed::Volume(id)) if self.volume.is_some() => {
                self.frozen.insert(Frozen::Clone(*id), start..moment);
            }
            Ok(Managed::Done) => self.manager_done(site, request, start..moment),
            _ => {}
        }
        self.counts.managed += u64::from(result.is_ok());
        self.hosts.results.push((site, request, result));
    }

    /// The array died: nobody will say what became of its requests.
    pub(super) fn requests_lost(&mut self, site: usize) {
        self.sites[site].asked.clear();
        self.neighbour_lost(site);
    }
}

impl Frozen {
    fn of(source: Source) -> Frozen {
        match source {
            Source::Snapshot(id) => Frozen::Snapshot(id),
            Source::Volume(id) => Frozen::Clone(id),
        }
    }

    pub(super) fn source(self) -> Source {
        match self {
            Frozen::Snapshot(id) => Source::Snapshot(id),
            Frozen::Clone(id) => Source::Volume(id),
        }
    }
}

/// The volume as a read's source.
pub(super) fn volume(id: VolumeId) -> Source {
    Source::Volume(id)
}
