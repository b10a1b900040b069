//! How a machine begins: a new pod, an empty copy to be filled, or a restart.
//!
//! A restarted array may have promised before it died, so its promise begins anew at the start; its tail after the durable commit
//! knowledge is unknown: neither committed nor dropped.

use std::collections::{BTreeMap, VecDeque};

use crate::api::{Effect, Setup};
use crate::config::{Configuration, Epoch, Ground, Members, Right};
use crate::durable::{DurableRecord, DurableState, OutOfSync, RestartError};
use crate::entry::{Body, Entry};
use crate::ids::{ConfigId, Incarnation, Index, Position, Time};
use crate::log::Log;
use crate::machine::Machine;
use crate::machine::session::Contact;
use crate::settings::WINDOW_BYTES;

impl Machine {
    /// A new pod, this array its sole member. The first configuration entry comes out as an effect.
    pub fn found(setup: Setup, now: Time) -> Machine {
        Machine::found_after(setup, Position::default(), now)
    }

    fn found_after(setup: Setup, base: Position, now: Time) -> Machine {
        let mut machine = Machine::empty(setup, DurableState { base, ..DurableState::default() }, now);
        machine.promise = now;
        machine.begin_incarnation(now);
        let id = ConfigId(machine.draw());
        let me = machine.setup.me;
        machine.append_configuration(
            now,
            Configuration {
                epoch: Epoch { era: 0, number: 1 },
                id,
                members: Members::one(me),
                sequencer: me,
                right: Right::Array(me),
                ground: Ground::Granted,
            },
        );
        machine.advance(now);
        machine
    }

    /// A pod of its own that begins with what another left behind, which stood at `at`: its log goes on from there, and nothing
    /// of the other's is in it.
    pub fn found_at(setup: Setup, at: Index, now: Time) -> Machine {
        Machine::found_after(setup, Position { index: at, ..Position::default() }, now)
    }

    /// A copy that is to be filled: out of sync and empty.
    pub fn invited(setup: Setup, now: Time) -> Machine {
        let mut machine = Machine::empty(setup, DurableState::default(), now);
        machine.begin_incarnation(now);
        machine.mark_out_of_sync(
            now,
            OutOfSync {
                fork: Position::default(),
                survivor: ConfigId::default(),
                after: Index(0),
                first_time: true,
            },
        );
        machine.advance(now);
        machine
    }

    /// After a start. `state` and `entries` come from [`crate::Replay`].
    pub fn restart(
        setup: Setup,
        state: DurableState,
        entries: Vec<Entry>,
        now: Time,
    ) -> Result<Machine, RestartError> {
        let known = state.known_config;
        let mut machine = Machine::empty(setup, state, now);
        for entry in entries {
            if !machine.log.follows(&entry) {
                return Err(RestartError::Broken { index: entry.index });
            }
            machine.committed = machine.committed.max(entry.committed);
            machine.log.push(entry);
        }
        let end = machine.log.end().index;
        machine.durable = end;
        if known > Index(0) && machine.log.configuration_at(known).is_none() {
            return Err(RestartError::ConfigurationMissing { index: known });
        }
        machine.committed = machine.committed.min(end).max(known);
        if let Some(number) = machine.newest().map(|newest| newest.epoch.number) {
            machine.seen_number = machine.seen_number.max(number);
        }
        if machine.committed > machine.log.base().index {
            let through = machine.committed;
            machine.emit(Effect::Committed { through });
        }
        machine.begin_incarnation(now);
        machine.advance(now);
        Ok(machine)
    }

    fn empty(setup: Setup, state: DurableState, now: Time) -> Machine {
        let promise = now + setup.settings.promise();
        let race_at = now + setup.settings.boot_grace;
        Machine {
            setup,
            effects: VecDeque::new(),
            deadline: None,
            drawn: 0,
            told_status: None,
            incarnation: state.incarnation.next(),
            incarnation_durable: false,
            durable: state.base.index,
            ticket: state.ticket,
            awaited: VecDeque::new(),
            known: state.known_config,
            known_written: state.known_config,
            out_of_sync: state.out_of_sync,
            learned: state.learned,
            committed: state.base.index,
            peer_durable: Index(0),
            peer_incarnation: Incarnation(0),
            peer_attempt: 0,
            seen_number: state.learned.epoch.number,
            survivor_history: Vec::new(),
            disk_failed: false,
            window_bytes: WINDOW_BYTES,
            link_up: false,
            contact: Contact::Down,
            attempts: 0,
            race_at,
            lost_at: now,
            busy_until: now,
            lease: None,
            promise,
            mediator: None,
            mediator_requests: 0,
            race: None,
            look: None,
            shut_until: now,
            off: false,
            stopped: None,
            last_alarm: None,
            held_since: None,
            hand_back: None,
            hand_back_at: now,
            mediator_lost_since: None,
            elected_at: None,
            leaving: None,
            switch_to: None,
            pending: BTreeMap::new(),
            unsent: VecDeque::new(),
            ordered: BTreeMap::new(),
            unresolved: false,
            log: Log::new(state.base, state.history),
        }
    }

    fn begin_incarnation(&mut self, now: Time) {
        let incarnation = self.incarnation;
        self.record(now, DurableRecord::Incarnation(incarnation));
    }

    /// Appends a configuration entry that nobody asked for.
    pub(super) fn append_configuration(&mut self, now: Time, configuration: Configuration) {
        let entry = self.next_entry(self.setup.me, Incarnation(0), 0, Body::Configuration(configuration));
        self.append(now, entry);
    }
}
