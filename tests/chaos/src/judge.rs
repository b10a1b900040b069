//! The judge: hosts tell it what they ask and what became of it, in the order things happen; it says what must not be.
//!
//! Moments are counted under the judge's lock: a request takes its moment before it is sent, an answer after it has come,
//! so that the judge's order never claims more than time did.
//!
//! - J1: a write answered with an error is given up at once; one whose connection the array lost [`GRACE`] later, when
//!   nothing of it can be under way between the arrays any more.
//! - J2: a write that its host stopped waiting for is given up only when both arrays were online and idle: NBD has no
//!   abort, and a request can wait in a frozen array's socket.
//! - J3: a cut counts from after it was made until before it is healed; what is sent and acknowledged inside it was
//!   acknowledged by an array that was alone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use metropod_sim::register::{History, Violation};

use crate::Side;

/// How long after its connection was lost a write may still take place: detection, lease and a slow machine.
pub const GRACE: Duration = Duration::from_millis(1500);

/// What a host asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A read.
    Read,
    /// A write of a value that is written nowhere else.
    Write,
    /// A write of zeroes.
    Zero,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// No answer yet.
    UnderWay,
    /// Done.
    Ok,
    /// An error was answered.
    Failed,
    /// The array lost the connection.
    Lost,
    /// The host waited no longer, and closed the connection.
    Abandoned,
}

/// One request of one host, for people who look at a violation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The host.
    pub host: usize,
    /// The array it was sent to.
    pub side: Side,
    /// What was asked.
    pub kind: Kind,
    /// Where.
    pub sectors: Range<u64>,
    /// The write's number, which is its value; of a read none.
    pub number: u64,
    /// Time of the run when it was sent.
    pub begin: Duration,
    /// Time of the run when its outcome was known.
    pub end: Duration,
    /// What became of it.
    pub outcome: Outcome,
    /// The moment it was sent at.
    moment: u64,
}

/// Something that must not be.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Time of the run.
    pub at: Duration,
    /// In words.
    pub what: String,
    /// What hosts did to the sector it is about.
    pub history: Vec<Operation>,
}

/// Identifies a request to the judge.
pub type Ticket = usize;

/// Everything hosts asked and were told.
#[derive(Debug)]
pub struct Judge {
    begin: Instant,
    history: History,
    operations: Vec<Operation>,
    moment: u64,
    /// Writes without an answer, and when they are given up; `None`: at the next rest.
    unknown: Vec<(Ticket, Option<Duration>)>,
    /// The first acknowledgement at each side of what was sent since the cut; `None`: not cut.
    apart: Option<(u64, BTreeMap<Side, Ticket>)>,
    findings: Vec<Finding>,
    last_ok: BTreeMap<Side, Duration>,
    longest: BTreeMap<Side, Duration>,
}

impl Judge {
    /// A volume of zeroes.
    pub fn new(sectors: u64) -> Judge {
        Judge {
            begin: Instant::now(),
            history: History::new(sectors),
            operations: Vec::new(),
            moment: 0,
            unknown: Vec::new(),
            apart: None,
            findings: Vec::new(),
            last_ok: BTreeMap::new(),
            longest: BTreeMap::new(),
        }
    }

    /// Time of the run.
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// A request is about to be sent: its ticket, and of a write the number that is its value.
    pub fn sent(&mut self, host: usize, side: Side, kind: Kind, sectors: Range<u64>) -> (Ticket, u64) {
        let begin = self.now();
        self.give_up_due(begin);
        let moment = self.tick();
        let number = match kind {
            Kind::Read => 0,
            Kind::Write => self.history.sent(sectors.clone(), false, moment),
            Kind::Zero => self.history.sent(sectors.clone(), true, moment),
        };
        let outcome = Outcome::UnderWay;
        self.operations.push(Operation {
            host,
            side,
            kind,
            sectors,
            number,
            begin,
            end: begin,
            outcome,
            moment,
        });
        (self.operations.len() - 1, number)
    }

    /// It was done; `content` is what a read found.
    pub fn done(&mut self, ticket: Ticket, content: &[u8]) {
        let at = self.tick();
        let operation = self.end(ticket, Outcome::Ok);
        self.completed(operation.side, operation.end);
        if operation.kind == Kind::Read {
            let read = self.history.read(operation.sectors.start, content, operation.moment..at);
            if let Err(violation) = read {
                self.violated(&operation, &violation);
            }
            return;
        }
        self.history.acknowledged(operation.number, at);
        self.acknowledged_apart(ticket, &operation);
    }

