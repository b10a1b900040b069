//! Frames on a TCP connection: what they look like, cutting a byte stream into them, and the small fields inside them.
//!
//! A frame is a header of [`HEADER_BYTES`] and a payload of at most [`PAYLOAD_BYTES_MAX`]; all numbers are little endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | magic, [`MAGIC`] |
//! | 1 | 1 | kind; below [`KIND_FREE`] reserved for opening a connection |
//! | 2 | 2 | flags, the kind's own |
//! | 4 | 4 | payload length |
//! | 8 | 4 | CRC32C of the first 8 bytes and the payload |

mod decoder;
mod fields;
mod frame;

pub use decoder::{Decoder, FrameReader};
pub use fields::{Fields, FieldsError, put_bytes, put_text};
pub use frame::{Frame, FrameError, HEADER_BYTES, Header, KIND_FREE, MAGIC, PAYLOAD_BYTES_MAX, write_frame};
