//! Finding and reading chunks.
//!
//! Staged payloads first, then the hint (the caller's or a remembered one), then the recent table, then the runs. A hint is
//! believed only when the record there has the digest and the content; anything else falls back to the index.
//!
//! - F1: a lookup never gives the location of a dead record or of one in a freed segment.
//! - F2: a chunk may be moved between lookup and read; then it is looked up again. It is rotten only if the place where
//!   the index says it is does not hold it.

use std::sync::Arc;

use bytes::Bytes;
use metropod_journal::media::{Cause, Create, MediaError};

use super::{ReadError, Store, lock};
use crate::digest::{Digest, Domain};
use crate::files::OpenFile;
use crate::index::{Run, RunFault};
use crate::location::Location;
use crate::reduce::{Payload, verify};
use crate::segment::{RECORD_HEADER_BYTES, RecordHeader, decode_payload, segment_path};
use crate::turn::join_all;

/// Lookups that may wait for the device at once, per caller.
pub(super) const LOOKUPS_AT_ONCE: usize = 32;

/// Why the index could not answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum LookupFault {
    Damaged,
    Media(MediaError),
}

impl LookupFault {
    fn of(self, digest: &Digest) -> ReadError {
        match self {
            LookupFault::Damaged => ReadError::IndexDamaged { digest: *digest },
            LookupFault::Media(source) => ReadError::Media { digest: *digest, source },
        }
    }
}

/// Why a location gave no payload.
pub(super) enum RecordFault {
    /// There is no such record there.
    Stale,
    /// The record is there, its bytes are not.
    Rotten,
    Media(MediaError),
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nowhere,
    /// In memory only.
    Staged,
    Stored(Location),
}

impl Found {
    pub(super) fn location(&self) -> Option<Location> {
        match self {
            Found::Stored(location) => Some(*location),
            Found::Nowhere | Found::Staged => None,
        }
    }
}

impl Store {
    /// The content of a chunk, proven to be what `digest` names in `domain`; fetched from elsewhere if it is lost here and
    /// somebody else has it ([`Store::set_rescue`]).
    pub async fn get(
        &self,
        domain: Domain,
        digest: &Digest,
        hint: Option<Location>,
    ) -> Result<Bytes, ReadError> {
        match self.get_here(domain, digest, hint).await {
            Err(error) => Ok(self.rescued(domain, digest, error).await?.0),
            Ok(content) => Ok(content),
        }
    }

    async fn get_here(
        &self,
        domain: Domain,
        digest: &Digest,
        hint: Option<Location>,
    ) -> Result<Bytes, ReadError> {
        if let Some(payload) = self.get_staged(digest) {
            return verify(domain, digest, &payload)
                .map_err(|_| ReadError::Rot { digest: *digest, location: None });
        }
        if let Some(hint) = hint.or_else(|| self.remembered(digest))
            && let Ok(payload) = self.read_record(digest, hint).await
            && let Ok(content) = verify(domain, digest, &payload)
        {
            return Ok(content);
        }
        let (payload, location) = self.find_payload(digest).await?;
        let content = verify(domain, digest, &payload);
        let content = content.map_err(|_| ReadError::Rot { digest: *digest, location })?;
        self.remember(digest, location);
        Ok(content)
    }

    /// The content of a chunk as [`Store::get`] gives it, if that takes no waiting: it is staged, or its place is remembered
    /// and the media holds it in memory. `None` says nothing about the chunk.
    pub fn get_now(&self, domain: Domain, digest: &Digest) -> Option<Bytes> {
        if let Some(payload) = self.get_staged(digest) {
            return verify(domain, digest, &payload).ok();
        }
        let location = self.remembered(digest)?;
        let length = self.readable(location)?;
        let file = lock(&self.shared.files).get(location.segment())?;
        let bytes = self.shared.io.read_now(file.id(), u64::from(location.offset()), length)?;
        let header = RecordHeader::decode(location.segment(), &bytes)?;
        let payload = decode_payload(location.segment(), &header, &bytes)?;
        verify(domain, digest, &payload).ok()
    }

    /// A data chunk as it is stored, for transfer: the record's check has passed, the digest was not computed. Fetched from
    /// elsewhere as by [`Store::get`].
    pub async fn get_payload(&self, digest: &Digest) -> Result<Payload, ReadError> {
        match self.get_payload_here(digest).await {
            Err(error) => Ok(self.rescued(Domain::Data, digest, error).await?.1),
            Ok(payload) => Ok(payload),
        }
    }

    async fn get_payload_here(&self, digest: &Digest) -> Result<Payload, ReadError> {
        if let Some(payload) = self.get_staged(digest) {
            return Ok(payload);
        }
        if let Some(hint) = self.remembered(digest)
            && let Ok(payload) = self.read_record(digest, hint).await
        {
            return Ok(payload);
        }
        let (payload, location) = self.find_payload(digest).await?;
        self.remember(digest, location);
        Ok(payload)
    }

