//! Reduction of content to what is stored and shipped: zero test, digest, LZ4 when it pays.
//!
//! Comes in: raw blocks. Goes out: [`Reduced`]; and back again by [`expand`] and [`verify`].
//!
//! - X1: expanding is bounded by [`RAW_BYTES_MAX`] and never panics, whatever the payload holds; it may have come
//!   from a peer or from a rotten disk.
//! - X2: a compressed form is kept only when it saves [`LZ4_SAVING_BYTES_MIN`]; otherwise raw bytes are cheaper to
//!   read for ever after.

use std::cell::RefCell;

use bytes::Bytes;
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use crate::digest::{Digest, Domain, digest, digest_blocks};

/// Length of a block of a volume, in bytes (format).
pub const BLOCK_BYTES: usize = 4096;

/// Greatest raw length of a chunk, in bytes (format). Nodes may be of any length up to this.
pub const RAW_BYTES_MAX: usize = 64 * 1024;

/// What LZ4 must save at least for its output to be kept, in bytes.
pub const LZ4_SAVING_BYTES_MIN: usize = 256;

/// How the bytes of a payload stand for its content (format: the number is stored).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Form {
    /// As they are.
    Raw = 0,
    /// One LZ4 block without a size prefix.
    Lz4 = 1,
}

impl Form {
    /// The form a stored number means.
    pub fn from_u8(number: u8) -> Option<Form> {
        match number {
            0 => Some(Form::Raw),
            1 => Some(Form::Lz4),
            _ => None,
        }
    }
}

/// Content in the form in which it is stored, journalled and shipped.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// How to read `bytes`.
    pub form: Form,
    /// Length of the content, in bytes; at most [`RAW_BYTES_MAX`].
    pub raw_len: u32,
    /// The stored bytes, not longer than the content.
    pub bytes: Bytes,
}

impl Payload {
    /// Content as it is.
    pub fn raw(bytes: Bytes) -> Payload {
        Payload { form: Form::Raw, raw_len: bytes.len() as u32, bytes }
    }

    /// Whether the lengths can be those of a payload that [`pack`] made.
    pub fn is_plausible(&self) -> bool {
        let raw_len = self.raw_len as usize;
        let fits = match self.form {
            Form::Raw => self.bytes.len() == raw_len,
            Form::Lz4 => self.bytes.len() < raw_len,
        };
        fits && raw_len <= RAW_BYTES_MAX && !self.bytes.is_empty()
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({:?}, {} of {} bytes)", self.form, self.bytes.len(), self.raw_len)
    }
}

/// A block after reduction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reduced {
    /// All bytes are zero: nothing to store.
    Zero,
    /// Content with its name.
    Chunk {
        /// Its name in [`Domain::Data`].
        digest: Digest,
        /// Its stored form.
        payload: Payload,
    },
}

/// Whether to try LZ4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Keep content raw (it may be compressed later, at destage).
    Never,
    /// Keep the compressed form when it saves [`LZ4_SAVING_BYTES_MIN`].
    #[default]
    WhenItPays,
}

/// Why a payload does not give the content it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// The lengths contradict each other or the format's limits.
    #[error("a payload of {stored} bytes cannot hold {raw} bytes of content")]
    Length {
        /// Stored bytes.
        stored: usize,
        /// Claimed length of the content.
        raw: usize,
    },
    /// The bytes are no LZ4 block of the claimed length.
    #[error("a payload is not the LZ4 block it claims to be")]
    Lz4,
    /// The content has another digest.
    #[error("a payload does not hold the content it is named after")]
    Digest,
}

/// Reduces one data block.
pub fn reduce(block: &[u8], compression: Compression) -> Reduced {
    if is_zero(block) {
        return Reduced::Zero;
    }
    Reduced::Chunk { digest: digest(Domain::Data, block), payload: pack(block, compression) }
}

/// Reduces many data blocks of [`BLOCK_BYTES`] each, in order; the length must be a multiple of that. As [`reduce`] does
/// with each, but they are hashed side by side.
pub fn reduce_blocks(blocks: &[u8], compression: Compression) -> Vec<Reduced> {
    let (blocks, rest) = blocks.as_chunks::<BLOCK_BYTES>();
    assert!(rest.is_empty(), "callers cut requests at block boundaries");
    let zero: Vec<bool> = blocks.iter().map(|block| is_zero(block)).collect();
    let chunks = blocks.iter().zip(&zero).filter(|(_, zero)| !**zero).map(|(block, _)| block);
    let mut digests = digest_blocks(Domain::Data, &chunks.collect::<Vec<_>>()).into_iter();
    let reduced = |(block, zero): (&[u8; BLOCK_BYTES], bool)| match zero {
        true => Reduced::Zero,
        false => {
            let digest = digests.next().expect("each block that is not zero was hashed");
            Reduced::Chunk { digest, payload: pack(block, compression) }
        }
    };
    blocks.iter().zip(zero).map(reduced).collect()
}

/// The stored form of `content`, which may be a data block or a node; at most [`RAW_BYTES_MAX`] bytes.
pub fn pack(content: &[u8], compression: Compression) -> Payload {
    pack_lz4(content, compression).unwrap_or_else(|| Payload::raw(Bytes::copy_from_slice(content)))
}

