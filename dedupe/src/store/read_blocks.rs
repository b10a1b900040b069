//! Reading many blocks at once: records that lie near one another are one read, the others are read side by side.
//!
//! Comes in: names, in the order of a volume's blocks. Goes out: their contents, unpacked where they are wanted and hashed
//! side by side.
//!
//! - B1: a block counts as read only when its content has its digest. Whatever else happens to it, here it is only put
//!   off: [`Store::get`] reads it alone, and says what is wrong.
//! - B2: memory is bounded by one batch: [`BLOCKS_AT_ONCE`] blocks and one span.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::read::LOOKUPS_AT_ONCE;
use super::{ReadError, Store, lock};
use crate::digest::{Digest, Domain, digest_blocks};
use crate::files::OpenFile;
use crate::location::{Location, SegmentId};
use crate::reduce::{BLOCK_BYTES, Payload, expand_into};
use crate::segment::{RECORD_HEADER_BYTES, RecordHeader, decode_payload};

/// Blocks that are looked up, read and hashed together.
const BLOCKS_AT_ONCE: usize = 256;

/// Longest read of a segment, in bytes; a record may end beyond.
const SPAN_BYTES_MAX: u32 = 512 << 10;

/// Bytes that are read for nothing rather than asking the device once more: what it moves in the time of a request.
const GAP_BYTES_MAX: u32 = 16 << 10;

/// A part of a segment to be read in one go.
struct Span {
    file: Arc<OpenFile>,
    segment: SegmentId,
    bytes: Range<u32>,
    /// Which of the wanted records lie in it.
    records: Range<usize>,
}

/// A record wanted, and for which block of the batch.
type Wanted = (Location, usize);

impl Store {
    /// Fills `out`, which is zero and as long as the blocks named, with their contents, each proven to be what its name
    /// says. [`Digest::ZERO`] is a zero block.
    pub async fn read_blocks(&self, names: &[Digest], out: &mut [u8]) -> Result<(), ReadError> {
        assert_eq!(out.len(), names.len() * BLOCK_BYTES, "there is room for each block");
        let parts = out.chunks_mut(BLOCKS_AT_ONCE * BLOCK_BYTES);
        for (names, out) in names.chunks(BLOCKS_AT_ONCE).zip(parts) {
            let (blocks, _) = out.as_chunks_mut::<BLOCK_BYTES>();
            let unpacked = self.unpack_all(names, blocks).await;
            for index in unproven(names, blocks, &unpacked) {
                let content = self.get(Domain::Data, &names[index], None).await?;
                let rot = ReadError::Rot { digest: names[index], location: None };
                let content = content.as_ref().try_into().map_err(|_| rot)?;
                blocks[index] = content;
            }
        }
        Ok(())
    }

    /// Says that these chunks will be read soon: what is known of their places is told to the media, nothing is waited
    /// for.
    pub fn will_read(&self, digests: &[Digest]) {
        let (_, mut wanted, unknown) = self.where_in_memory(digests);
        wanted.extend(self.hinted(digests, &unknown).0);
        wanted.sort_unstable();
        let ranges = self.spans(&wanted, &mut |segment| lock(&self.shared.files).get(segment));
        self.announce(&ranges);
    }

    /// Unpacks what can be had without doubt; says of which blocks.
    async fn unpack_all(&self, names: &[Digest], blocks: &mut [[u8; BLOCK_BYTES]]) -> Vec<usize> {
        let (staged, mut wanted, unknown) = self.where_in_memory(names);
        let mut unpacked = Vec::with_capacity(names.len());
        for (index, payload) in staged {
            if expand_into(&payload, &mut blocks[index]).is_ok() {
                unpacked.push(index);
            }
        }
        let (hinted, unknown) = self.hinted(names, &unknown);
        wanted.extend(hinted);
        wanted.extend(self.look_up(names, unknown).await);
        wanted.sort_unstable();
        self.open_segments(&wanted).await;
        let spans = self.spans(&wanted, &mut |segment| lock(&self.shared.files).get(segment));
        if spans.len() > 1 {
            self.announce(&spans);
        }
        for span in spans {
            let length = (span.bytes.end - span.bytes.start) as usize;
            let read = self.shared.io.read(span.file.id(), u64::from(span.bytes.start), length).await;
            let Ok(bytes) = read else { continue };
            for (location, index) in &wanted[span.records.clone()] {
                let at = (location.offset() - span.bytes.start) as usize;
                let payload = record_at(span.segment, &bytes, at, &names[*index]);
                if payload.is_some_and(|payload| expand_into(&payload, &mut blocks[*index]).is_ok()) {
                    unpacked.push(*index);
                }
            }
        }
        unpacked
    }