    /// It was not, or nobody knows.
    pub fn not_done(&mut self, ticket: Ticket, outcome: Outcome) {
        let operation = self.end(ticket, outcome);
        if operation.kind == Kind::Read {
            return;
        }
        match outcome {
            Outcome::Failed => self.give_up(ticket),
            Outcome::Lost => self.unknown.push((ticket, Some(operation.end + GRACE))),
            _ => self.unknown.push((ticket, None)),
        }
    }

    /// Both arrays are online, no request is under way, and [`GRACE`] has passed: nothing unknown takes place later.
    pub fn rest(&mut self) {
        for (ticket, _) in std::mem::take(&mut self.unknown) {
            self.give_up(ticket);
        }
    }

    /// The arrays cannot hear each other from now on.
    pub fn cut(&mut self) {
        let moment = self.tick();
        self.apart = Some((moment, BTreeMap::new()));
    }

    /// They may again, from now on.
    pub fn healed(&mut self) {
        self.apart = None;
    }

    /// Something found by other means.
    pub fn found(&mut self, what: String) {
        self.findings.push(Finding { at: self.now(), what, history: Vec::new() });
    }

    /// From now on the longest pause of each side is measured anew.
    pub fn watch_pauses(&mut self) {
        let now = self.now();
        for side in Side::BOTH {
            self.last_ok.insert(side, now);
            self.longest.insert(side, Duration::ZERO);
        }
    }

    /// The longest time since without a request done, at the side where it is shorter.
    pub fn pause(&mut self) -> Duration {
        let now = self.now();
        Side::BOTH.into_iter().map(|side| self.longest_at(side, now)).min().unwrap_or_default()
    }

