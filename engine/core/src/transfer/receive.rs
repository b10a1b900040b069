//! The target's flow: from `Begin` to a complete image.
//!
//! - R1: nothing of the target's present images changes; the result is a new image (T2).
//! - R2: `Ready` is sent, and the image given out, only when every name in it is stored content (T1).
//! - R3: credit is given only while little is staged in memory ([`STAGED_BYTES_MAX`]).

use std::collections::VecDeque;
use std::sync::Arc;

use metropod_dedupe::{Digest, Domain, Payload, ReadError, Store, verify_blocks};
use metropod_protocol::Position;
use metropod_snapshots::{Extent, Nodes};

use super::ask::{Asks, Standing, content_bytes, names_of};
use super::begin::{Begin, Reach};
use super::build::{Builder, Building, FOLD_ENTRIES};
use super::check::Check;
use super::error::{TransferError, Violation};
use super::inbox::Inbox;
use super::message::{Body, Message};
use super::progress::Progress;
use super::turns::give_way;
use super::{Port, STAGED_BYTES_MAX, VERIFY_RUN, WINDOW_BATCHES};
use crate::layer_ids::LayerIds;
use crate::namespace::PodImage;

/// What the target holds when a round begins.
#[derive(Debug, Clone)]
pub struct Held {
    /// The last entry that it shows.
    pub at: Position,
    /// Its content, frozen.
    pub image: PodImage,
}

/// Receives the round that `begin` describes, and gives its image: complete, every chunk verified and staged.
///
/// The caller flushes the store, makes the image durable, flips to it and then sends [`Body::Flipped`].
/// `building` shows what the round names so far; `have` is what the target holds; it is used if the round starts from a common point.
///
/// # Errors
/// After any error but `Closed` and `Aborted` the source has been told. The round is over; nothing that arrived is
/// lost, the next round does not ask for it again.
#[allow(clippy::too_many_arguments)]
pub async fn receive_round(
    begin: Begin,
    have: Option<Held>,
    layer_ids: LayerIds,
    store: Store,
    port: Arc<dyn Port>,
    inbox: Inbox,
    progress: Arc<Progress>,
    building: Building,
) -> Result<PodImage, TransferError> {
    receive_folding(begin, have, layer_ids, store, port, inbox, progress, building, FOLD_ENTRIES).await
}

#[allow(clippy::too_many_arguments)]
pub(super) async fn receive_folding(
    begin: Begin,
    have: Option<Held>,
    layer_ids: LayerIds,
    store: Store,
    port: Arc<dyn Port>,
    inbox: Inbox,
    progress: Arc<Progress>,
    building: Building,
    fold_entries: usize,
) -> Result<PodImage, TransferError> {
    let round = begin.round;
    let first = Message { round, body: Body::Begin(begin.clone()) };
    progress.add_wire(first.wire_bytes());
    let received = async {
        let have = base_of(&begin, have)?;
        building.begin(Builder::new(&begin, have, layer_ids, fold_entries)?);
        let receiver = Receiver {
            round,
            nodes: Nodes::new(store.clone()),
            store,
            port: port.clone(),
            inbox,
            progress,
            check: Check::new(&first.encode()[0]),
            building,
            asks: Asks::default(),
            held: VecDeque::new(),
        };
        receiver.run().await
    }
    .await;
    if let Err(error) = &received
        && let Some(reason) = error.abort_reason()
    {
        port.send(Message { round, body: Body::Abort(reason) });
    }
    received
}

/// The image that the round's changes may be laid over.
fn base_of(begin: &Begin, have: Option<Held>) -> Result<Option<PodImage>, TransferError> {
    let Some((from, reach)) = begin.from else { return Ok(None) };
    let holds = |held: &Held| match reach {
        Reach::Exact => held.at == from,
        Reach::Beyond { through } => (from.index..=through).contains(&held.at.index),
    };
    match have.filter(holds) {
        Some(held) => Ok(Some(held.image)),
        None => Err(TransferError::MissingBase { target: None }),
    }
}

struct Receiver {
    round: u64,
    nodes: Nodes<Store>,
    store: Store,
    port: Arc<dyn Port>,
    inbox: Inbox,
    progress: Arc<Progress>,
    check: Check,
    building: Building,
    asks: Asks,
    /// Messages put aside until a fold has run: at most a window of them.
    held: VecDeque<Message>,
}