    /// Payloads that are staged, records that the recent table knows, and the blocks that neither does.
    fn where_in_memory(&self, names: &[Digest]) -> (Vec<(usize, Payload)>, Vec<Wanted>, Vec<usize>) {
        let (mut staged, mut wanted, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        let inner = self.lock();
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.is_zero()) {
            if let Some(chunk) = inner.staged.get(name) {
                staged.push((index, chunk.payload.clone()));
            } else if let Some(location) = inner.recent.get(name).and_then(|found| inner.only_visible(*found))
            {
                wanted.push((location, index));
            } else {
                unknown.push(index);
            }
        }
        (staged, wanted, unknown)
    }

    /// Of these blocks, the records that are remembered and the blocks of which none is.
    fn hinted(&self, names: &[Digest], unknown: &[usize]) -> (Vec<Wanted>, Vec<usize>) {
        let (mut wanted, mut rest) = (Vec::with_capacity(unknown.len()), Vec::new());
        let inner = self.lock();
        let mut hints = lock(&self.shared.hints);
        for index in unknown {
            match hints.get(&names[*index]).and_then(|hint| inner.only_visible(hint)) {
                Some(location) => wanted.push((location, *index)),
                None => rest.push(*index),
            }
        }
        (wanted, rest)
    }

    /// Asks the index, in its order: neighbours share pages.
    async fn look_up(&self, names: &[Digest], mut unknown: Vec<usize>) -> Vec<Wanted> {
        unknown.sort_unstable_by_key(|index| names[*index]);
        let mut wanted = Vec::with_capacity(unknown.len());
        for batch in unknown.chunks(LOOKUPS_AT_ONCE) {
            let digests: Vec<Digest> = batch.iter().map(|index| names[*index]).collect();
            let found = self.lookup_batch(&digests).await;
            let mut hints = lock(&self.shared.hints);
            for (index, found) in batch.iter().zip(found) {
                if let Ok(Some(location)) = found {
                    hints.insert(&names[*index], location);
                    wanted.push((location, *index));
                }
            }
        }
        wanted
    }

    async fn open_segments(&self, wanted: &[Wanted]) {
        for group in wanted.chunk_by(|one, next| one.0.segment() == next.0.segment()) {
            // Who cannot be opened has no span.
            let _left_out = self.segment_file(group[0].0).await;
        }
    }

    /// Joins records, which are sorted, into spans within what is durable of the segments that are open.
    fn spans(
        &self,
        wanted: &[Wanted],
        file_of: &mut dyn FnMut(SegmentId) -> Option<Arc<OpenFile>>,
    ) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut at = 0;
        for group in wanted.chunk_by(|one, next| one.0.segment() == next.0.segment()) {
            let (segment, first) = (group[0].0.segment(), at);
            at += group.len();
            let durable = self.lock().segments.get(&segment).map(|segment| segment.length);
            let (Some(durable), Some(file)) = (durable, file_of(segment)) else { continue };
            let mut open: Option<Span> = None;
            for (index, (location, _)) in group.iter().enumerate() {
                let end = durable.min(location.offset() + location.length_max());
                if end < location.offset() + RECORD_HEADER_BYTES {
                    continue;
                }
                match &mut open {
                    Some(span)
                        if location.offset() <= span.bytes.end + GAP_BYTES_MAX
                            && end <= span.bytes.start + SPAN_BYTES_MAX =>
                    {
                        span.bytes.end = span.bytes.end.max(end);
                        span.records.end = first + index + 1;
                    }
                    _ => {
                        let records = first + index..first + index + 1;
                        let begun =
                            Span { file: file.clone(), segment, bytes: location.offset()..end, records };
                        spans.extend(open.replace(begun));
                    }
                }
            }
            spans.extend(open);
        }
        spans
    }

    fn announce(&self, spans: &[Span]) {
        let range = |span: &Span| {
            let length = u64::from(span.bytes.end - span.bytes.start);
            (span.file.id(), u64::from(span.bytes.start), length)
        };
        if !spans.is_empty() {
            self.shared.io.will_need(spans.iter().map(range).collect());
        }
    }
}