fn pack_lz4(content: &[u8], compression: Compression) -> Option<Payload> {
    assert!(content.len() <= RAW_BYTES_MAX, "content is cut before it is packed");
    if compression == Compression::Never || content.len() <= LZ4_SAVING_BYTES_MIN {
        return None;
    }
    let bytes = compress(content)?;
    Some(Payload { form: Form::Lz4, raw_len: content.len() as u32, bytes })
}

/// As [`pack`]; content that stays as it is is shared, not copied.
pub fn pack_shared(content: Bytes, compression: Compression) -> Payload {
    match pack_lz4(&content, compression) {
        Some(packed) => packed,
        None => Payload::raw(content),
    }
}

/// The content of a payload. Bounded; an error, never a panic, on any input.
pub fn expand(payload: &Payload) -> Result<Bytes, ExpandError> {
    if !payload.is_plausible() {
        return Err(ExpandError::Length { stored: payload.bytes.len(), raw: payload.raw_len as usize });
    }
    match payload.form {
        Form::Raw => Ok(payload.bytes.clone()),
        Form::Lz4 => {
            let mut content = vec![0; payload.raw_len as usize];
            match decompress_into(&payload.bytes, &mut content) {
                Ok(length) if length == content.len() => Ok(Bytes::from(content)),
                _ => Err(ExpandError::Lz4),
            }
        }
    }
}

/// Puts the content of a payload into `content`, which has its length. On an error anything may be there.
pub(crate) fn expand_into(payload: &Payload, content: &mut [u8]) -> Result<(), ExpandError> {
    let (stored, raw) = (payload.bytes.len(), payload.raw_len as usize);
    if !payload.is_plausible() || raw != content.len() {
        return Err(ExpandError::Length { stored, raw });
    }
    match payload.form {
        Form::Raw => content.copy_from_slice(&payload.bytes),
        Form::Lz4 => match decompress_into(&payload.bytes, content) {
            Ok(length) if length == raw => {}
            _ => return Err(ExpandError::Lz4),
        },
    }
    Ok(())
}

/// The content of a payload, proven to be what `name` names.
pub fn verify(domain: Domain, name: &Digest, payload: &Payload) -> Result<Bytes, ExpandError> {
    let content = expand(payload)?;
    if digest(domain, &content) != *name {
        return Err(ExpandError::Digest);
    }
    Ok(content)
}

