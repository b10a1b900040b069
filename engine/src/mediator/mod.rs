//! Talking to a mediator, and being one.
//!
//! Both ends open with the links' signed hello (roles *mediator client* and *mediator*). Then frames:
//!
//! | kind | from | payload |
//! |---|---|---|
//! | [`KIND_ALIVE`] | array, every 100 ms | 1 byte: 1 fit, 0 not |
//! | [`KIND_ALIVE`] | mediator, at once | empty |
//! | [`KIND_REQUEST`] | array | `MediatorRequest::encode` |
//! | [`KIND_REPLY`] | mediator | `MediatorReply::encode` |

mod client;
mod clock;
mod consent;
mod directory;
mod door;
mod server;
mod store;

use std::time::Duration;

pub use client::{MediatorClient, MediatorClientConfig, MediatorEvent, MediatorSession, MediatorSink};
pub use consent::{consents, sign};
pub use directory::DirectoryError;
pub use server::{MediatorConfig, MediatorServer, ServeError, serve};
pub use store::StoreError;
#[cfg(any(fuzzing, test))]
pub(crate) use store::decode as decode_register;

/// Sign of life.
pub const KIND_ALIVE: u8 = 0x10;
/// A request.
pub const KIND_REQUEST: u8 = 0x11;
/// A reply.
pub const KIND_REPLY: u8 = 0x12;

/// Between signs of life.
pub const PERIOD: Duration = Duration::from_millis(100);
/// Silence after which an array takes its session for dead.
pub const DEAD: Duration = Duration::from_millis(300);

/// Longest payload either way; requests and replies are a few hundred bytes.
const PAYLOAD_MAX: usize = 4096;
/// Unsent bytes of a session.
const UNSENT_MAX: usize = 256 << 10;
/// Bytes read at once.
const BUFFER_BYTES: usize = 8 << 10;
