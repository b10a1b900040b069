//! Where a pod stands in bringing a peer level, or in being brought level itself.
//!
//! ```text
//! survivor:  Idle ── CatchUp ──► Sending(round) ── flipped, took long ──► Sending(next round)
//!                                      └────────── flipped, quick ──────► Suffix ── JOIN or session lost ──► Idle
//! joiner:    Idle ── Begin ────► Receiving ── image whole ──► Flipping ── manifest durable ──► Idle (or next Begin)
//! ```
//! - C1: a survivor's round goes from a frozen point that the joiner is known to have, or from nothing.
//! - C2: a joiner's volumes stay as they are until the manifest that holds the new image is durable.

use std::sync::Arc;

use metropod_protocol::{ArrayId, Position, Span, Time};

use crate::namespace::PodImage;
use crate::transfer::{Building, Inbox, Progress};

/// A round shorter than this is followed by the log itself.
pub const ROUND_SHORT: Span = Span::millis(2_000);

/// See the module's text.
#[derive(Debug, Clone, Default)]
pub enum CatchUp {
    /// Nothing to do.
    #[default]
    Idle,
    /// At the survivor: a round is on its way.
    Sending(Box<Sending>),
    /// At the survivor: the log follows.
    Suffix {
        /// The joiner.
        peer: ArrayId,
    },
    /// At the joiner: a round is coming in.
    Receiving(Box<Receiving>),
    /// At the joiner: the image is whole; its manifest is being written.
    Flipping(Box<Flipping>),
}

/// See [`CatchUp::Sending`].
#[derive(Debug, Clone)]
pub struct Sending {
    /// The joiner.
    pub peer: ArrayId,
    /// Round number.
    pub round: u64,
    /// What is sent.
    pub to: Position,
    /// Its content.
    pub image: PodImage,
    /// The content it is compared with, if the round starts from a common point.
    pub from: Option<PodImage>,
    /// Messages from the joiner.
    pub inbox: Inbox,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// When it began.
    pub began: Time,
}

/// See [`CatchUp::Receiving`].
#[derive(Debug, Clone)]
pub struct Receiving {
    /// The survivor.
    pub peer: ArrayId,
    /// Round number.
    pub round: u64,
    /// What comes.
    pub to: Position,
    /// What has come so far.
    pub building: Building,
    /// Messages from the survivor.
    pub inbox: Inbox,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// When it began.
    pub began: Time,
}

/// See [`CatchUp::Flipping`].
#[derive(Debug, Clone)]
pub struct Flipping {
    /// The survivor.
    pub peer: ArrayId,
    /// Round number.
    pub round: u64,
    /// Where the image stands.
    pub to: Position,
    /// The image.
    pub image: PodImage,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// When it began.
    pub began: Time,
}

impl CatchUp {
    /// Counters of the round under way, if there is one.
    pub fn progress(&self) -> Option<&Arc<Progress>> {
        match self {
            CatchUp::Sending(sending) => Some(&sending.progress),
            CatchUp::Receiving(receiving) => Some(&receiving.progress),
            CatchUp::Flipping(flipping) => Some(&flipping.progress),
            CatchUp::Idle | CatchUp::Suffix { .. } => None,
        }
    }

    /// When the round under way began.
    pub fn began(&self) -> Option<Time> {
        match self {
            CatchUp::Sending(sending) => Some(sending.began),
            CatchUp::Receiving(receiving) => Some(receiving.began),
            CatchUp::Flipping(flipping) => Some(flipping.began),
            CatchUp::Idle | CatchUp::Suffix { .. } => None,
        }
    }

    /// Ends whatever runs: its flow sees a closed inbox.
    pub(crate) fn stop(&mut self) {
        match std::mem::take(self) {
            CatchUp::Sending(sending) => sending.inbox.close(),
            CatchUp::Receiving(receiving) => receiving.inbox.close(),
            CatchUp::Idle | CatchUp::Suffix { .. } | CatchUp::Flipping(_) => {}
        }
    }
}
