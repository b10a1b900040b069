//! Reading and writing the core's own formats.
//!
//! A [`Reader`] never panics and never allocates more than the input is long: every length is checked against what
//! is left before it is used.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Why bytes could not be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("input ends inside a value")]
    Short,
    /// A tag or length has a value that no version wrote.
    #[error("unknown or impossible value of {field}")]
    Value {
        /// Which field.
        field: &'static str,
    },
    /// A part written by another crate is wrong.
    #[error("embedded {part} cannot be read")]
    Part {
        /// Which part.
        part: &'static str,
    },
    /// Bytes are left after the last value.
    #[error("bytes left after the last value")]
    Trailing,
}

/// Takes values from the front of a byte string.
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Reads `bytes` from the start.
    pub fn new(bytes: Bytes) -> Reader {
        Reader { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.rest.try_get_u8().map_err(|_| DecodeError::Short)
    }

    /// A truth value.
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Value { field: "flag" }),
        }
    }

    /// Two bytes, little endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.rest.try_get_u16_le().map_err(|_| DecodeError::Short)
    }

    /// Four bytes, little endian.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.rest.try_get_u32_le().map_err(|_| DecodeError::Short)
    }

    /// Eight bytes, little endian.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.rest.try_get_u64_le().map_err(|_| DecodeError::Short)
    }

    /// A fixed array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(&self.take(N)?);
        Ok(array)
    }

    /// The next `length` bytes, shared with the input.
    pub fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if self.rest.len() < length {
            return Err(DecodeError::Short);
        }
        Ok(self.rest.split_to(length))
    }

    /// A byte string with its length in front.
    pub fn blob(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// A text with its length in front.
    pub fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.blob()?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| DecodeError::Value { field: "text" })
    }

    /// A count of items that take at least `item_bytes` each.
    pub fn count(&mut self, item_bytes: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count.saturating_mul(item_bytes.max(1)) > self.rest.len() {
            return Err(DecodeError::Short);
        }
        Ok(count)
    }

    /// A value that may be absent.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(DecodeError::Value { field: "option" }),
        }
    }

    /// Checks that nothing is left.
    pub fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Writes what [`Reader::blob`] reads.
pub fn put_blob(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("parts of core formats are far below 4 GiB"));
    out.put_slice(bytes);
}

/// Writes what [`Reader::text`] reads.
pub fn put_text(out: &mut BytesMut, text: &str) {
    put_blob(out, text.as_bytes());
}

/// Writes what [`Reader::count`] reads.
pub fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("counts in core formats are far below 2^32"));
}

/// Writes what [`Reader::option`] reads.
pub fn put_option<T>(out: &mut BytesMut, value: Option<T>, write: impl FnOnce(&mut BytesMut, T)) {
    match value {
        None => out.put_u8(0),
        Some(value) => {
            out.put_u8(1);
            write(out, value);
        }
    }
}
