//! What a flush returns and an opening needs: segments with their valid lengths, runs, counters.
//!
//! - S1: everything a state names was on stable storage before the state was returned.
//! - S2: bytes of a segment beyond the length its state gives do not exist, whatever the file holds.
//!
//! Bytes: docs/format-store.md, "State".

use bytes::Bytes;

use crate::index::{RUNS_EVER_MAX, RunId, RunRecord};
use crate::location::{SEGMENTS_MAX, SegmentId};
use crate::reduce::RAW_BYTES_MAX;
use crate::segment::{
    RECORD_SPAN_BYTES_MIN, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, Stream, u32_at, u64_at,
};

const MAGIC: [u8; 8] = *b"MPSTORE1";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 104;
const SEGMENT_RECORD_BYTES: usize = 48;
const RUN_RECORD_BYTES: usize = 32;
const CHECK_BYTES: usize = 4;

/// What counts up in a state stays below this; no store lives that long.
const COUNT_MAX: u64 = 1 << 62;
/// Bound on what the records of one segment amount to: each stands on its own for at most the longest content.
const LIVE_BYTES_MAX: u64 = (SEGMENT_BYTES_MAX / RECORD_SPAN_BYTES_MIN) as u64 * RAW_BYTES_MAX as u64 + 1;

const FLAG_REBUILD_INDEX: u32 = 1;
const FLAG_SEALED: u8 = 1;

/// What is known of one segment. A freed segment is in no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentRecord {
    pub id: SegmentId,
    pub stream: Stream,
    /// Ends in a footer.
    pub sealed: bool,
    /// Durable bytes.
    pub length: u32,
    /// Records below this offset are in runs.
    pub indexed: u32,
    /// Records it holds.
    pub records: u32,
    /// Records that are not dead: nothing has replaced them, and no pass has found them unreferenced.
    pub live_records: u32,
    /// Their lengths as their locations give them.
    pub live_bytes: u64,
    /// Length of their content.
    pub live_raw_bytes: u64,
}

/// The file that says which records are dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeadList {
    /// From the same numbers as the runs; never zero.
    pub id: RunId,
    pub file_bytes: u64,
}

/// A whole state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub array: [u8; 16],
    /// Rises by one with each flush.
    pub generation: u64,
    pub next_segment: SegmentId,
    pub next_run: RunId,
    pub duplicates: u64,
    /// Number of the last pass that was finished; zero: none was.
    pub pass: u64,
    /// Bytes of fresh records since that pass began.
    pub fresh_bytes: u64,
    pub dead: Option<DeadList>,
    /// A run was found damaged: the next opening rebuilds the index from the segments.
    pub rebuild_index: bool,
    /// In rising order.
    pub segments: Vec<SegmentRecord>,
    /// Newest first.
    pub runs: Vec<RunRecord>,
}

/// Why bytes are no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateFault {
    Damaged,
    Version(u32),
}

