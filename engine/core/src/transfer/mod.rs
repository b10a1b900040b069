//! The one transfer primitive: "make the target hold the frozen point R of a pod".
//!
//! Two flows, one at each end, joined by an ordered and reliable pair of [`Port`] and [`Inbox`]: [`send_round`] at
//! the array that holds R, [`receive_round`] at the one that shall hold it. A baseline starts from nothing, a resync
//! round from a frozen point that both hold. Bytes: docs/format-transfer.md.
//!
//! ```text
//! source                                             target
//!   Begin, Total ───────────────────────────────────►  checks that it has what the round builds on
//!   Changes(1) Changes(2) … within the window ──────►  lays them over its maps, asks its store
//!                      ◄──────────────── Need(1)       digests that it lacks, each asked once
//!   Chunks(1) … in the order of Need, as stored ────►  verifies each, stages it
//!                      ◄──────────────── Done(1)       credit for one more batch
//!   End(check over every entry) ────────────────────►
//!                      ◄──────────────── Ready(check)  image complete; the caller makes it durable and flips
//!                      ◄──────────────── Flipped       sent by the caller
//! ```
//!
//! - T1: an image is given out only when every digest that it names was in the target's store or arrived and was
//!   verified, and when both ends computed the same check over all entries.
//! - T2: the target's own images are never touched: changes are laid over a fork of them.
//! - T3: changes relative to a common point are laid over a state *later* than that point only together with every
//!   block that the target may have changed since it ([`Touched`]): a block that was changed and changed back does not
//!   differ between the point and R, but it differs at the target.
//! - T4: everything in flight is bounded: [`WINDOW_BATCHES`], [`WINDOW_ENTRIES`], [`INBOX_BYTES_MAX`],
//!   [`STAGED_BYTES_MAX`].
//! - T5: nothing that arrived is lost by an interruption of the link: it is in the target's store, and the next
//!   attempt's "which are missing?" finds it there.

mod ask;
mod begin;
mod build;
mod check;
mod error;
mod inbox;
mod message;
mod progress;
mod receive;
mod send;
#[cfg(test)]
mod tests;
mod touched;
mod turns;
mod walk;

pub use begin::{Base, Begin, Common, Point, Reach, Target};
pub use build::Building;
pub use error::{AbortReason, TransferError, Violation};
pub use inbox::{Inbox, Overflow};
pub use message::{Body, Message};
pub use progress::{Counters, Progress};
pub use receive::{Held, receive_round};
pub use send::{Sent, send_round};
pub use touched::Touched;

/// Largest encoded message, in bytes (format).
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// Most entries in one `Changes` message (format).
pub const BATCH_ENTRIES_MAX: usize = 8192;

/// Entries this version puts into one `Changes` message: small, so that credit flows while a batch of new chunks,
/// up to 4 MiB of them, is on its way.
pub const BATCH_ENTRIES: usize = 1024;

/// Most entries whose batch is not done (format: the target refuses more).
pub const WINDOW_ENTRIES: usize = 16 * 1024;

/// Most batches that are not done (format: the target refuses more).
pub const WINDOW_BATCHES: usize = 64;

/// Blocks that a target may have touched in a volume beyond which the volume is named in full: 16 GiB of them.
pub const TOUCHED_BLOCKS_MAX: u64 = 4 << 20;

/// Payload bytes after which a `Chunks` message is closed.
pub const CHUNKS_BYTES: usize = 1 << 20;

/// How often a batch may be asked for: once, and again after corruption.
pub const ASKS_MAX: u8 = 4;

/// Most points in a round (format).
pub const POINTS_MAX: usize = 64 * 1024;

/// Most bytes of a namespace in `Begin` (format).
pub const NAMESPACE_BYTES_MAX: usize = 2 << 20;

/// Most messages waiting in an inbox.
pub const INBOX_MESSAGES_MAX: usize = 1024;

/// Most bytes waiting in an inbox: a window full of raw chunks, and their entries.
pub const INBOX_BYTES_MAX: usize = 96 << 20;

/// Staged bytes at the target beyond which it writes them out before it gives credit.
pub const STAGED_BYTES_MAX: u64 = 8 << 20;

/// Chunk reads that the source has under way together.
pub const READ_DEPTH: usize = 32;

/// Chunks verified between two chances for other flows, hashed side by side.
pub const VERIFY_RUN: usize = 32;

const BLOCK_BYTES: usize = crate::operation::BLOCK_BYTES as usize;

const _: () =
    assert!(WINDOW_ENTRIES >= 4 * BATCH_ENTRIES && WINDOW_BATCHES >= 4, "the pipeline stays filled");
const _: () = assert!(WINDOW_ENTRIES >= BATCH_ENTRIES_MAX, "any legal batch fits the window");
const _: () = assert!(CHUNKS_BYTES + 2 * BLOCK_BYTES <= FRAME_BYTES_MAX);
const _: () = assert!(BATCH_ENTRIES_MAX * message::ENTRY_BYTES_MAX + 64 <= FRAME_BYTES_MAX);
const _: () = assert!(POINTS_MAX * begin::POINT_BYTES_MAX + NAMESPACE_BYTES_MAX + 1024 <= FRAME_BYTES_MAX);
const _: () = assert!(WINDOW_ENTRIES * (BLOCK_BYTES + 256) + FRAME_BYTES_MAX <= INBOX_BYTES_MAX);
const _: () = assert!(WINDOW_BATCHES * (2 + ASKS_MAX as usize) + 128 <= INBOX_MESSAGES_MAX);

/// The way to the other end of a round: ordered and reliable for as long as the bulk session lives.
pub trait Port: Send + Sync + 'static {
    /// Queues a message. What a round queues is bounded by its window.
    fn send(&self, message: Message);
}
