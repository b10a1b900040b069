//! What goes to the journal and what its completions mean.
//!
//! - J1: tickets rise; completions are cumulative, so the queue of awaited things is answered from its front.
//! - J2: the effect of a loss (a configuration appended, the out-of-sync mark) is immediate; the effect of a gain waits for its
//!   completion.

use crate::api::Effect;
use crate::config::Configuration;
use crate::durable::{DurableRecord, DurableState, HistoryItem, OutOfSync};
use crate::entry::{Body, Entry};
use crate::ids::{ArrayId, Chain, Incarnation, Index, Position, RequestId, Ticket, Time};
use crate::machine::Machine;
use crate::machine::session::Contact;
use crate::settings::SUFFIX_ENTRIES_MAX;

/// Something on its way to the disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Awaited {
    pub ticket: Ticket,
    pub since: Time,
    pub what: What,
}

/// What its completion means.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum What {
    Entry(Index),
    Incarnation,
    Known { index: Index, in_sync: bool },
    Other,
}

impl Machine {
    /// The entry that would follow the log's end.
    pub(super) fn next_entry(
        &self,
        origin: ArrayId,
        incarnation: Incarnation,
        request: u64,
        body: Body,
    ) -> Entry {
        let end = self.log.end();
        let config = match &body {
            Body::Configuration(configuration) => configuration.id,
            _ => end.config,
        };
        let mut entry = Entry {
            config,
            index: end.index.next(),
            committed: self.committed,
            origin,
            origin_incarnation: incarnation,
            origin_request: request,
            chain: Chain::EMPTY,
            body,
        };
        entry.chain = entry.chain_after(end.chain);
        entry
    }

    /// Appends an entry that follows the end. What a configuration takes is lost here.
    pub(super) fn append(&mut self, now: Time, entry: Entry) {
        let alone = self.is_settled_alone();
        let end = self.log.end().index;
        self.log.push(entry.clone());
        self.ticket = self.ticket.next();
        let ticket = self.ticket;
        self.awaited.push_back(Awaited { ticket, since: now, what: What::Entry(entry.index) });
        if let Some(configuration) = entry.configuration() {
            self.seen_number = self.seen_number.max(configuration.epoch.number);
            self.hand_back = None;
            if configuration.members.is_only(self.setup.me) {
                // What the peer reported beyond this log's old end is not what follows here.
                self.peer_durable = self.peer_durable.min(end);
            }
        }
        // A HELLO already sent reports an end that is no longer true, except for what a lone survivor adds at its end.
        if matches!(self.contact, Contact::Opening(_)) && !(alone && entry.configuration().is_none()) {
            self.renew_opening(now);
        }
        let (origin, incarnation, request) = (entry.origin, entry.origin_incarnation, entry.origin_request);
        let index = entry.index;
        self.emit(Effect::Append { ticket, entry });
        if origin == self.setup.me && incarnation == self.incarnation {
            self.note_ordered(RequestId(request), index);
        }
    }

    /// Writes a record.
    pub(super) fn record(&mut self, now: Time, record: DurableRecord) -> Ticket {
        self.ticket = self.ticket.next();
        let ticket = self.ticket;
        let what = match &record {
            DurableRecord::Incarnation(_) => What::Incarnation,
            DurableRecord::KnownConfig { index, in_sync } => {
                self.known_written = self.known_written.max(*index);
                What::Known { index: *index, in_sync: *in_sync }
            }
            DurableRecord::OutOfSync(_) | DurableRecord::Learned(_) | DurableRecord::Cut { .. } => {
                What::Other
            }
        };
        self.awaited.push_back(Awaited { ticket, since: now, what });
        self.emit(Effect::Record { ticket, record });
        ticket
    }

    /// This copy is behind: lease, rights and requests go at once, the mark is on its way to the disk.
    pub(super) fn mark_out_of_sync(&mut self, now: Time, mark: OutOfSync) -> Ticket {
        assert!(!self.is_clearing(), "a session opens only when every record is durable");
        self.out_of_sync = Some(mark);
        self.lease = None;
        self.race = None;
        self.hand_back = None;
        self.refuse_all();
        let ticket = self.record(now, DurableRecord::OutOfSync(mark));
        self.emit(Effect::FellBehind { fork: mark.fork });
        ticket
    }