/// The same for many data blocks: which payloads hold the content that they are named after. Whole blocks are hashed
/// side by side.
pub fn verify_blocks<'a>(named: impl IntoIterator<Item = (&'a Digest, &'a Payload)>) -> Vec<bool> {
    let (names, contents): (Vec<&Digest>, Vec<Option<Bytes>>) =
        named.into_iter().map(|(name, payload)| (name, expand(payload).ok())).unzip();
    let block = |content: &'_ Option<Bytes>| content.as_ref().is_some_and(|bytes| bytes.len() == BLOCK_BYTES);
    let blocks = contents.iter().filter(|content| block(content)).flatten();
    let blocks: Vec<&[u8; BLOCK_BYTES]> = blocks.filter_map(|bytes| bytes.first_chunk()).collect();
    let mut digests = digest_blocks(Domain::Data, &blocks).into_iter();
    let holds = |(name, content): (&Digest, &Option<Bytes>)| match content {
        None => false,
        Some(_) if block(content) => digests.next() == Some(*name),
        Some(bytes) => digest(Domain::Data, bytes) == *name,
    };
    names.into_iter().zip(&contents).map(holds).collect()
}

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (lanes, rest) = bytes.as_chunks::<64>();
    lanes.iter().all(|lane| lane.iter().fold(0, |or, byte| or | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

struct Scratch {
    table: CompressTable,
    output: Vec<u8>,
}

thread_local! {
    /// Reused by every compression of a thread: clearing a table is cheaper than allocating one.
    static SCRATCH: RefCell<Scratch> =
        RefCell::new(Scratch { table: CompressTable::default(), output: Vec::new() });
}

fn compress(content: &[u8]) -> Option<Bytes> {
    SCRATCH.with_borrow_mut(|scratch| {
        let bound = get_maximum_output_size(content.len());
        if scratch.output.len() < bound {
            scratch.output.resize(bound, 0);
        }
        let length = compress_into_with_table(content, &mut scratch.output, &mut scratch.table).ok()?;
        (length + LZ4_SAVING_BYTES_MIN <= content.len())
            .then(|| Bytes::copy_from_slice(&scratch.output[..length]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn a_zero_block_needs_no_chunk_and_one_set_bit_does() {
        let mut block = vec![0; BLOCK_BYTES];
        assert_eq!(reduce(&block, Compression::WhenItPays), Reduced::Zero);
        for at in [0, 63, 64, 2048, BLOCK_BYTES - 1] {
            block[at] = 1;
            assert_ne!(reduce(&block, Compression::WhenItPays), Reduced::Zero);
            block[at] = 0;
        }
    }

    #[test]
    fn payloads_checked_together_are_judged_as_each_alone() {
        let named = |seed: u64| {
            let length = [BLOCK_BYTES, BLOCK_BYTES, 512, BLOCK_BYTES + 1][seed as usize % 4];
            let mut content = noise(seed, length);
            if seed.is_multiple_of(3) {
                content[..length / 2].fill(7);
            }
            let mut payload = pack(&content, Compression::WhenItPays);
            let mut name = digest(Domain::Data, &content);
            match seed % 7 {
                1 => name.0[31] ^= 1,
                2 => payload.raw_len += 1,
                3 => {
                    payload.bytes = Bytes::from(payload.bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>())
                }
                _ => {}
            }
            (name, payload)
        };
        for count in [0, 1, 5, 16, 40] {
            let all: Vec<(Digest, Payload)> = (0..count).map(named).collect();
            let alone: Vec<bool> =
                all.iter().map(|(name, payload)| verify(Domain::Data, name, payload).is_ok()).collect();
            assert_eq!(verify_blocks(all.iter().map(|(name, payload)| (name, payload))), alone);
            assert!(count < 16 || (alone.contains(&true) && alone.contains(&false)));
        }
    }

    #[test]
    fn lz4_is_kept_only_when_it_saves_enough() {
        assert_eq!(pack(&noise(1, BLOCK_BYTES), Compression::WhenItPays).form, Form::Raw);
        assert_eq!(pack(&[7; BLOCK_BYTES], Compression::WhenItPays).form, Form::Lz4);
        assert_eq!(pack(&[7; BLOCK_BYTES], Compression::Never).form, Form::Raw);
        let mut almost = noise(2, BLOCK_BYTES);
        almost[..200].fill(0);
        assert_eq!(pack(&almost, Compression::WhenItPays).form, Form::Raw, "saves less than the minimum");
        almost[..400].fill(0);
        assert_eq!(pack(&almost, Compression::WhenItPays).form, Form::Lz4);
    }

    #[test]
    fn the_digest_does_not_depend_on_the_form() {
        let block = [9; BLOCK_BYTES];
        let name = |compression| match reduce(&block, compression) {
            Reduced::Chunk { digest, .. } => digest,
            Reduced::Zero => unreachable!(),
        };
        assert_eq!(name(Compression::Never), name(Compression::WhenItPays));
    }

    #[test]
    fn a_payload_is_not_accepted_under_another_name_or_domain() {
        let node = vec![3; 600];
        let payload = pack(&node, Compression::WhenItPays);
        let name = digest(Domain::Node { level: 1 }, &node);
        assert_eq!(verify(Domain::Node { level: 1 }, &name, &payload).unwrap(), node);
        assert_eq!(verify(Domain::Data, &name, &payload), Err(ExpandError::Digest));
        assert_eq!(verify(Domain::Node { level: 2 }, &name, &payload), Err(ExpandError::Digest));
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_allocates_nothing() {
        for raw_len in [RAW_BYTES_MAX as u32 + 1, u32::MAX] {
            let bomb = Payload { form: Form::Lz4, raw_len, bytes: Bytes::from_static(&[0x1f, 0, 1, 0, 255]) };
            assert!(matches!(expand(&bomb), Err(ExpandError::Length { .. })));
        }
        let empty = Payload::raw(Bytes::new());
        assert!(expand(&empty).is_err());
    }

    proptest! {
        #[test]
        fn blocks_reduced_together_are_what_each_is_alone(
            kinds in proptest::collection::vec(0u8..4, 0..70), lz4 in any::<bool>(),
        ) {
            let compression = if lz4 { Compression::WhenItPays } else { Compression::Never };
            let blocks: Vec<Vec<u8>> = kinds
                .iter()
                .enumerate()
                .map(|(n, kind)| match kind {
                    0 => vec![0; BLOCK_BYTES],
                    1 => vec![7; BLOCK_BYTES],
                    _ => noise(n as u64, BLOCK_BYTES),
                })
                .collect();
            let alone: Vec<Reduced> = blocks.iter().map(|block| reduce(block, compression)).collect();
            prop_assert_eq!(reduce_blocks(&blocks.concat(), compression), alone);
        }

        #[test]
        fn what_was_packed_expands_to_itself(
            seed in any::<u64>(), length in 1usize..=RAW_BYTES_MAX, filled in 0usize..=RAW_BYTES_MAX,
        ) {
            let mut content = noise(seed, length);
            content[..filled.min(length)].fill(0x11);
            let payload = pack(&content, Compression::WhenItPays);
            prop_assert!(payload.is_plausible());
            prop_assert_eq!(expand(&payload).unwrap(), content);
        }

        #[test]
        fn expanding_garbage_never_panics(
            lz4 in any::<bool>(), raw_len in 0u32..70_000, bytes in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let form = if lz4 { Form::Lz4 } else { Form::Raw };
            let payload = Payload { form, raw_len, bytes: bytes.into() };
            if let Ok(content) = expand(&payload) {
                prop_assert_eq!(content.len(), raw_len as usize);
            }
        }
    }
}
