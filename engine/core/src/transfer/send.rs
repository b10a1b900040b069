//! The source's flow: from a plan to the target's word that it flipped.
//!
//! - S1: at most [`WINDOW_BATCHES`] batches and [`WINDOW_ENTRIES`] entries are without their `Done`; content goes out
//!   only for them, so what waits in the port is bounded too.
//! - S2: content goes out as stored. The store checks its record; the target checks the digest.

use std::collections::BTreeMap;
use std::sync::Arc;

use metropod_dedupe::{Digest, Payload, Store};
use metropod_snapshots::{Extent, Nodes, Slot};

use super::ask::{content_bytes, names_of};
use super::begin::{Begin, Common};
use super::check::Check;
use super::error::{TransferError, Violation};
use super::inbox::Inbox;
use super::message::{Body, Message};
use super::progress::Progress;
use super::turns::{give_way, join_all};
use super::walk::{Leg, Walk};
use super::{
    ASKS_MAX, BATCH_ENTRIES, BATCH_ENTRIES_MAX, CHUNKS_BYTES, Port, READ_DEPTH, WINDOW_BATCHES,
    WINDOW_ENTRIES,
};
use crate::namespace::PodImage;

/// What a finished round sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Batches of changes.
    pub batches: u64,
    /// Changes: blocks and zero ranges.
    pub entries: u64,
    /// Blocks of content named.
    pub data_blocks: u64,
    /// Chunks shipped, those that had to be shipped again included.
    pub chunks: u64,
}

/// Sends the round that `begin` describes and ends when the target says that it flipped.
///
/// `from` and `to` are the images that [`Begin::plan`] was given. The caller has not sent `begin`.
///
/// # Errors
/// After any error but `Closed` and `Aborted` the target has been told.
///
/// # Panics
/// If `begin` was planned for other images.
pub async fn send_round(
    begin: Begin,
    from: Option<Common>,
    to: PodImage,
    store: Store,
    port: Arc<dyn Port>,
    inbox: Inbox,
    progress: Arc<Progress>,
) -> Result<Sent, TransferError> {
    let round = begin.round;
    let first = Message { round, body: Body::Begin(begin.clone()) };
    let sender = Sender {
        round,
        nodes: Nodes::new(store.clone()),
        store,
        port: port.clone(),
        inbox,
        progress,
        check: Check::new(&first.encode()[0]),
        open: BTreeMap::new(),
        open_entries: 0,
        ready: None,
        flipped: false,
        sent: Sent::default(),
    };
    let sent = sender.run(first, &begin.legs(from.as_ref(), &to)).await;
    if let Err(error) = &sent
        && let Some(reason) = error.abort_reason()
    {
        port.send(Message { round, body: Body::Abort(reason) });
    }
    sent
}

struct Sender {
    round: u64,
    nodes: Nodes<Store>,
    store: Store,
    port: Arc<dyn Port>,
    inbox: Inbox,
    progress: Arc<Progress>,
    check: Check,
    open: BTreeMap<u64, Batch>,
    open_entries: usize,
    /// The check that was sent with `End`, then confirmed.
    ready: Option<Ready>,
    flipped: bool,
    sent: Sent,
}

enum Ready {
    Awaited([u8; 32]),
    Confirmed,
}

/// A batch without its `Done`.
struct Batch {
    entries: usize,
    names: Vec<Digest>,
    asks: u8,
    shipped: usize,
    stored: usize,
}

impl Sender {
    async fn run(mut self, first: Message, legs: &[Leg]) -> Result<Sent, TransferError> {
        let data_blocks = self.count(legs).await?;
        self.progress.set_logical(content_bytes(data_blocks));
        self.send_message(first);
        self.send(Body::Total { data_blocks });
        for (point, leg) in legs.iter().enumerate() {
            let point = u32::try_from(point).expect("a round has at most POINTS_MAX points");
            self.send_point(point, leg).await?;
        }
        let check = self.check.value();
        self.ready = Some(Ready::Awaited(check));
        self.send(Body::End { check });
        while !self.flipped {
            let message = self.inbox.next().await.ok_or(TransferError::Closed)?;
            self.take(message).await?;
        }
        Ok(self.sent)
    }

    /// Content that the round names, so that progress has an end.
    async fn count(&mut self, legs: &[Leg]) -> Result<u64, TransferError> {
        let mut data_blocks = 0;
        for leg in legs {
            let mut walk = Walk::new(leg, &self.nodes);
            loop {
                let batch = walk.next_batch(BATCH_ENTRIES_MAX).await?;
                if batch.is_empty() {
                    break;
                }
                data_blocks += batch.iter().filter(|entry| entry.slot != Slot::Zero).count() as u64;
                give_way().await;
            }
        }
        Ok(data_blocks)
    }

