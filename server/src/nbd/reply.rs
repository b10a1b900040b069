//! Replies: what requests came to, on the way to the client.
//!
//! - R1: each reply is counted against the connection's limits until it has been written.
//! - R2: replies that are ready together leave in one vectored write; payloads are not copied.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::encode::Encoder;
use super::outbox::Outbox;
use super::volume::{Extent, Piece};
use super::wire::{Errno, Form};

/// Replies that leave together at most.
const BATCH_REPLIES: usize = 64;

/// What a request came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Data { pieces: Vec<Piece>, whole: bool },
    Extents(Vec<Extent>),
    Failed(Errno),
}

/// An answer on its way out.
pub(super) struct Reply {
    pub cookie: u64,
    pub offset: u64,
    pub answer: Answer,
    pub _held: Held,
}

/// What a request occupies of its connection's limits, until dropped.
pub(super) struct Held {
    pub _slot: OwnedSemaphorePermit,
    pub _bytes: Option<OwnedSemaphorePermit>,
}

/// Sends replies until all senders are gone, then closes the sending half.
pub(super) async fn send_replies<W: AsyncWrite + Unpin>(
    mut stream: W,
    mut queue: mpsc::Receiver<Reply>,
    form: Form,
) -> io::Result<()> {
    let mut batch = Vec::with_capacity(BATCH_REPLIES);
    let mut out = Outbox::default();
    while queue.recv_many(&mut batch, BATCH_REPLIES).await > 0 {
        for reply in &mut batch {
            let answer = std::mem::replace(&mut reply.answer, Answer::Done);
            Encoder { out: &mut out, form, cookie: reply.cookie, offset: reply.offset }.reply(answer);
        }
        let mut parts = out.take();
        stream.write_all_buf(&mut parts).await?;
        batch.clear();
    }
    stream.shutdown().await
}
