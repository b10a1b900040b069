//! The machine's door: inputs in, effects out.
//!
//! Each input changes some state; [`Machine::advance`] then applies every rule whose guard holds, in a fixed order. The rules live in
//! the sibling files, one mechanism each.
//!
//! - M1: give before take: rights are the meet of the newest configuration recorded as known and all later ones in the log.
//! - M2: nothing known committed is cut; the commit index never passes the own durable end.
//! - M3: indexes are assigned only by a sequencer that holds everything its peer reported, or alone after the peer's lease.
//! - M4: effects come out in the order in which a journal must take them.

mod alone;
mod commit;
mod compare;
mod elect;
mod explain;
mod forecast;
mod join;
mod journal;
mod lease;
mod leave;
mod merge;
mod moves;
mod order;
mod session;
mod start;
mod status;
mod switch;
mod window;

use std::collections::{BTreeMap, VecDeque};

use crate::api::{Alarm, Effect, Input, Serving, Setup, Status};
use crate::durable::{HistoryItem, Learned, OutOfSync};
use crate::entry::Entry;
use crate::ids::{ArrayId, Incarnation, Index, MediatorId, Position, RequestId, Ticket, Time};
use crate::log::Log;

pub use explain::{Decided, Decision, Why};
pub use forecast::{Because, Cut, Forecast, Stays};

use alone::{Look, Race};
use journal::Awaited;
use moves::HandBack;
use order::Pending;
use session::Contact;

/// One pod at one array.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Machine {
    setup: Setup,
    effects: VecDeque<Effect>,
    deadline: Option<Time>,
    /// How many ids were drawn from the seed.
    drawn: u64,
    told_status: Option<(Serving, Status)>,

    // Durable state and what is on its way to the disk.
    incarnation: Incarnation,
    incarnation_durable: bool,
    log: Log,
    durable: Index,
    ticket: Ticket,
    awaited: VecDeque<Awaited>,
    /// Newest configuration whose commitment is recorded durably.
    known: Index,
    /// As `known`, the record perhaps still on its way.
    known_written: Index,
    out_of_sync: Option<OutOfSync>,
    learned: Learned,

    // Knowledge of this start.
    committed: Index,
    /// What the peer reported durable of this log; stays true after its session.
    peer_durable: Index,
    peer_incarnation: Incarnation,
    peer_attempt: u32,
    /// Highest configuration number seen anywhere.
    seen_number: u64,
    /// Configurations of the survivor, as last told to this copy while it is behind.
    survivor_history: Vec<HistoryItem>,

    /// Nothing will be durable any more in this start.
    disk_failed: bool,

    // The link.
    /// Bytes that may be under way to the peer.
    window_bytes: usize,
    link_up: bool,
    contact: Contact,
    /// Attempts of this start to open a session.
    attempts: u32,
    /// When going on alone may begin, unless a session is open.
    race_at: Time,
    lost_at: Time,
    /// The peer said that it hears this array and will send its HELLO.
    busy_until: Time,
    /// The peer was ejected: until then no session is opened with it, unless this array has gone on.
    shut_until: Time,

    // Leases.
    lease: Option<Time>,
    promise: Time,

    // Going on alone.
    mediator: Option<MediatorId>,
    mediator_requests: u64,
    race: Option<Race>,
    /// Unfit to race, it looks who won.
    look: Option<Look>,
    off: bool,
    stopped: Option<Alarm>,
    last_alarm: Option<Alarm>,
    held_since: Option<Time>,

    // Moving the right.
    hand_back: Option<HandBack>,
    hand_back_at: Time,
    /// Since when neither array reaches the mediator, as far as is known.
    mediator_lost_since: Option<Time>,
    /// When an array was last pre-elected for that.
    elected_at: Option<Time>,
    /// Who is to hold the pod no more.
    leaving: Option<ArrayId>,
    /// Who is to order.
    switch_to: Option<ArrayId>,

    // Requests of this array's hosts.
    pending: BTreeMap<RequestId, Pending>,
    unsent: VecDeque<RequestId>,
    ordered: BTreeMap<Index, RequestId>,
    /// Requests may be out that were forwarded in a session now over.
    unresolved: bool,
}