    async fn send_point(&mut self, point: u32, leg: &Leg) -> Result<(), TransferError> {
        let nodes = self.nodes.clone();
        let mut walk = Walk::new(leg, &nodes);
        let mut batch = walk.next_batch(BATCH_ENTRIES).await?;
        loop {
            let next = if batch.is_empty() { Vec::new() } else { walk.next_batch(BATCH_ENTRIES).await? };
            let last = next.is_empty();
            self.send_changes(point, last, batch).await?;
            if last {
                return Ok(());
            }
            batch = next;
        }
    }

    /// Sends a batch once the window has room, answering the target all the while.
    async fn send_changes(
        &mut self,
        point: u32,
        last: bool,
        entries: Vec<Extent>,
    ) -> Result<(), TransferError> {
        while let Some(message) = self.inbox.take() {
            self.take(message).await?;
        }
        while self.open.len() >= WINDOW_BATCHES || self.open_entries + entries.len() > WINDOW_ENTRIES {
            let message = self.inbox.next().await.ok_or(TransferError::Closed)?;
            self.take(message).await?;
        }
        self.check.add(point, &entries);
        let names = names_of(&entries);
        self.sent.batches += 1;
        self.sent.entries += entries.len() as u64;
        self.sent.data_blocks += names.len() as u64;
        let seq = self.sent.batches;
        self.open_entries += entries.len();
        self.open.insert(seq, Batch { entries: entries.len(), names, asks: 0, shipped: 0, stored: 0 });
        self.send(Body::Changes { seq, point, last, entries });
        give_way().await;
        Ok(())
    }

    async fn take(&mut self, message: Message) -> Result<(), TransferError> {
        if message.round != self.round {
            return Ok(());
        }
        self.progress.add_wire(message.wire_bytes());
        match message.body {
            Body::Need { seq, lacking } => self.ship(seq, &lacking).await,
            Body::Done { seq } => {
                let batch = self.open.remove(&seq).ok_or(Violation::Batch)?;
                self.open_entries -= batch.entries;
                let (named, shipped) = (batch.names.len() as u64, batch.shipped as u64);
                self.progress.add_done(content_bytes(named), content_bytes(shipped), batch.stored as u64);
                Ok(())
            }
            Body::Ready { check } => match self.ready {
                Some(Ready::Awaited(sent)) if self.open.is_empty() => {
                    if check != sent {
                        return Err(Violation::Check.into());
                    }
                    self.ready = Some(Ready::Confirmed);
                    Ok(())
                }
                _ => Err(Violation::OutOfPlace.into()),
            },
            Body::Flipped if matches!(self.ready, Some(Ready::Confirmed)) => {
                self.flipped = true;
                Ok(())
            }
            Body::Abort(reason) => Err(TransferError::Aborted(reason)),
            _ => Err(Violation::OutOfPlace.into()),
        }
    }

    /// Sends the content of a batch that the target lacks.
    async fn ship(&mut self, seq: u64, lacking: &[bool]) -> Result<(), TransferError> {
        let batch = self.open.get_mut(&seq).ok_or(Violation::Batch)?;
        if lacking.len() != batch.names.len() || !lacking.contains(&true) {
            return Err(Violation::Batch.into());
        }
        if batch.asks >= ASKS_MAX {
            return Err(Violation::Asks.into());
        }
        batch.asks += 1;
        let first = batch.asks == 1;
        let wanted: Vec<Digest> =
            batch.names.iter().zip(lacking).filter(|(_, lacking)| **lacking).map(|(name, _)| *name).collect();
        let mut payloads: Vec<Payload> = Vec::new();
        let mut bytes = 0;
        let mut stored = 0;
        for group in wanted.chunks(READ_DEPTH) {
            for payload in join_all(group.iter().map(|digest| self.store.get_payload(digest))).await {
                let payload = payload?;
                bytes += payload.bytes.len();
                stored += payload.bytes.len();
                payloads.push(payload);
                if bytes >= CHUNKS_BYTES {
                    bytes = 0;
                    self.send(Body::Chunks { seq, payloads: std::mem::take(&mut payloads) });
                }
            }
        }
        if !payloads.is_empty() {
            self.send(Body::Chunks { seq, payloads });
        }
        self.sent.chunks += wanted.len() as u64;
        if first && let Some(batch) = self.open.get_mut(&seq) {
            batch.shipped = wanted.len();
            batch.stored = stored;
        }
        Ok(())
    }

    fn send(&self, body: Body) {
        self.send_message(Message { round: self.round, body });
    }

    fn send_message(&self, message: Message) {
        self.progress.add_wire(message.wire_bytes());
        self.port.send(message);
    }
}