    /// What must not have been.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Every request so far.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn end(&mut self, ticket: Ticket, outcome: Outcome) -> Operation {
        let end = self.now();
        let operation = &mut self.operations[ticket];
        assert_eq!(operation.outcome, Outcome::UnderWay, "a request ends once");
        operation.end = end;
        operation.outcome = outcome;
        operation.clone()
    }

    fn give_up_due(&mut self, now: Duration) {
        let (due, left) = std::mem::take(&mut self.unknown)
            .into_iter()
            .partition(|(_, until)| until.is_some_and(|until| until <= now));
        self.unknown = left;
        let due: Vec<(Ticket, Option<Duration>)> = due;
        for (ticket, _) in due {
            self.give_up(ticket);
        }
    }

    fn give_up(&mut self, ticket: Ticket) {
        let at = self.tick();
        self.history.failed(self.operations[ticket].number, at);
    }

    fn acknowledged_apart(&mut self, ticket: Ticket, operation: &Operation) {
        let Some((since, first)) = &mut self.apart else { return };
        if operation.moment < *since {
            return;
        }
        first.entry(operation.side).or_insert(ticket);
        if first.len() < Side::BOTH.len() {
            return;
        }
        let history = first.values().map(|ticket| self.operations[*ticket].clone()).collect();
        let what = "split brain: both arrays acknowledged writes while they could not hear each other".into();
        self.apart = None;
        self.findings.push(Finding { at: self.now(), what, history });
    }

    fn violated(&mut self, read: &Operation, violation: &Violation) {
        let Violation { sector, found, why } = violation;
        let value = self.operations.iter().filter(|operation| operation.sectors.contains(sector));
        let history = value.cloned().collect();
        let what = format!("host {} at {} read sector {sector}: {found}: {why}", read.host, read.side.name());
        self.findings.push(Finding { at: self.now(), what, history });
    }

    fn completed(&mut self, side: Side, at: Duration) {
        let longest = self.longest_at(side, at);
        self.longest.insert(side, longest);
        self.last_ok.insert(side, at);
    }

    fn longest_at(&self, side: Side, now: Duration) -> Duration {
        let since = now.saturating_sub(self.last_ok.get(&side).copied().unwrap_or(now));
        since.max(self.longest.get(&side).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metropod_sim::payload::sector_bytes;

    fn write(judge: &mut Judge, side: Side) -> (Ticket, u64) {
        judge.sent(0, side, Kind::Write, 0..1)
    }

    fn written(judge: &mut Judge, side: Side) -> u64 {
        let (ticket, number) = write(judge, side);
        judge.done(ticket, &[]);
        number
    }

    /// Whether a read that finds `value` now is a violation.
    fn is_caught(judge: &mut Judge, side: Side, value: u64) -> bool {
        let before = judge.findings().len();
        let (ticket, _) = judge.sent(1, side, Kind::Read, 0..1);
        judge.done(ticket, &sector_bytes(0, value));
        judge.findings().len() > before
    }

    #[test]
    fn a_lost_acknowledged_write_is_caught_and_its_history_shown() {
        let mut judge = Judge::new(1);
        let kept = written(&mut judge, Side::A);
        assert!(!is_caught(&mut judge, Side::B, kept));
        assert!(is_caught(&mut judge, Side::B, 0), "zeroes are what was before the write");
        assert_eq!(judge.findings()[0].history.len(), 3, "the write and both reads");
    }

    #[test]
    fn a_stale_read_after_an_acknowledgement_at_the_other_side_is_caught() {
        let mut judge = Judge::new(1);
        let old = written(&mut judge, Side::A);
        let new = written(&mut judge, Side::A);
        assert!(is_caught(&mut judge, Side::B, old));
        assert!(!is_caught(&mut judge, Side::B, new));
    }

    #[test]
    fn a_read_beside_a_write_may_find_either() {
        let mut judge = Judge::new(1);
        let old = written(&mut judge, Side::A);
        let (_under_way, new) = write(&mut judge, Side::B);
        assert!(!is_caught(&mut judge, Side::A, old));
        assert!(!is_caught(&mut judge, Side::A, new));
        assert!(is_caught(&mut judge, Side::B, old), "it was seen, and is not taken back");
    }

    #[test]
    fn a_failed_write_does_not_appear_after_a_later_one_through_the_other_side() {
        let mut judge = Judge::new(1);
        let (ticket, ghost) = write(&mut judge, Side::A);
        judge.not_done(ticket, Outcome::Failed);
        let kept = written(&mut judge, Side::B);
        assert!(is_caught(&mut judge, Side::B, ghost));
        assert!(!is_caught(&mut judge, Side::A, kept));
    }

    #[test]
    fn a_lost_write_may_appear_within_the_grace_and_not_after_it() {
        let mut judge = Judge::new(1);
        let (ticket, late) = write(&mut judge, Side::A);
        judge.not_done(ticket, Outcome::Lost);
        written(&mut judge, Side::B);
        assert!(!is_caught(&mut judge, Side::B, late));

        let (ticket, ghost) = write(&mut judge, Side::A);
        judge.not_done(ticket, Outcome::Lost);
        judge.begin -= GRACE;
        written(&mut judge, Side::B);
        assert!(is_caught(&mut judge, Side::B, ghost));
    }

    #[test]
    fn an_abandoned_write_may_appear_until_the_arrays_were_at_rest() {
        let mut judge = Judge::new(1);
        let (first, late) = write(&mut judge, Side::A);
        let (second, ghost) = write(&mut judge, Side::A);
        judge.not_done(first, Outcome::Abandoned);
        judge.not_done(second, Outcome::Abandoned);
        judge.begin -= GRACE;
        written(&mut judge, Side::B);
        assert!(!is_caught(&mut judge, Side::B, late));
        judge.rest();
        written(&mut judge, Side::B);
        assert!(is_caught(&mut judge, Side::A, ghost));
    }

    #[test]
    fn two_sides_that_acknowledge_during_a_cut_are_caught() {
        let mut judge = Judge::new(1);
        let (before, _) = write(&mut judge, Side::B);
        judge.cut();
        written(&mut judge, Side::A);
        judge.done(before, &[]);
        assert!(judge.findings().is_empty(), "one was sent before the cut");
        written(&mut judge, Side::B);
        assert_eq!(judge.findings().len(), 1);
        judge.healed();
        written(&mut judge, Side::A);
        written(&mut judge, Side::B);
        assert_eq!(judge.findings().len(), 1);
    }

    #[test]
    fn what_no_write_made_is_caught() {
        let mut judge = Judge::new(1);
        let value = written(&mut judge, Side::A);
        let mut torn = sector_bytes(0, value);
        torn[300] ^= 1;
        let (ticket, _) = judge.sent(1, Side::A, Kind::Read, 0..1);
        judge.done(ticket, &torn);
        assert_eq!(judge.findings().len(), 1);
    }
}
