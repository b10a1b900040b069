//! Space kept on the device for when it is full: a file that is given up, so that what is owed can still be written.
//!
//! ```text
//!  wanted ── made ──► kept ── destage, checkpoint or segment finds no space ──► given ──┐
//!    ▲                                                                                  │
//!    └─────────────── writes are refused; trims, deletes and checkpoints go on ─────────┘
//! ```
//! - V1: writes are taken only while it is kept, or was never missed: what a full array still has to do finds its space.
//! - V2: it is made again only when nothing else lacks space. That it could be made is what tells that there is room again.
//! - V3: it is as long as half a journal segment: a checkpoint, and what was staged when the device became full.

use metropod_journal::media::{Cause, Create, Doing, Io, MediaError, Open};
use metropod_protocol::Time;

use super::Array;
use super::retry::Kind;
use crate::task::{Finished, FlowError};

/// Its name.
const FILE: &str = "reserve";

/// Where it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reserve {
    /// To be made.
    #[default]
    Wanted,
    Making,
    Kept,
    Giving,
}

impl Reserve {
    pub(super) fn is_idle(self) -> bool {
        matches!(self, Reserve::Wanted | Reserve::Kept)
    }
}

impl Array {
    /// Makes the reserve, or gives it up.
    pub(super) fn tend_reserve(&mut self) {
        let io = self.io.clone();
        match self.background.reserve {
            Reserve::Wanted
                if self.background.retries.may_start(Kind::Reserve)
                    && !self.background.retries.lacks_other_than(Kind::Reserve) =>
            {
                self.background.reserve = Reserve::Making;
                let bytes = self.reserve_bytes();
                self.run("reserve", async move { Finished::ReserveMade(make(&io, bytes).await) });
            }
            Reserve::Kept if self.background.retries.lacks_other_than(Kind::Reserve) => {
                self.background.reserve = Reserve::Giving;
                self.run("reserve", async move { Finished::ReserveGiven(give(&io).await) });
            }
            _ => {}
        }
    }

    pub(super) fn reserve_made(&mut self, now: Time, result: Result<(), MediaError>) {
        self.background.reserve = if result.is_ok() { Reserve::Kept } else { Reserve::Wanted };
        self.note(now, Kind::Reserve, result.err().map(FlowError::Media));
    }

    pub(super) fn reserve_given(&mut self, now: Time, result: Result<(), MediaError>) {
        self.background.reserve = Reserve::Wanted;
        // V1: until it is made again.
        let missed = result.err().unwrap_or(MediaError { doing: Doing::Write, cause: Cause::NoSpace });
        self.note(now, Kind::Reserve, Some(FlowError::Media(missed)));
        self.background.retries.hurry();
    }

    /// V3.
    fn reserve_bytes(&self) -> u64 {
        self.journal.segment_bytes() / 2
    }
}

/// Makes the file unless it is there.
async fn make(io: &Io, bytes: u64) -> Result<(), MediaError> {
    match io.open(FILE, Open { create: Create::Never, direct: true }).await {
        Ok(file) => {
            let length = io.length(file).await;
            io.close(file).await;
            if length? >= bytes {
                return Ok(());
            }
            give(io).await?;
        }
        Err(MediaError { cause: Cause::NotFound, .. }) => {}
        Err(error) => return Err(error),
    }
    let file = io.open(FILE, Open { create: Create::New, direct: true }).await?;
    let result = match io.prewrite(file, bytes).await {
        Ok(()) => io.sync(file).await,
        Err(error) => Err(error),
    };
    io.close(file).await;
    if result.is_err() {
        // Part of it helps nobody.
        let _left = give(io).await;
    }
    result
}

async fn give(io: &Io) -> Result<(), MediaError> {
    match io.remove(FILE).await {
        Ok(()) | Err(MediaError { cause: Cause::NotFound, .. }) => io.sync_dir("").await,
        Err(error) => Err(error),
    }
}
