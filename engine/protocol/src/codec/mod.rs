//! Bytes of entries, records, messages and requests. Little endian; every length is bounded before anything is allocated for it; a decoder
//! never panics and accepts nothing but what the encoder writes.

mod bytes;
mod config;
mod durable;
pub mod entry;
mod mediator;
mod message;

/// Why bytes were not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("bytes end too early")]
    Truncated,
    /// A length is beyond its bound.
    #[error("a length is beyond its bound")]
    TooLong,
    /// An unknown kind or version.
    #[error("unknown {what} {value}")]
    Unknown {
        /// Of what.
        what: &'static str,
        /// The value met.
        value: u8,
    },
    /// Bytes are left over.
    #[error("bytes left over")]
    LeftOver,
    /// Fields contradict each other.
    #[error("fields contradict each other")]
    Inconsistent,
}