    /// A place that is remembered, unless the record there is dead (F1).
    fn remembered(&self, digest: &Digest) -> Option<Location> {
        let hint = lock(&self.shared.hints).get(digest)?;
        self.lock().only_visible(hint)
    }

    fn remember(&self, digest: &Digest, location: Option<Location>) {
        if let Some(location) = location {
            lock(&self.shared.hints).insert(digest, location);
        }
    }

    /// Which of these chunks are staged or stored. A chunk whose index page is damaged counts as not stored:
    /// sending it again heals it.
    pub async fn have(&self, digests: &[Digest]) -> Result<Vec<bool>, ReadError> {
        let mut answers = Vec::with_capacity(digests.len());
        for batch in digests.chunks(LOOKUPS_AT_ONCE) {
            // Staged first: a chunk that is hardened in between is found in the table afterwards.
            let staged: Vec<bool> = {
                let inner = self.lock();
                batch.iter().map(|digest| inner.staged.contains_key(digest)).collect()
            };
            let found = self.lookup_batch(batch).await;
            for ((digest, staged), found) in batch.iter().zip(staged).zip(found) {
                answers.push(match found {
                    _ if staged => true,
                    // It may have died since the lookup; if not, it lives until the next pass (C1).
                    Ok(found) => found.is_some_and(|found| self.lock().set_live_if_visible(found)),
                    Err(LookupFault::Damaged) => false,
                    Err(fault) => return Err(fault.of(digest)),
                });
            }
        }
        Ok(answers)
    }

    /// Where at most [`LOOKUPS_AT_ONCE`] chunks are.
    pub(super) async fn stored_or_staged(&self, digests: &[Digest]) -> Result<Vec<Found>, ReadError> {
        // Staged first, as above.
        let staged: Vec<bool> = {
            let inner = self.lock();
            digests.iter().map(|digest| inner.staged.contains_key(digest)).collect()
        };
        let found = self.lookup_batch(digests).await;
        let found = digests.iter().zip(staged).zip(found).map(|((digest, staged), found)| match found {
            Ok(Some(location)) => Ok(Found::Stored(location)),
            _ if staged => Ok(Found::Staged),
            Ok(None) => Ok(Found::Nowhere),
            Err(fault) => Err(fault.of(digest)),
        });
        found.collect()
    }

    /// Where a chunk lies, to be kept as a hint; `None` if it is not stored (it may be staged).
    pub async fn locate(&self, digest: &Digest) -> Result<Option<Location>, ReadError> {
        self.lookup(digest).await.map_err(|fault| fault.of(digest))
    }

    async fn find_payload(&self, digest: &Digest) -> Result<(Payload, Option<Location>), ReadError> {
        let mut tried = None;
        loop {
            if let Some(payload) = self.get_staged(digest) {
                return Ok((payload, None));
            }
            let found = self.lookup(digest).await.map_err(|fault| fault.of(digest))?;
            let location = found.ok_or(ReadError::Missing { digest: *digest })?;
            match self.read_record(digest, location).await {
                Ok(payload) => return Ok((payload, Some(location))),
                Err(RecordFault::Media(source)) => return Err(ReadError::Media { digest: *digest, source }),
                Err(RecordFault::Stale | RecordFault::Rotten) if tried == Some(location) => {
                    return Err(ReadError::Rot { digest: *digest, location: Some(location) });
                }
                // F2; each turn but the last is a move, and moves are rare.
                Err(RecordFault::Stale | RecordFault::Rotten) => tried = Some(location),
            }
        }
    }

    /// Looks in the recent table and the runs.
    pub(super) async fn lookup(&self, digest: &Digest) -> Result<Option<Location>, LookupFault> {
        loop {
            let (runs, buried) = {
                let inner = self.lock();
                if let Some(location) = inner.recent.get(digest) {
                    return Ok(inner.only_visible(*location));
                }
                (inner.runs.clone(), inner.buried)
            };
            let found = self.ask(&runs, digest).await?;
            let inner = self.lock();
            let visible = found.and_then(|found| inner.only_visible(found));
            // If something was superseded meanwhile, it may have been this, and the table or a newer run knows by what.
            if visible.is_some() || found.is_none() || inner.buried == buried {
                return Ok(visible);
            }
        }
    }

