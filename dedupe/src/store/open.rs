//! Opening a store after any crash.
//!
//! The state names the segments with their durable lengths and the runs. What the runs do not cover is read from the
//! segments' footers, or from the records themselves where there is no footer. Files the state does not name were
//! written after it; they stay untouched until a later state is durable, then they are removed.
//!
//! - O1: nothing is written to a file that existed, and numbers of existing files are not used again.
//! - O2: a damaged or missing run costs time, not chunks: the index is rebuilt from all segments.
//! - O3: a damaged or missing dead list costs space until the next pass: what it named is found again, and counts as
//!   live. No segment's count of live records is ever less than what can be found in it.
//! - O4: a directory with another array's segments is refused (survey.rs).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metropod_journal::media::{Cause, Create, Io, MediaError};

use super::records::{Listed, list_records};
use super::survey::{Survey, survey};
use super::{Inner, OpenError, Shared, Store, StoreConfig, WriteError};
use crate::dead::DeadRecords;
use crate::files::{OpenFile, SegmentFiles};
use crate::hints::Hints;
use crate::index::{
    PageCache, RUN_DIR, Run, RunFault, RunId, dead_of_name, dead_path, run_of_name, run_path,
};
use crate::location::{SegmentId, counted_bytes_max};
use crate::segment::{SEGMENT_HEADER_BYTES, segment_path};
use crate::state::{DeadList, SegmentRecord, State, StateFault};
use crate::turn::Turn;

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
            last_pass: state.pass,
            next_pass: state.pass + 1,
            fresh_bytes: state.fresh_bytes,
            ..Inner::default()
        };
        let survey = survey(&io, &config.array, &state).await?;
        set_leftovers_aside(&io, &state, survey, &mut inner).await?;
        inner.adopt_dead(read_dead(&io, &config, &state).await?, state.dead);
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
                hints: Mutex::new(Hints::new(config.hints_max)),
                files: Mutex::new(SegmentFiles::new(config.open_segments_max)),
                rescue: std::sync::OnceLock::new(),
                io,
                config,
            }),
        };
        store.load_segments().await?;
        let mut inner = store.lock();
        inner.free_all_empty();
        inner.count_used(store.shared.config.segment_bytes);
        drop(inner);
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
            let listed = list_records(&self.shared.io, &segment, segment.indexed).await?;
            self.lock().add_listed(segment.id, listed);
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
    /// Where several records have a name, all but one are dead, unless the index could not be read when they were
    /// written; then any will do.
    fn add_listed(&mut self, segment: SegmentId, listed: Listed) {
        for entry in listed.entries {
            if self.is_visible(entry.location) {
                self.recent.insert(entry.digest, entry.location);
            }
        }
        self.damaged += listed.damaged;
        self.unloaded.remove(&segment);
    }

    /// Takes over what is dead, and makes counts that do not agree with it safe (O3).
    fn adopt_dead(&mut self, dead: Option<DeadRecords>, list: Option<DeadList>) {
        self.damaged += u64::from(dead.is_none());
        self.dead = dead.unwrap_or_default();
        self.dead_list = list;
        let segments = &self.segments;
        self.dead.retain(|segment, offsets| {
            let found = segments.get(&segment);
            found.is_some_and(|found| {
                offsets.len() as u32 <= found.records && offsets.iter().all(|offset| *offset < found.length)
            })
        });
        for segment in self.segments.values_mut() {
            let live_records = segment.records - self.dead.count(segment.id);
            if segment.live_records != live_records {
                segment.live_records = live_records;
                segment.live_bytes = counted_bytes_max(segment.length, segment.records);
            }
        }
        self.live_bytes = self.segments.values().map(|segment| segment.live_bytes).sum();
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
        pass: 0,
        fresh_bytes: 0,
        dead: None,
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
    inner.freed_segments = survey.leftovers.len() as u64;
    inner.obsolete.extend(survey.leftovers.into_iter().map(|id| (from, segment_path(id))));
    let named: BTreeMap<RunId, ()> = state.runs.iter().map(|run| (run.id, ())).collect();
    for name in io.list(RUN_DIR).await? {
        if let Some(id) = run_of_name(&name) {
            inner.next_run = inner.next_run.max(id.0.saturating_add(1));
            if !named.contains_key(&id) {
                inner.obsolete.push((from, run_path(id)));
            }
        } else if let Some(id) = dead_of_name(&name) {
            inner.next_run = inner.next_run.max(id.0.saturating_add(1));
            if state.dead.is_none_or(|list| list.id != id) {
                inner.obsolete.push((from, dead_path(id)));
            }
        }
    }
    Ok(())
}

/// The dead records of the state, or `None` if they cannot be told.
async fn read_dead(io: &Io, config: &StoreConfig, state: &State) -> Result<Option<DeadRecords>, MediaError> {
    let Some(list) = state.dead else { return Ok(Some(DeadRecords::default())) };
    let is_lost = |error: &MediaError| matches!(error.cause, Cause::NotFound | Cause::PastEnd);
    let file = match OpenFile::open(io, &dead_path(list.id), Create::Never).await {
        Err(error) if is_lost(&error) => return Ok(None),
        other => other?,
    };
    if io.length(file.id()).await? != list.file_bytes {
        return Ok(None);
    }
    match io.read(file.id(), 0, list.file_bytes as usize).await {
        Err(error) if is_lost(&error) => Ok(None),
        read => Ok(DeadRecords::decode(&config.array, &list, &read?)),
    }
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
