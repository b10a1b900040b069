//! Opening a store after any crash.
//!
//! The state names the segments with their durable lengths and the runs. What the runs do not cover is read from the
//! segments' footers, or from the records themselves where there is no footer. Files the state does not name were
//! written after it; they stay untouched until a later state is durable, then they are removed.
//!
//! - O1: nothing is written to a file that existed, and numbers of existing files are not used again.
//! - O2: a damaged or missing run costs time, not chunks: the index is rebuilt from all segments.
//! - O3: a directory with another array's segments is refused (survey.rs).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use metropod_journal::media::{Cause, Create, Io, MediaError};

use super::survey::{Survey, survey};
use super::{Inner, OpenError, Shared, Store, StoreConfig, WriteError};
use crate::digest::Digest;
use crate::files::{OpenFile, SegmentFiles};
use crate::index::{PageCache, RUN_DIR, Run, RunFault, RunId, run_of_name, run_path};
use crate::location::{Location, SegmentId};
use crate::segment::{
    FOOTER_ENTRY_BYTES, SEGMENT_HEADER_BYTES, TRAILER_BYTES, decode_footer, decode_trailer, scan,
    segment_path,
};
use crate::state::{SegmentRecord, State, StateFault};
use crate::turn::Turn;

/// Largest single read of a segment, in bytes.
const READ_STEP_BYTES: u32 = 1 << 20;

impl Store {
    /// Opens the store. `state` is what the last flush returned that the manifest keeps; `None` begins a new store.
    pub async fn open(io: Io, config: StoreConfig, state: Option<&[u8]>) -> Result<Store, OpenError> {
        config.check();
        let state = match state {
            Some(bytes) => read_state(bytes, &config)?,
            None => empty_state(&config),
        };
        let mut inner = Inner {
            segments: state.segments.iter().map(|segment| (segment.id, *segment)).collect(),
            generation: state.generation,
            next_segment: state.next_segment.0,
            next_run: state.next_run.0,
            duplicates: state.duplicates,
            ..Inner::default()
        };
        let survey = survey(&io, &config.array, &state).await?;
        set_leftovers_aside(&io, &state, survey, &mut inner).await?;
        let runs = open_runs(&io, &config, &state).await?;
        match runs {
            Some(runs) => inner.runs = Arc::new(runs),
            None => {
                let from = state.generation + 1;
                inner.obsolete.extend(state.runs.iter().map(|run| (from, run_path(run.id))));
                inner.segments.values_mut().for_each(|segment| segment.indexed = SEGMENT_HEADER_BYTES);
            }
        }
        inner.unloaded =
            inner.segments.values().filter(|one| one.indexed < one.length).map(|one| one.id).collect();
        let store = Store {
            shared: Arc::new(Shared {
                writer: Turn::new(Default::default()),
                inner: Mutex::new(inner),
                pages: Mutex::new(PageCache::new(config.cached_pages_max)),
                files: Mutex::new(SegmentFiles::new(config.open_segments_max)),
                io,
                config,
            }),
        };
        store.load_segments().await?;
        Ok(store)
    }

    async fn load_segments(&self) -> Result<(), OpenError> {
        // Nobody else has the store yet; the turn is taken because what follows changes the table and the runs.
        let _turn = self.shared.writer.take().await;
        let unloaded: Vec<SegmentRecord> = {
            let inner = self.lock();
            inner.unloaded.iter().filter_map(|id| inner.segments.get(id).copied()).collect()
        };
        for segment in unloaded {
            let loaded = load(&self.shared.io, &segment).await?;
            self.lock().add_loaded(segment.id, loaded);
            self.maintain().await.map_err(|error| match error {
                WriteError::Segment(error) | WriteError::Sync(error) | WriteError::Index(error) => {
                    OpenError::Media(error)
                }
            })?;
        }
        Ok(())
    }
}

impl Inner {
    /// Segments come in rising order, so the latest record of a digest wins.
    fn add_loaded(&mut self, segment: SegmentId, loaded: Loaded) {
        self.recent.extend(loaded.entries);
        self.damaged += loaded.damaged;
        self.unloaded.remove(&segment);
    }
}

