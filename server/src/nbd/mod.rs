//! The NBD front end: volumes as network block devices.
//!
//! A listener and anything that implements [`Exports`] go in; fixed newstyle handshakes and transmissions come
//! out, with simple, structured or extended replies as the client negotiates. Hosts see silence for a paused volume
//! (its futures do not complete) and `ESHUTDOWN`, then a closed connection, for a volume that has gone.
//!
//! - N1: whatever a client sends, memory per connection stays within [`Limits`], and the server stays up.
//! - N2: a reply is sent only after the volume answered; a success is never made up.
//! - N3: when a connection ends, the futures of its unanswered requests are dropped.
//! - N4: requests reach the volume in the order of arrival; replies leave in the order of completion.
//!
//! The protocol is specified in <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>; extended
//! headers in its branch `extension-ext-header`.

mod encode;
mod execute;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod handshake;
mod options;
mod outbox;
mod receive;
mod reply;
mod request;
mod serve;
mod transmission;
mod volume;
mod wire;

pub use serve::{Limits, serve};
pub use volume::{ExportInfo, Exports, Extent, IoError, OpenRefused, Piece, State, Volume};
pub use wire::{BLOCK_BYTES_MIN, BLOCK_BYTES_PREFERRED, EXTENTS_MAX, PAYLOAD_BYTES_MAX};