impl Machine {
    /// Takes one input.
    pub fn step(&mut self, now: Time, input: Input) {
        match input {
            Input::Submit { request, descriptor, attachment } => {
                self.submit(now, request, descriptor, attachment)
            }
            Input::Withdraw { request } => self.withdraw(request),
            Input::Durable { through } => self.durable_through(now, through),
            Input::LinkUp => self.on_link_up(now),
            Input::LinkDown => self.on_link_down(now),
            Input::Receive(message) => self.receive(now, message),
            Input::MediatorUp { mediator } => self.on_mediator_up(now, mediator),
            Input::MediatorDown => self.on_mediator_down(),
            Input::Mediator(reply) => self.on_mediator_reply(now, &reply),
            Input::Signed { statement, signature } => self.on_signed(now, statement, signature),
            Input::DiskFailed => self.disk_failed = true,
            Input::DiskMended => self.disk_failed = false,
            Input::Tick => {}
            Input::SetPreference(preferred) => self.setup.preferred = preferred,
            Input::SetMediator(mediator) => self.setup.mediator = mediator,
            Input::Invite { peer } => self.invite(peer),
            Input::Leave(leaver) => self.on_leave(leaver),
            Input::Switch(array) => self.on_switch(array),
            Input::ForgetPeer => self.forget_peer(now),
            Input::SuffixPossible { after } => self.on_suffix_possible(after),
            Input::Flipped(state) => self.on_flipped(now, *state),
            Input::Trim { through } => self.trim(through),
        }
        self.advance(now);
    }

    /// The next thing to do, in order.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call `step` with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Index of the log's last entry, durable or not.
    pub fn log_end(&self) -> Index {
        self.log.end().index
    }

    /// Index of the last entry known committed.
    pub fn committed(&self) -> Index {
        self.committed
    }

    /// Index of the last entry durable here.
    pub fn durable(&self) -> Index {
        self.durable
    }

    /// The log's beginning.
    pub fn base(&self) -> Position {
        self.log.base()
    }

    /// The log's end.
    pub fn end(&self) -> Position {
        self.log.end()
    }

    /// A held entry.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.get(index)
    }

    /// The place `index`, if it is the base or held.
    pub fn position(&self, index: Index) -> Option<Position> {
        self.log.position(index)
    }

    /// Every configuration of the log, oldest first.
    pub fn history(&self) -> &[HistoryItem] {
        self.log.history()
    }

    /// What this copy is started with.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// This start's incarnation.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Whether and since when this copy is behind.
    pub fn out_of_sync(&self) -> Option<&OutOfSync> {
        self.out_of_sync.as_ref()
    }

    /// Applies every rule whose guard holds.
    fn advance(&mut self, now: Time) {
        self.deadline = None;
        self.watch_session(now);
        self.eject_slow_peer(now);
        self.part(now);
        self.settle_alone(now);
        self.advance_commit(now);
        self.go_on_alone(now);
        self.open_session(now);
        self.get_ready();
        self.resolve_forwarded(now);
        self.order_pending(now);
        self.propose_join(now);
        self.note_joined();
        self.move_right(now);
        self.pump(now);
        self.tell_durable();
        self.beat(now);
        self.complete_requests();
        self.watch_hold(now);
        self.settle_wake(now);
        self.check();
        self.tell_status(now);
    }

    /// Wakes the machine at `at`, if that is still to come.
    fn wake(&mut self, now: Time, at: Time) {
        if at > now {
            self.deadline = Some(self.deadline.map_or(at, |deadline| deadline.min(at)));
        }
    }

    fn emit(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    fn alarm(&mut self, alarm: Alarm) {
        if self.last_alarm != Some(alarm) {
            self.last_alarm = Some(alarm);
            self.emit(Effect::Alarm(alarm));
        }
    }

    /// Sixteen bytes that nobody else draws.
    fn draw(&mut self) -> [u8; 16] {
        self.drawn += 1;
        let mut hasher = blake3::Hasher::new_keyed(&self.setup.seed);
        hasher.update(&self.setup.me.0);
        hasher.update(&self.setup.pod.0);
        hasher.update(&self.incarnation.0.to_le_bytes());
        hasher.update(&self.drawn.to_le_bytes());
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    /// What must hold after every step, whatever came in.
    fn check(&self) {
        let end = self.log.end().index;
        assert!(self.committed <= self.durable, "commit index beyond the own durable log");
        assert!(self.durable <= end, "durable beyond the log");
        assert!(self.known <= self.durable, "known configuration beyond the own durable log");
        assert!(self.log.base().index <= self.committed, "trimmed beyond the commit index");
    }
}
