//! Doors for fuzzing: everything here that reads bytes from media, with what must hold of any bytes.
//!
//! Built for fuzz/ and for the replay of its kept inputs in this crate's tests; in no other build.
//!
//! A target is a name, the most it may hold on the heap (bytes), and a function. Inputs that begin with a number let the
//! target put checks right, so that what lies behind a check is reached too.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::frame::{FRAME_HEADER_BYTES, Found, FrameHeader, frame_bytes};
use crate::media::sim::SimMedia;
use crate::media::{Create, Durability, FileId, Io, Media, Open};
use crate::segment::{SegmentFile, SegmentHeader};
use crate::{JournalConfig, Lsn, OpenError, Record, StreamId, Writer, open};

/// Name, heap that it may take in bytes, and what runs an input.
pub type Target = (&'static str, usize, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("journal.frame", 1 << 20, frame),
    ("journal.records", 1 << 20, records),
    ("journal.segment_header", 1 << 20, segment_header),
    ("journal.segment_name", 1 << 20, segment_name),
    ("journal.recovery", 16 << 20, recovery),
];

const ARRAY: [u8; 16] = [0xA5; 16];
const SALT: u64 = 1;
const DIR: &str = "journal";
const BLOCK: usize = 4096;
/// A header block and three blocks of frames.
const SEGMENT_BYTES: u64 = 4 * BLOCK as u64;
const FRAME_MAGIC: [u8; 4] = *b"MPjf";
const SEGMENT_MAGIC: [u8; 8] = *b"MPODJSEG";

fn frame(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let segment = SegmentHeader { array: ARRAY, number: 1, salt: SALT, length: SEGMENT_BYTES };
    let mut bytes = rest.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    if how & 1 == 1 && !bytes.is_empty() {
        bytes[8..16].copy_from_slice(&segment.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&segment.salt.to_le_bytes());
        repair_frame(&mut bytes);
    }
    let Found::Frame(checked) = FrameHeader::find(&bytes, &segment) else { return };
    let Some(payload) = checked.payload(&bytes) else { return };
    let header = checked.header;
    assert_eq!(payload.len(), header.payload_bytes as usize);
    let mut rest = payload;
    let mut found = Vec::new();
    while let Some((record, after)) = Record::decode(rest) {
        assert!(after.len() < rest.len(), "a record takes room");
        found.push(record);
        rest = after;
    }
    if !rest.is_empty() || found.len() != header.record_count as usize {
        return;
    }
    let mut again = vec![0; header.total_bytes()];
    header.encode(&found, &mut again);
    match FrameHeader::find(&again, &segment) {
        Found::Frame(second) => {
            assert_eq!(second.header, header);
            assert_eq!(second.payload(&again), Some(payload));
        }
        other => panic!("what was encoded is {other:?}"),
    }
}

fn records(input: &[u8]) {
    let mut rest = input;
    while let Some((record, after)) = Record::decode(rest) {
        let taken = &rest[..rest.len() - after.len()];
        assert_eq!(taken.len(), record.encoded_bytes());
        let mut again = vec![0; taken.len()];
        assert!(record.encode(&mut again).is_empty());
        assert_eq!(again, taken);
        rest = after;
    }
}

fn segment_header(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if how & 1 == 1 {
        repair_segment(&mut bytes);
    }
    let Ok(header) = SegmentHeader::decode(&bytes, SegmentFile(1), ARRAY) else { return };
    let again = header.encode();
    assert_eq!(SegmentHeader::decode(again.as_slice(), SegmentFile(1), ARRAY), Ok(header));
}

fn segment_name(input: &[u8]) {
    let Ok(name) = std::str::from_utf8(input) else { return };
    if let Some(file) = SegmentFile::parse(name) {
        assert_eq!(file.to_string(), name);
        assert!(SegmentFile::is_unfinished(&format!("{name}.new")));
    }
}

/// A journal of several segments whose bytes the input changes; then it opens or is refused, and where it opens it goes on.
///
/// Input: how (1: put checks right, 2: and the chain), the first record needed, then steps.
fn recovery(input: &[u8]) {
    let media = base().deep_copy();
    let Some((head, mut steps)) = input.split_first_chunk::<2>() else { return };
    while let Some((step, rest)) = steps.split_first_chunk::<4>() {
        steps = apply(&media, *step, rest);
    }
    if head[0] & 1 == 1 {
        repair(&media, head[0] & 2 == 2);
    }
    let needed = Lsn(1 + u64::from(head[1] % 16));
    let Ok((mut writer, visited)) = open_journal(&media, needed) else { return };
    for pair in visited.windows(2) {
        assert_eq!(pair[0].0.0 + 1, pair[1].0.0, "no record is skipped");
    }
    assert!(visited.first().is_none_or(|(lsn, _)| *lsn == needed), "nothing that is not needed is visited");
    let lsn = writer.push(record(7, 100));
    drain(&media, &mut writer);
    if writer.durable() < lsn {
        return;
    }
    drop(writer);
    media.kill();
    let (_, again) = open_journal(&media, needed).expect("what was opened and gone on with opens again");
    assert_eq!(again[..again.len() - 1], visited[..], "and holds what it held");
    assert_eq!(again.last(), Some(&(lsn, record(7, 100))));
}