impl Receiver {
    async fn run(mut self) -> Result<PodImage, TransferError> {
        let mut ended = None;
        loop {
            if let Some(check) = ended
                && self.asks.is_settled()
            {
                let image = self.building.finish()?;
                let ready = Message { round: self.round, body: Body::Ready { check } };
                self.progress.add_wire(ready.wire_bytes());
                self.port.send(ready);
                return Ok(image);
            }
            match self.next().await?.body {
                Body::Total { data_blocks } => self.progress.set_logical(content_bytes(data_blocks)),
                Body::Changes { seq, point, last, entries } if ended.is_none() => {
                    self.changes(seq, point, last, entries).await?;
                }
                Body::Chunks { seq, payloads } => self.chunks(seq, payloads).await?,
                Body::End { check } if ended.is_none() => {
                    if !self.building.is_complete() {
                        return Err(Violation::Order.into());
                    }
                    if check != self.check.value() {
                        return Err(Violation::Check.into());
                    }
                    ended = Some(check);
                }
                Body::Abort(reason) => return Err(TransferError::Aborted(reason)),
                _ => return Err(Violation::OutOfPlace.into()),
            }
        }
    }

    /// The next message of this round. While a fold is due only content is taken, until all of it has come.
    async fn next(&mut self) -> Result<Message, TransferError> {
        if self.building.wants_fold() && self.asks.is_settled() {
            self.building.fold(&self.nodes).await?;
        }
        let folding = self.building.wants_fold();
        if !folding && let Some(message) = self.held.pop_front() {
            return Ok(message);
        }
        loop {
            let message = self.inbox.next().await.ok_or(TransferError::Closed)?;
            if message.round != self.round {
                continue;
            }
            self.progress.add_wire(message.wire_bytes());
            if !folding || !matches!(message.body, Body::Changes { .. } | Body::End { .. }) {
                return Ok(message);
            }
            if self.held.len() > WINDOW_BATCHES {
                return Err(Violation::Window.into());
            }
            self.held.push_back(message);
        }
    }

    async fn changes(
        &mut self,
        seq: u64,
        point: u32,
        last: bool,
        entries: Vec<Extent>,
    ) -> Result<(), TransferError> {
        self.asks.admit(seq, entries.len())?;
        self.building.lay(point, &entries, last)?;
        self.check.add(point, &entries);
        let names = names_of(&entries);
        let candidates = self.asks.candidates(&names);
        let digests: Vec<_> = candidates.iter().map(|at| names[*at]).collect();
        let present = self.present(&digests).await?;
        let lacking = candidates.into_iter().zip(present).filter(|(_, present)| !present);
        let standing = self.asks.open(seq, entries.len(), names, lacking.map(|(at, _)| at).collect());
        self.answer(seq, standing).await
    }

    /// Which content the store has. Where a damaged index page cannot tell, it lacks it: having it again heals that.
    async fn present(&self, digests: &[Digest]) -> Result<Vec<bool>, TransferError> {
        match self.store.have(digests).await {
            Ok(present) => return Ok(present),
            Err(ReadError::IndexDamaged { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let mut present = Vec::with_capacity(digests.len());
        for digest in digests {
            match self.store.have(std::slice::from_ref(digest)).await {
                Ok(one) => present.push(one.contains(&true)),
                Err(ReadError::IndexDamaged { .. }) => present.push(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(present)
    }

    async fn chunks(&mut self, seq: u64, payloads: Vec<Payload>) -> Result<(), TransferError> {
        let mut payloads = payloads.into_iter().peekable();
        while payloads.peek().is_some() {
            let some: Vec<Payload> = payloads.by_ref().take(VERIFY_RUN).collect();
            let wanted = some.iter().map(|_| self.asks.next_wanted(seq)).collect::<Result<Vec<_>, _>>()?;
            let names = wanted.iter().map(|(_, digest)| digest);
            let sound = verify_blocks(names.zip(&some));
            for (((at, digest), payload), sound) in wanted.into_iter().zip(some).zip(sound) {
                if sound {
                    let stored = payload.bytes.len();
                    self.store.stage(Domain::Data, digest, payload);
                    self.asks.arrived(seq, at, stored);
                } else {
                    self.asks.damaged(seq, at);
                }
            }
            give_way().await;
        }
        let standing = self.asks.settle(seq)?;
        self.answer(seq, standing).await
    }

    async fn answer(&mut self, seq: u64, standing: Standing) -> Result<(), TransferError> {
        let body = match standing {
            Standing::Waiting => return Ok(()),
            Standing::Again(need) => need,
            Standing::Done(tally) => {
                if self.store.staged_bytes() > STAGED_BYTES_MAX {
                    self.store.destage().await?;
                }
                self.progress.add_done(tally.named, tally.shipped, tally.stored);
                Body::Done { seq }
            }
        };
        let message = Message { round: self.round, body };
        self.progress.add_wire(message.wire_bytes());
        self.port.send(message);
        Ok(())
    }
}