    /// The record that ends the out-of-sync state is on its way to the disk.
    fn is_clearing(&self) -> bool {
        self.awaited.iter().any(|awaited| matches!(awaited.what, What::Known { in_sync: true, .. }))
    }

    /// Drops the log after `keep`. Nothing known committed is ever dropped, and nothing is on its way to the disk.
    pub(super) fn cut(&mut self, now: Time, keep: Index) -> Ticket {
        assert!(self.out_of_sync.is_some(), "a copy is marked out of sync before its log is cut");
        assert!(keep >= self.committed && keep >= self.known_written, "nothing known committed is cut");
        assert_eq!(self.durable, self.log.end().index, "a log is cut only when all of it is durable");
        self.log.cut(keep);
        self.durable = keep;
        self.peer_durable = self.peer_durable.min(keep);
        self.record(now, DurableRecord::Cut { keep })
    }

    /// The journal holds everything up to this ticket.
    pub(super) fn durable_through(&mut self, now: Time, through: Ticket) {
        while let Some(awaited) = self.awaited.pop_front_if(|awaited| awaited.ticket <= through) {
            match awaited.what {
                What::Entry(index) => {
                    assert_eq!(index, self.durable.next(), "entries become durable in order");
                    self.durable = index;
                }
                What::Incarnation => {
                    self.incarnation_durable = true;
                    if matches!(self.contact, Contact::Opening(_)) {
                        self.renew_opening(now);
                    }
                }
                What::Known { index, in_sync } => {
                    self.known = self.known.max(index);
                    if in_sync {
                        self.out_of_sync = None;
                        self.survivor_history = Vec::new();
                    }
                }
                What::Other => {}
            }
        }
    }

    /// Whether everything up to `ticket` is durable.
    pub(super) fn is_durable(&self, ticket: Ticket) -> bool {
        self.awaited.front().is_none_or(|awaited| awaited.ticket > ticket)
    }

    /// Whether the own disk keeps up; what the array tells the mediator with each sign of life.
    pub fn is_fit(&self, now: Time) -> bool {
        let keeps_up = |awaited: &Awaited| now.since(awaited.since) < self.setup.settings.unfit;
        !self.disk_failed && self.awaited.front().is_none_or(keeps_up)
    }

    pub(super) fn trim(&mut self, through: Index) {
        self.log.trim(through.min(self.committed));
    }

    /// The base of a manifest whose stores hold everything up to `applied` (at most the commit index). It is earlier than `applied`
    /// when a joiner still needs the entries and `keep_for_joiner` grants them room in the journal.
    pub fn base_for(&self, applied: Index, keep_for_joiner: bool) -> Index {
        let end = self.log.end().index;
        let mut through = applied.min(self.committed);
        if let Some(needed) = self.needed_by_joiner()
            && keep_for_joiner
            && end.0 - needed.min(end).0 <= SUFFIX_ENTRIES_MAX
        {
            through = through.min(needed);
        }
        through.max(self.log.base().index)
    }

    /// Whether no other array lacks an entry that is committed here, or will: there is no other, or both are members and
    /// commit nothing that is not durable on both. Then what is applied need not be held, also before a manifest contains it.
    pub fn nobody_lacks_committed(&self) -> bool {
        let me = self.setup.me;
        let in_pair = |newest: &Configuration| newest.members.is_pair() && newest.members.contains(me);
        self.out_of_sync.is_none() && (self.setup.peer.is_none() || self.newest_known().is_some_and(in_pair))
    }

    /// State for a manifest with [`Machine::base_for`] these as its base.
    pub fn durable_state(&self, applied: Index, keep_for_joiner: bool) -> DurableState {
        let base = self.log.position(self.base_for(applied, keep_for_joiner));
        let base = base.expect("the base and what follows are held");
        let history = self.log.history().iter().filter(|item| item.first <= base.index).copied().collect();
        self.state_with(base, self.known_written, history)
    }

    pub(super) fn state_with(
        &self,
        base: Position,
        known_config: Index,
        history: Vec<HistoryItem>,
    ) -> DurableState {
        DurableState {
            incarnation: self.incarnation,
            known_config,
            // A state contains every record up to its ticket, also those on their way.
            out_of_sync: self.out_of_sync.filter(|_| !self.is_clearing()),
            learned: self.learned,
            base,
            history,
            ticket: self.ticket,
        }
    }
}