    /// Looks up at most [`LOOKUPS_AT_ONCE`] digests together.
    pub(super) async fn lookup_batch(
        &self,
        digests: &[Digest],
    ) -> Vec<Result<Option<Location>, LookupFault>> {
        assert!(digests.len() <= LOOKUPS_AT_ONCE, "callers cut their batches");
        let (mut answers, runs, buried) = {
            let inner = self.lock();
            let recent = digests.iter().map(|digest| Ok(inner.recent.get(digest).copied()));
            let recent: Vec<Result<Option<Location>, LookupFault>> = recent.collect();
            (recent, inner.runs.clone(), inner.buried)
        };
        // The filters settle most unknown digests; only the others wait for the device.
        let is_open = |index: &usize| {
            matches!(answers[*index], Ok(None)) && runs.iter().any(|run| run.may_contain(&digests[*index]))
        };
        let open: Vec<usize> = (0..digests.len()).filter(is_open).collect();
        if open.len() > 1 {
            self.announce_pages(&runs, open.iter().map(|index| &digests[*index]));
        }
        let asked = join_all(open.iter().map(|index| self.lookup(&digests[*index]))).await;
        for (index, answer) in open.into_iter().zip(asked) {
            answers[index] = answer;
        }
        // What was found may have died, or moved, while the others were waited for.
        let gone: Vec<usize> = {
            let inner = self.lock();
            let is_gone =
                |index: &usize| matches!(answers[*index], Ok(Some(location)) if !inner.is_visible(location));
            let gone: Vec<usize> = (0..digests.len()).filter(is_gone).collect();
            gone.iter().for_each(|index| answers[*index] = Ok(None));
            if inner.buried == buried { Vec::new() } else { gone }
        };
        for index in gone {
            answers[index] = self.lookup(&digests[index]).await;
        }
        answers
    }

    /// Has the media read side by side what the lookups of these digests will most likely ask for.
    fn announce_pages<'a>(&self, runs: &[Arc<Run>], digests: impl Iterator<Item = &'a Digest>) {
        let run_of = |digest: &'a Digest| runs.iter().find(|run| run.may_contain(digest)).zip(Some(digest));
        let pages = digests.filter_map(run_of);
        let ranges = pages.filter_map(|(run, digest)| run.page_to_read(&self.shared.pages, digest));
        let ranges: Vec<_> = ranges.collect();
        if !ranges.is_empty() {
            self.shared.io.will_need(ranges);
        }
    }

    async fn ask(&self, runs: &[Arc<Run>], digest: &Digest) -> Result<Option<Location>, LookupFault> {
        let mut fault = None;
        for run in runs.iter().filter(|run| run.may_contain(digest)) {
            match run.find(&self.shared.io, &self.shared.pages, digest).await {
                // The newest entry is right: what it supersedes is out of use, too.
                Ok(Some(location)) => return Ok(Some(location)),
                Ok(None) => {}
                Err(RunFault::Media(error)) => return Err(LookupFault::Media(error)),
                Err(RunFault::Damaged) => {
                    self.lock().rebuild_index = true;
                    fault = Some(LookupFault::Damaged);
                }
            }
        }
        fault.map_or(Ok(None), Err)
    }

    async fn read_record(&self, digest: &Digest, location: Location) -> Result<Payload, RecordFault> {
        let (_, payload) = self.read_any_record(location).await.and_then(|(header, payload)| {
            if header.digest == *digest { Ok((header, payload)) } else { Err(RecordFault::Stale) }
        })?;
        Ok(payload)
    }

    /// The record at a location, whatever it holds.
    pub(super) async fn read_any_record(
        &self,
        location: Location,
    ) -> Result<(RecordHeader, Payload), RecordFault> {
        let length = self.readable(location).ok_or(RecordFault::Stale)?;
        let file = match self.segment_file(location).await {
            Err(error) if error.cause == Cause::NotFound => return Err(RecordFault::Rotten),
            other => other.map_err(RecordFault::Media)?,
        };
        let read = self.shared.io.read(file.id(), u64::from(location.offset()), length).await;
        let bytes = match read {
            Err(error) if error.cause == Cause::PastEnd => return Err(RecordFault::Rotten),
            other => other.map_err(RecordFault::Media)?,
        };
        let header = RecordHeader::decode(location.segment(), &bytes).ok_or(RecordFault::Stale)?;
        let payload = decode_payload(location.segment(), &header, &bytes).ok_or(RecordFault::Rotten)?;
        Ok((header, payload))
    }

    /// Bytes to read for the record at a location, within what is durable of its segment.
    fn readable(&self, location: Location) -> Option<usize> {
        let durable = self.lock().segments.get(&location.segment())?.length;
        let length = durable.checked_sub(location.offset())?.min(location.length_max());
        (length >= RECORD_HEADER_BYTES).then_some(length as usize)
    }

    /// The open file of the segment in which a record lies.
    pub(super) async fn segment_file(&self, location: Location) -> Result<Arc<OpenFile>, MediaError> {
        let segment = location.segment();
        if let Some(file) = lock(&self.shared.files).get(segment) {
            return Ok(file);
        }
        let file = Arc::new(OpenFile::open(&self.shared.io, &segment_path(segment), Create::Never).await?);
        // A handle on a segment that is freed would keep its space.
        if self.lock().segments.contains_key(&segment) {
            let displaced = lock(&self.shared.files).insert(segment, file.clone());
            drop(displaced);
        }
        Ok(file)
    }
}