/// One step of an input (kind, file, block, offset / 16) and the bytes that it takes of `rest`.
fn apply<'a>(media: &SimMedia, [kind, file, block, offset]: [u8; 4], rest: &'a [u8]) -> &'a [u8] {
    let path = SegmentFile(u32::from(file % 6) + 1).path(DIR);
    let place = u64::from(block % 5) * BLOCK as u64;
    match kind % 5 {
        0 => {
            let (length, rest) = rest.split_first().map_or((0, rest), |(length, rest)| (*length, rest));
            let (data, rest) = rest.split_at(rest.len().min(usize::from(length)));
            write(media, &path, place + u64::from(offset) * 16, data);
            return rest;
        }
        1 => {
            let from = SegmentFile(u32::from(offset % 6) + 1).path(DIR);
            let data = content(media, &from);
            let start = usize::from(offset >> 4) * BLOCK;
            write(media, &path, place, data.get(start..start + BLOCK).unwrap_or_default());
        }
        2 => {
            let _ = media.remove(&path);
        }
        3 => write(media, &path, place, &[0; BLOCK]),
        _ => {
            let data = content(media, &path);
            let _ = media.remove(&path);
            write(media, &path, 0, &data[..data.len().min(place as usize + usize::from(offset) * 16)]);
        }
    }
    rest
}

/// A journal with several segments and lives, as it is after a crash.
fn base() -> &'static SimMedia {
    static BASE: OnceLock<SimMedia> = OnceLock::new();
    BASE.get_or_init(|| {
        let media = SimMedia::new();
        for life in 0..2 {
            let (mut writer, _) = open_journal(&media, Lsn(1)).expect("healthy media");
            for length in [40, 500, 5000, 30] {
                writer.push(record(life, length));
                drain(&media, &mut writer);
            }
            media.kill();
        }
        media
    })
}

fn record(number: u8, length: usize) -> Record {
    let (body, attachment) = (Bytes::from_static(b"body"), Bytes::from(vec![number; length]));
    Record { stream: StreamId([number; 16]), index: u64::from(number), body, attachment }
}

type Visited = Vec<(Lsn, Record)>;

fn open_journal(media: &SimMedia, needed_from: Lsn) -> Result<(Writer, Visited), OpenError> {
    let mut config = JournalConfig::new(ARRAY, SALT);
    (config.segment_bytes, config.budget_bytes) = (SEGMENT_BYTES, 16 * SEGMENT_BYTES);
    config.needed_from = needed_from;
    let mut visited = Vec::new();
    let writer = now(open(&io(media), DIR, config, &mut |lsn, record| visited.push((lsn, record))))?;
    Ok((writer, visited))
}

fn drain(media: &SimMedia, writer: &mut Writer) {
    loop {
        if writer.wants_segment() {
            let recipe = writer.segment_recipe();
            writer.add_spare(now(recipe.prepare(&io(media))).expect("healthy media"));
        }
        let Some(append) = writer.next_append() else { break };
        let result = media.write(append.file, append.offset, &[&append.data], Durability::Durable);
        writer.completed(append.id, result).expect("healthy media");
    }
}

fn io(media: &SimMedia) -> Io {
    Io::inline(Arc::new(media.clone()))
}

fn now<F: Future>(flow: F) -> F::Output {
    match pin!(flow).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("inline media answer at once"),
    }
}

fn file(media: &SimMedia, path: &str) -> FileId {
    media.open(path, Open { create: Create::IfMissing, direct: false }).expect("healthy media")
}

fn content(media: &SimMedia, path: &str) -> Vec<u8> {
    let Ok(file) = media.open(path, Open { create: Create::Never, direct: false }) else { return Vec::new() };
    let mut data = vec![0; media.len(file).expect("healthy media") as usize];
    media.read(file, 0, &mut data).expect("healthy media");
    media.close(file);
    data
}

fn write(media: &SimMedia, path: &str, offset: u64, data: &[u8]) {
    let file = file(media, path);
    media.write(file, offset, &[data], Durability::Durable).expect("healthy media");
    media.close(file);
}

/// Puts every check in every segment right, and with `chain` lets each frame follow the one before it.
fn repair(media: &SimMedia, chain: bool) {
    let mut before = 0u32;
    for name in media.list(DIR).expect("healthy media") {
        let path = format!("{DIR}/{name}");
        let mut data = content(media, &path);
        repair_segment(&mut data);
        for at in (BLOCK..data.len()).step_by(BLOCK) {
            if !data[at..].starts_with(&FRAME_MAGIC) || data.len() - at < BLOCK {
                continue;
            }
            if chain {
                data[at + 72..at + 76].copy_from_slice(&before.to_le_bytes());
            }
            before = repair_frame(&mut data[at..]);
        }
        write(media, &path, 0, &data);
    }
}

fn repair_segment(bytes: &mut [u8]) {
    if bytes.starts_with(&SEGMENT_MAGIC) && bytes.len() >= 64 {
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Gives back the header's check.
fn repair_frame(bytes: &mut [u8]) -> u32 {
    let payload = u32::from_le_bytes([bytes[68], bytes[69], bytes[70], bytes[71]]) as usize;
    let total = frame_bytes(payload).min(bytes.len());
    let crc = crc32c::crc32c(&bytes[FRAME_HEADER_BYTES..total]);
    bytes[76..80].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..FRAME_HEADER_BYTES - 4]);
    bytes[FRAME_HEADER_BYTES - 4..FRAME_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    crc
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs_of_the_fuzzer_are_taken_or_refused() {
        super::replay::all(super::TARGETS);
    }
}
