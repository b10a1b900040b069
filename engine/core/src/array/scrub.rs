//! Scrubbing: everything stored is read and proven once in a while, at a pace that leaves the disk to hosts.
//!
//! ```text
//! Idle ── asked, or a week is over ──► Running: flow reads a segment ─► rest ─► flow … ── last one read ──► Resting
//!   ▲                                    │ stopped                               ▲                            │
//!   └────────────────────────────────────┘                                       └── asked, or a week is over ┘
//! ```
//! - U1: one segment is read per flow, and the next no earlier than the rate allows; nothing waits for either.
//! - U2: a scrub ends at the last segment there was when it began. Segments that are freed meanwhile are left out of what
//!   there is to do; bytes done only rise.
//! - U3: each thing found is an alarm, up to the store's bound per segment; everything found is counted.
//! - U4: a segment that could not be read because the device failed is tried again after a rest; it is never left out.
//! - U5: which segments were scrubbed is not kept on disk: a restart begins anew, after the whole time between scrubs.

use std::collections::{BTreeSet, VecDeque};

use metropod_dedupe::{Digest, Finding, Rot, Scrubbed, SegmentId};
use metropod_journal::media::MediaError;
use metropod_protocol::{RequestId, Span, Time};

use super::Array;
use crate::door::{Alarm, Effect, Managed, ScrubRequest};
use crate::task::Finished;

/// Rate of [`ScrubConfig::default`], in bytes per second: a quarter of what a slow disk reads in order.
pub const SCRUB_BYTES_PER_S_DEFAULT: u64 = 32 << 20;

/// Time between scrubs of [`ScrubConfig::default`]: a week.
const EVERY_DEFAULT: Span = Span::millis(7 * 24 * 3_600 * 1_000);

/// How long a flow that failed rests.
const FAILED_REST: Span = Span::millis(30_000);

/// Findings of a scrub that are kept, the newest; all are counted.
pub const SCRUB_FINDINGS_MAX: usize = 256;

/// When and how fast an array scrubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubConfig {
    /// Bytes read per second.
    pub bytes_per_s: u64,
    /// From the end of a scrub, or a start of the array, to the next one; `None`: only on request.
    pub every: Option<Span>,
}

impl Default for ScrubConfig {
    fn default() -> ScrubConfig {
        ScrubConfig { bytes_per_s: SCRUB_BYTES_PER_S_DEFAULT, every: Some(EVERY_DEFAULT) }
    }
}

/// What a scrub does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScrubState {
    /// Nothing: none has ended well since the start, or the last was stopped.
    #[default]
    Idle,
    /// It reads, or waits until it may.
    Running,
    /// It is done.
    Resting,
}

/// How far the scrub under way is, or how the last one ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubProgress {
    /// See [`ScrubState`].
    pub state: ScrubState,
    /// Bytes of segments read.
    pub bytes_done: u64,
    /// Segments read.
    pub segments_done: u64,
    /// Bytes of segments to be read.
    pub bytes_left: u64,
    /// Segments to be read.
    pub segments_left: u64,
    /// Records proven or found rotten.
    pub records: u64,
    /// Things found rotten.
    pub findings: u64,
    /// The newest [`SCRUB_FINDINGS_MAX`] of those that the store listed.
    pub listed: VecDeque<Finding>,
    /// Chunks listed whose place a good copy took.
    pub repaired: BTreeSet<Digest>,
    /// When it began; `None`: none did since the start.
    pub began: Option<Time>,
    /// When it ended or was stopped.
    pub ended: Option<Time>,
    /// Scrubs that ended well since the start.
    pub finished: u64,
    /// Flows that failed since the start.
    pub failed: u64,
}

/// State of the scrub.
pub(super) struct Scrub {
    progress: ScrubProgress,
    /// Number of the scrub under way: what a flow of an earlier one brings does not count.
    number: u64,
    reading: bool,
    next: SegmentId,
    end: SegmentId,
    /// While one runs: when the next segment may be read. Otherwise: when the next scrub begins by itself.
    due_at: Option<Time>,
}

impl Scrub {
    pub(super) fn new(now: Time, config: &ScrubConfig) -> Scrub {
        Scrub {
            progress: ScrubProgress::default(),
            number: 0,
            reading: false,
            next: SegmentId(0),
            end: SegmentId(0),
            due_at: config.every.map(|every| now + every),
        }
    }

    pub(super) fn is_reading(&self) -> bool {
        self.reading
    }

    /// When the core has to be stepped for it.
    pub(super) fn due_at(&self) -> Option<Time> {
        self.due_at.filter(|_| !self.reading)
    }

    fn is_running(&self) -> bool {
        self.progress.state == ScrubState::Running
    }