/// The payload of the record that lies there, if it is the one of this name and intact.
fn record_at(segment: SegmentId, bytes: &Bytes, at: usize, name: &Digest) -> Option<Payload> {
    let header = RecordHeader::decode(segment, bytes.get(at..)?)?;
    if header.digest != *name {
        return None;
    }
    decode_payload(segment, &header, &bytes.slice(at..))
}

/// The blocks that were not unpacked, or not to what their names say.
fn unproven(names: &[Digest], blocks: &[[u8; BLOCK_BYTES]], unpacked: &[usize]) -> Vec<usize> {
    let contents: Vec<&[u8; BLOCK_BYTES]> = unpacked.iter().map(|index| &blocks[*index]).collect();
    let digests = digest_blocks(Domain::Data, &contents);
    let mut is_proven: Vec<bool> = names.iter().map(Digest::is_zero).collect();
    for (index, digest) in unpacked.iter().zip(digests) {
        is_proven[*index] = digest == names[*index];
    }
    (0..names.len()).filter(|index| !is_proven[*index]).collect()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use metropod_journal::media::Io;
    use metropod_journal::media::sim::SimMedia;

    use super::*;
    use crate::reduce::{Compression, Reduced, reduce};
    use crate::store::StoreConfig;

    fn now<F: Future>(flow: F) -> F::Output {
        match pin!(flow).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("inline media answer at once"),
        }
    }

    /// Twenty blocks that are stored.
    fn stored() -> (Store, Vec<Digest>, Vec<u8>) {
        let io = Io::inline(Arc::new(SimMedia::new()));
        // The recent table is always right; it is to be asked for nothing.
        let config = StoreConfig { recent_entries_max: 1, ..StoreConfig::new([1; 16]) };
        let store = now(Store::open(io, config, None)).unwrap();
        let contents: Vec<u8> = (1..=20u8).flat_map(|number| [number; BLOCK_BYTES]).collect();
        let mut names = Vec::new();
        for block in contents.chunks_exact(BLOCK_BYTES) {
            let Reduced::Chunk { digest, payload } = reduce(block, Compression::WhenItPays) else {
                panic!("not zero")
            };
            store.stage(Domain::Data, digest, payload);
            names.push(digest);
        }
        now(store.flush()).unwrap();
        (store, names, contents)
    }

    fn read(store: &Store, names: &[Digest]) -> Vec<u8> {
        let mut out = vec![0; names.len() * BLOCK_BYTES];
        now(store.read_blocks(names, &mut out)).unwrap();
        out
    }

    #[test]
    fn a_remembered_place_that_is_wrong_costs_a_lookup_and_is_put_right() {
        let (store, names, contents) = stored();
        let hint = |index: usize| lock(&store.shared.hints).get(&names[index]);
        let right = [3, 7].map(|index| hint(index).unwrap());
        let inside = Location::new(right[0].segment(), right[0].offset() + 16, 4000);
        let nowhere = Location::new(SegmentId(99), 64, 100);
        for wrong in [hint(4).unwrap(), inside, nowhere, Location::from_bits(u64::MAX - 1)] {
            let mistake = |index: usize| lock(&store.shared.hints).insert(&names[index], wrong);
            [3, 7].into_iter().for_each(mistake);
            assert!(read(&store, &names) == contents, "{wrong:?}");
            assert_eq!([3, 7].map(|index| hint(index).unwrap()), right, "{wrong:?}");
            mistake(3);
            let alone = now(store.get(Domain::Data, &names[3], None)).unwrap();
            assert_eq!((&alone[..], hint(3)), (&contents[3 * BLOCK_BYTES..][..BLOCK_BYTES], Some(right[0])));
        }
    }
}