fn read_state(bytes: &[u8], config: &StoreConfig) -> Result<State, OpenError> {
    let state = State::decode(bytes).map_err(|fault| match fault {
        StateFault::Damaged => OpenError::StateDamaged,
        StateFault::Version(found) => OpenError::StateVersion { found },
    })?;
    if state.array != config.array {
        return Err(OpenError::OtherArray);
    }
    Ok(state)
}

fn empty_state(config: &StoreConfig) -> State {
    State {
        array: config.array,
        generation: 0,
        next_segment: SegmentId(1),
        next_run: RunId(1),
        duplicates: 0,
        rebuild_index: false,
        segments: Vec::new(),
        runs: Vec::new(),
    }
}

async fn set_leftovers_aside(
    io: &Io,
    state: &State,
    survey: Survey,
    inner: &mut Inner,
) -> Result<(), MediaError> {
    let from = state.generation + 1;
    inner.next_segment = survey.next;
    inner.incomplete = survey.incomplete;
    inner.obsolete.extend(survey.leftovers.into_iter().map(|id| (from, segment_path(id))));
    let named: BTreeMap<RunId, ()> = state.runs.iter().map(|run| (run.id, ())).collect();
    for name in io.list(RUN_DIR).await? {
        let Some(id) = run_of_name(&name) else { continue };
        inner.next_run = inner.next_run.max(id.0.saturating_add(1));
        if !named.contains_key(&id) {
            inner.obsolete.push((from, run_path(id)));
        }
    }
    Ok(())
}

/// The runs of the state, or `None` if the index must be rebuilt.
async fn open_runs(
    io: &Io,
    config: &StoreConfig,
    state: &State,
) -> Result<Option<Vec<Arc<Run>>>, MediaError> {
    if state.rebuild_index {
        return Ok(None);
    }
    let mut runs = Vec::with_capacity(state.runs.len());
    for record in &state.runs {
        match Run::open(io, &config.array, *record).await {
            Ok(run) => runs.push(Arc::new(run)),
            Err(RunFault::Damaged) => return Ok(None),
            Err(RunFault::Media(error)) => return Err(error),
        }
    }
    Ok(Some(runs))
}

#[derive(Default)]
struct Loaded {
    entries: Vec<(Digest, Location)>,
    damaged: u64,
}

/// The entries of a segment that no run covers.
async fn load(io: &Io, segment: &SegmentRecord) -> Result<Loaded, MediaError> {
    let file = match OpenFile::open(io, &segment_path(segment.id), Create::Never).await {
        Err(error) if error.cause == Cause::NotFound => {
            return Ok(Loaded { entries: Vec::new(), damaged: 1 });
        }
        other => other?,
    };
    let length = io.length(file.id()).await?.min(u64::from(segment.length)) as u32;
    if segment.sealed
        && length == segment.length
        && let Some(mut entries) = load_footer(io, &file, segment).await?
    {
        entries.retain(|(_, location)| location.offset() >= segment.indexed);
        return Ok(Loaded { entries, damaged: 0 });
    }
    let bytes = read_range(io, &file, segment.indexed, length).await?;
    let scanned = scan(segment.id, segment.indexed, &bytes);
    let is_short = length < segment.length || segment.sealed;
    Ok(Loaded { entries: scanned.entries, damaged: scanned.damaged.max(u64::from(is_short)) })
}

async fn load_footer(
    io: &Io,
    file: &OpenFile,
    segment: &SegmentRecord,
) -> Result<Option<Vec<(Digest, Location)>>, MediaError> {
    let Some(trailer_at) = segment.length.checked_sub(TRAILER_BYTES) else { return Ok(None) };
    let trailer = read_range(io, file, trailer_at, segment.length).await?;
    let Some(trailer) = decode_trailer(segment.id, segment.length, &trailer) else { return Ok(None) };
    let end = trailer.footer_offset + trailer.entries * FOOTER_ENTRY_BYTES;
    let footer = read_range(io, file, trailer.footer_offset, end).await?;
    Ok(decode_footer(segment.id, &trailer, &footer))
}

async fn read_range(io: &Io, file: &OpenFile, from: u32, to: u32) -> Result<Bytes, MediaError> {
    let mut bytes = BytesMut::with_capacity(to.saturating_sub(from) as usize);
    let mut at = from;
    while at < to {
        let step = (to - at).min(READ_STEP_BYTES);
        bytes.extend_from_slice(&io.read(file.id(), u64::from(at), step as usize).await?);
        at += step;
    }
    Ok(bytes.freeze())
}