    fn end(&mut self, now: Time, state: ScrubState, config: &ScrubConfig) {
        self.progress.state = state;
        self.progress.ended = Some(now);
        self.due_at = config.every.map(|every| now + every);
    }
}

impl Array {
    /// How far the scrub under way is, or how the last one ended.
    pub fn scrub_progress(&self) -> &ScrubProgress {
        &self.scrub.progress
    }

    /// How fast it reads, in bytes per second.
    pub fn scrub_bytes_per_s(&self) -> u64 {
        self.config.scrub.bytes_per_s
    }

    /// Answers at once: one that runs already goes on.
    pub(super) fn scrub_for(&mut self, now: Time, request: RequestId, what: ScrubRequest) {
        match what {
            ScrubRequest::Start if !self.scrub.is_running() => self.begin_scrub(now),
            ScrubRequest::Stop if self.scrub.is_running() => {
                self.scrub.end(now, ScrubState::Idle, &self.config.scrub);
            }
            ScrubRequest::Start | ScrubRequest::Stop => {}
        }
        self.managed(request, Ok(Managed::Done));
    }

    /// Reads the next segment, if it is time.
    pub(super) fn scrub(&mut self, now: Time) {
        if self.scrub.due_at().is_none_or(|due_at| now < due_at) {
            return;
        }
        if !self.scrub.is_running() {
            self.begin_scrub(now);
        }
        self.scrub.reading = true;
        let (store, number) = (self.store.clone(), self.scrub.number);
        let (next, end) = (self.scrub.next, self.scrub.end);
        self.scrub.due_at = Some(now);
        self.run("scrub", async move {
            Finished::Scrubbed {
                number,
                result: store.scrub(next, end).await.map(|found| found.map(Box::new)),
            }
        });
    }

    fn begin_scrub(&mut self, now: Time) {
        let (finished, failed) = (self.scrub.progress.finished, self.scrub.progress.failed);
        self.scrub.number += 1;
        (self.scrub.next, self.scrub.end) = (SegmentId(0), self.store.scrub_end());
        let (state, began) = (ScrubState::Running, Some(now));
        self.scrub.progress = ScrubProgress { state, began, finished, failed, ..ScrubProgress::default() };
        self.scrub.due_at = Some(now);
        self.count_left();
    }

    pub(super) fn scrubbed(
        &mut self,
        now: Time,
        number: u64,
        result: Result<Option<Box<Scrubbed>>, MediaError>,
    ) {
        self.scrub.reading = false;
        if number != self.scrub.number || !self.scrub.is_running() {
            return;
        }
        match result {
            Ok(Some(found)) => {
                // The flow's beginning stands there: the time that reading took counts.
                let began = self.scrub.due_at.unwrap_or(now);
                let nanos = found.bytes.saturating_mul(1_000_000_000) / self.config.scrub.bytes_per_s.max(1);
                self.scrub.due_at = Some((began + Span(nanos)).max(now));
                self.scrub.next = SegmentId(found.segment.0 + 1);
                self.take_findings(*found);
                self.count_left();
            }
            Ok(None) => {
                self.scrub.progress.finished += 1;
                self.count_left();
                self.scrub.end(now, ScrubState::Resting, &self.config.scrub);
            }
            Err(_) => {
                self.scrub.progress.failed += 1;
                self.scrub.due_at = Some(now + FAILED_REST);
                self.effects.push_back(Effect::Alarm(Alarm::FlowFailed { flow: "scrub" }));
            }
        }
    }

    /// U3.
    fn take_findings(&mut self, found: Scrubbed) {
        let progress = &mut self.scrub.progress;
        progress.bytes_done += found.bytes;
        progress.segments_done += 1;
        progress.records += found.records;
        progress.findings += found.findings;
        for finding in found.listed {
            self.effects.push_back(Effect::Alarm(match finding.rot {
                Rot::Chunk(digest) => Alarm::DamagedChunk(digest),
                _ => Alarm::DamagedSegment(finding.segment),
            }));
            if progress.listed.len() == SCRUB_FINDINGS_MAX
                && let Some(Finding { rot: Rot::Chunk(digest), .. }) = progress.listed.pop_front()
            {
                progress.repaired.remove(&digest);
            }
            progress.listed.push_back(finding);
            if let Rot::Chunk(digest) = finding.rot
                && found.repaired.contains(&digest)
            {
                progress.repaired.insert(digest);
            }
        }
    }

    fn count_left(&mut self) {
        let left = self.store.scrub_left(self.scrub.next, self.scrub.end);
        (self.scrub.progress.bytes_left, self.scrub.progress.segments_left) = (left.bytes, left.segments);
    }
}
