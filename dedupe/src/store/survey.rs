//! Looking at every segment file before a store is opened.
//!
//! The state and the directory's listing go in; out comes what the state does not name, and what it names and is not
//! there in full.
//!
//! - V1: nothing is changed: a store is refused before a foreign file could be taken for a leftover and removed.
//! - V2: a rotten header is no reason to refuse; the records below it have checks of their own.

use std::collections::BTreeMap;

use metropod_journal::media::{Create, Io, MediaError};

use super::OpenError;
use crate::files::OpenFile;
use crate::location::SegmentId;
use crate::segment::{
    HeaderFault, SEGMENT_DIR, SEGMENT_HEADER_BYTES, check_segment_header, segment_of_name, segment_path,
};
use crate::state::State;

/// What the directory of segments holds.
pub(super) struct Survey {
    /// Segments that the state does not name, in rising order.
    pub leftovers: Vec<SegmentId>,
    /// One past the greatest number in use.
    pub next: u64,
    /// The first segment that the state names and that is missing or shorter than its durable length.
    pub incomplete: Option<SegmentId>,
}

/// Looks at every segment; refuses what is not this array's.
pub(super) async fn survey(io: &Io, array: &[u8; 16], state: &State) -> Result<Survey, OpenError> {
    let mut awaited: BTreeMap<SegmentId, u32> =
        state.segments.iter().map(|segment| (segment.id, segment.length)).collect();
    let mut survey = Survey { leftovers: Vec::new(), next: state.next_segment.0, incomplete: None };
    let mut short = None;
    for name in io.list(SEGMENT_DIR).await? {
        let Some(id) = segment_of_name(&name) else { continue };
        survey.next = survey.next.max(id.0.saturating_add(1));
        let length = look(io, array, id).await?;
        match awaited.remove(&id) {
            Some(durable) if length < u64::from(durable) => short = short.or(Some(id)),
            Some(_) => {}
            None => survey.leftovers.push(id),
        }
    }
    let missing = awaited.into_keys().next();
    survey.incomplete = short.into_iter().chain(missing).min();
    Ok(survey)
}

/// The length of a segment file, which must not be anybody else's.
async fn look(io: &Io, array: &[u8; 16], segment: SegmentId) -> Result<u64, OpenError> {
    let file = OpenFile::open(io, &segment_path(segment), Create::Never).await?;
    let length = io.length(file.id()).await?;
    if length < u64::from(SEGMENT_HEADER_BYTES) {
        return Ok(length);
    }
    let header = match io.read(file.id(), 0, SEGMENT_HEADER_BYTES as usize).await {
        Ok(header) => header,
        Err(error) => return unreadable(error, length),
    };
    match check_segment_header(&header, array, segment) {
        Ok(()) | Err(HeaderFault::Damaged) => Ok(length),
        Err(HeaderFault::Misplaced) => Err(OpenError::NotThisSegment { segment }),
        Err(HeaderFault::OtherArray) => Err(OpenError::OtherArraysSegment { segment }),
        Err(HeaderFault::Version(found)) => Err(OpenError::SegmentVersion { segment, found }),
    }
}

/// A bad sector under a header is rot (V2): reads of what lies there will fail by themselves.
fn unreadable(error: MediaError, length: u64) -> Result<u64, OpenError> {
    match error.cause {
        metropod_journal::media::Cause::Device(_) => Ok(length),
        _ => Err(error.into()),
    }
}
