//! Small fields, written one after the other and read back with every length checked.

/// Why fields could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldsError {
    /// They end too early.
    #[error("the bytes end too early")]
    Short,
    /// Bytes are left over.
    #[error("bytes are left over")]
    Long,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
}

/// Reads fields from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], FieldsError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(FieldsError::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FieldsError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(FieldsError::Short)?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, FieldsError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, FieldsError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, FieldsError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, FieldsError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes behind a length byte.
    pub fn short_bytes(&mut self) -> Result<&'a [u8], FieldsError> {
        let count = self.u8()?;
        self.bytes(usize::from(count))
    }

    /// A text behind a length byte.
    pub fn text(&mut self) -> Result<&'a str, FieldsError> {
        std::str::from_utf8(self.short_bytes()?).map_err(|_| FieldsError::Text)
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), FieldsError> {
        if self.0.is_empty() { Ok(()) } else { Err(FieldsError::Long) }
    }
}

/// Appends at most 255 bytes behind a length byte.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).expect("short fields are bounded where they come in");
    out.push(length);
    out.extend_from_slice(bytes);
}

/// Appends a text of at most 255 bytes behind a length byte.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}
