//! What a segment holds, record by record, without reading contents where there is a footer.

use bytes::{Bytes, BytesMut};
use metropod_journal::media::{Cause, Create, Io, MediaError};

use crate::files::OpenFile;
use crate::segment::{
    FOOTER_ENTRY_BYTES, RecordEntry, TRAILER_BYTES, decode_footer, decode_trailer, scan, segment_path,
};
use crate::state::SegmentRecord;

/// Largest single read of a segment, in bytes.
const READ_STEP_BYTES: u32 = 1 << 20;

/// The records found, in order of offset.
#[derive(Default)]
pub(super) struct Listed {
    pub entries: Vec<RecordEntry>,
    /// Stretches that could not be read as records, or a file that is gone or short.
    pub damaged: u64,
}

/// The records of a segment from offset `from` on.
pub(super) async fn list_records(io: &Io, segment: &SegmentRecord, from: u32) -> Result<Listed, MediaError> {
    let file = match OpenFile::open(io, &segment_path(segment.id), Create::Never).await {
        Err(error) if error.cause == Cause::NotFound => {
            return Ok(Listed { entries: Vec::new(), damaged: 1 });
        }
        other => other?,
    };
    let length = io.length(file.id()).await?.min(u64::from(segment.length)) as u32;
    if segment.sealed
        && length == segment.length
        && let Some(mut entries) = read_footer(io, &file, segment).await?
    {
        entries.retain(|entry| entry.location.offset() >= from);
        return Ok(Listed { entries, damaged: 0 });
    }
    let bytes = read_range(io, &file, from, length).await?;
    let scanned = scan(segment.id, from, &bytes);
    let is_short = length < segment.length || segment.sealed;
    Ok(Listed { entries: scanned.entries, damaged: scanned.damaged.max(u64::from(is_short)) })
}

async fn read_footer(
    io: &Io,
    file: &OpenFile,
    segment: &SegmentRecord,
) -> Result<Option<Vec<RecordEntry>>, MediaError> {
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
