//! The smallest pieces: integers, ids, options, bounded byte strings.

use bytes::{Buf, Bytes};

use crate::codec::DecodeError;
use crate::ids::{Chain, Index, Position};

/// Entries, tickets, starts and epochs are numbered below this; no pod lives that long.
const NUMBER_MAX: u64 = 1 << 62;

/// What bytes are written to.
pub(crate) type Writer = Vec<u8>;

/// Reads bytes from the front, never beyond their end.
pub(crate) struct Reader {
    bytes: Bytes,
}

pub(crate) trait Put {
    fn u8(&mut self, value: u8);
    fn u32(&mut self, value: u32);
    fn u64(&mut self, value: u64);
    fn raw(&mut self, bytes: &[u8]);
    fn string(&mut self, bytes: &[u8]);
    fn position(&mut self, position: &Position);
}

impl Put for Writer {
    fn u8(&mut self, value: u8) {
        self.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn string(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("strings are bounded far below 4 GiB"));
        self.raw(bytes);
    }

    fn position(&mut self, position: &Position) {
        self.raw(&position.config.0);
        self.u64(position.index.0);
        self.raw(&position.chain.0);
    }
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Reader {
        Reader { bytes }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.bytes.try_get_u8().map_err(|_| DecodeError::Truncated)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.bytes.try_get_u32_le().map_err(|_| DecodeError::Truncated)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.bytes.try_get_u64_le().map_err(|_| DecodeError::Truncated)
    }

    /// A number that only ever counts up by one, so that the one after it never wraps.
    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        let number = self.u64()?;
        if number < NUMBER_MAX { Ok(number) } else { Err(DecodeError::Inconsistent) }
    }

    pub(crate) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Unknown { what: "flag", value }),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        self.bytes.try_copy_to_slice(&mut array).map_err(|_| DecodeError::Truncated)?;
        Ok(array)
    }

    /// A byte string of at most `bytes_max`.
    pub(crate) fn string(&mut self, bytes_max: usize) -> Result<Bytes, DecodeError> {
        let length = self.u32()? as usize;
        if length > bytes_max {
            return Err(DecodeError::TooLong);
        }
        if length > self.bytes.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(self.bytes.split_to(length))
    }

    /// A count of at most `max`.
    pub(crate) fn count(&mut self, max: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > max { Err(DecodeError::TooLong) } else { Ok(count) }
    }

    pub(crate) fn position(&mut self) -> Result<Position, DecodeError> {
        let config = crate::ids::ConfigId(self.array()?);
        let index = Index(self.number()?);
        let chain = Chain(self.array()?);
        Ok(Position { config, index, chain })
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> Bytes {
        self.bytes
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::LeftOver) }
    }
}