impl State {
    pub(crate) fn encode(&self) -> Bytes {
        let length = HEADER_BYTES
            + self.segments.len() * SEGMENT_RECORD_BYTES
            + self.runs.len() * RUN_RECORD_BYTES
            + CHECK_BYTES;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let flags = if self.rebuild_index { FLAG_REBUILD_INDEX } else { 0 };
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&self.array);
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.next_segment.0.to_le_bytes());
        bytes.extend_from_slice(&self.next_run.0.to_le_bytes());
        bytes.extend_from_slice(&self.duplicates.to_le_bytes());
        bytes.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.pass.to_le_bytes());
        bytes.extend_from_slice(&self.fresh_bytes.to_le_bytes());
        let dead = self.dead.unwrap_or(DeadList { id: RunId(0), file_bytes: 0 });
        bytes.extend_from_slice(&dead.id.0.to_le_bytes());
        bytes.extend_from_slice(&dead.file_bytes.to_le_bytes());
        for segment in &self.segments {
            bytes.extend_from_slice(&segment.id.0.to_le_bytes());
            bytes.push(segment.stream as u8);
            bytes.push(if segment.sealed { FLAG_SEALED } else { 0 });
            bytes.extend_from_slice(&[0; 2]);
            bytes.extend_from_slice(&segment.length.to_le_bytes());
            bytes.extend_from_slice(&segment.indexed.to_le_bytes());
            bytes.extend_from_slice(&segment.records.to_le_bytes());
            bytes.extend_from_slice(&segment.live_records.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&segment.live_bytes.to_le_bytes());
            bytes.extend_from_slice(&segment.live_raw_bytes.to_le_bytes());
        }
        for run in &self.runs {
            bytes.extend_from_slice(&run.id.0.to_le_bytes());
            bytes.extend_from_slice(&run.tier.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&run.entries.to_le_bytes());
            bytes.extend_from_slice(&run.file_bytes.to_le_bytes());
        }
        let check = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        assert_eq!(bytes.len(), length, "the layout has the length that decoding expects");
        Bytes::from(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<State, StateFault> {
        if bytes.len() < HEADER_BYTES + CHECK_BYTES || bytes[..8] != MAGIC {
            return Err(StateFault::Damaged);
        }
        let (content, check) = bytes.split_at(bytes.len() - CHECK_BYTES);
        if crc32c::crc32c(content) != u32_at(check, 0) {
            return Err(StateFault::Damaged);
        }
        if u32_at(content, 8) != VERSION {
            return Err(StateFault::Version(u32_at(content, 8)));
        }
        let (segments, runs) = (u32_at(content, 64) as usize, u32_at(content, 68) as usize);
        let runs_at = HEADER_BYTES + segments * SEGMENT_RECORD_BYTES;
        if content.len() != runs_at + runs * RUN_RECORD_BYTES {
            return Err(StateFault::Damaged);
        }
        let mut array = [0; 16];
        array.copy_from_slice(&content[16..32]);
        let segments: Option<Vec<SegmentRecord>> =
            content[HEADER_BYTES..runs_at].chunks_exact(SEGMENT_RECORD_BYTES).map(decode_segment).collect();
        let state = State {
            array,
            generation: u64_at(content, 32),
            next_segment: SegmentId(u64_at(content, 40)),
            next_run: RunId(u64_at(content, 48)),
            duplicates: u64_at(content, 56),
            pass: u64_at(content, 72),
            fresh_bytes: u64_at(content, 80),
            dead: Some(DeadList { id: RunId(u64_at(content, 88)), file_bytes: u64_at(content, 96) })
                .filter(|dead| dead.id != RunId(0)),
            rebuild_index: u32_at(content, 12) & FLAG_REBUILD_INDEX != 0,
            segments: segments.ok_or(StateFault::Damaged)?,
            runs: content[runs_at..].chunks_exact(RUN_RECORD_BYTES).map(decode_run).collect(),
        };
        if state.is_consistent() { Ok(state) } else { Err(StateFault::Damaged) }
    }

    fn is_consistent(&self) -> bool {
        self.generation.max(self.pass).max(self.duplicates).max(self.fresh_bytes) < COUNT_MAX
            && self.segments.iter().all(|one| one.live_bytes.max(one.live_raw_bytes) < LIVE_BYTES_MAX)
            && self.next_segment.0 <= SEGMENTS_MAX
            && self.next_run.0 <= RUNS_EVER_MAX
            && self.segments.is_sorted_by(|a, b| a.id < b.id)
            && self.segments.last().is_none_or(|last| last.id < self.next_segment)
            && self.runs.is_sorted_by_key(|run| run.tier)
            && self.runs.iter().all(|run| run.id < self.next_run)
            && self.dead.is_none_or(|dead| dead.id < self.next_run)
    }
}

fn decode_segment(bytes: &[u8]) -> Option<SegmentRecord> {
    let segment = SegmentRecord {
        id: SegmentId(u64_at(bytes, 0)),
        stream: Stream::from_u8(bytes[8])?,
        sealed: bytes[9] & FLAG_SEALED != 0,
        length: u32_at(bytes, 12),
        indexed: u32_at(bytes, 16),
        records: u32_at(bytes, 20),
        live_records: u32_at(bytes, 24),
        live_bytes: u64_at(bytes, 32),
        live_raw_bytes: u64_at(bytes, 40),
    };
    let fits = (SEGMENT_HEADER_BYTES..=SEGMENT_BYTES_MAX).contains(&segment.length)
        && segment.indexed <= segment.length
        && segment.live_records <= segment.records;
    fits.then_some(segment)
}

fn decode_run(bytes: &[u8]) -> RunRecord {
    RunRecord {
        id: RunId(u64_at(bytes, 0)),
        tier: u32_at(bytes, 8),
        entries: u64_at(bytes, 16),
        file_bytes: u64_at(bytes, 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> State {
        let segment = SegmentRecord {
            id: SegmentId(4),
            stream: Stream::Node,
            sealed: true,
            length: 9000,
            indexed: 64,
            records: 3,
            live_records: 2,
            live_bytes: 8000,
            live_raw_bytes: 12_288,
        };
        State {
            array: *b"0123456789abcdef",
            generation: 7,
            next_segment: SegmentId(6),
            next_run: RunId(3),
            duplicates: 11,
            pass: 2,
            fresh_bytes: 70_000,
            dead: Some(DeadList { id: RunId(1), file_bytes: 76 }),
            rebuild_index: false,
            segments: vec![segment, SegmentRecord { id: SegmentId(5), sealed: false, ..segment }],
            runs: vec![RunRecord { id: RunId(2), tier: 1, entries: 5, file_bytes: 4240 }],
        }
    }

    #[test]
    fn a_state_reads_back_and_any_flipped_bit_or_cut_is_refused() {
        let bytes = sample().encode();
        assert_eq!(State::decode(&bytes), Ok(sample()));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(State::decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(State::decode(&bytes[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn the_bytes_of_a_state_are_frozen() {
        assert_eq!(
            blake3::hash(&sample().encode()).to_hex().as_str(),
            "82f025c4170f30af2582eea5caa06ed064f9031df085abd8138693b618612d27"
        );
    }
}
