//! The machine's door: inputs in, effects out.

use crate::api::{Effect, Input, MediatorStatus, Serving, Setup, Side, Status};
use crate::config::Epoch;
use crate::durable::{DurableState, RestartError};
use crate::entry::Entry;
use crate::ids::{ConfigId, Index, Position, Time};
use crate::log::Log;

/// One pod at one array.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Machine {
    setup: Setup,
    state: DurableState,
    log: Log,
}

impl Machine {
    /// A new pod, this array its sole member. The first configuration entry comes out as an effect.
    pub fn found(setup: Setup, now: Time) -> Machine {
        let _ = now;
        let state = DurableState::default();
        Machine { setup, log: Log::new(state.base, Vec::new()), state }
    }

    /// A copy that is to be filled: out of sync and empty.
    pub fn invited(setup: Setup, now: Time) -> Machine {
        Machine::found(setup, now)
    }

    /// After a start. `state` and `entries` come from [`crate::Replay`].
    pub fn restart(
        setup: Setup,
        state: DurableState,
        entries: Vec<Entry>,
        now: Time,
    ) -> Result<Machine, RestartError> {
        let _ = (entries, now);
        Ok(Machine { setup, log: Log::new(state.base, state.history.clone()), state })
    }

    /// Takes one input.
    pub fn step(&mut self, now: Time, input: Input) {
        let _ = (now, input);
    }

    /// The next thing to do, in order.
    pub fn next_effect(&mut self) -> Option<Effect> {
        None
    }

    /// When to call `step` with [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// Index of the log's last entry, durable or not.
    pub fn log_end(&self) -> Index {
        self.log.end().index
    }

    /// Index of the last entry known committed.
    pub fn committed(&self) -> Index {
        self.log.base().index
    }

    /// The log's beginning.
    pub fn base(&self) -> Position {
        self.log.base()
    }

    /// A held entry.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.get(index)
    }

    /// Whether a read may fix its position at `now`, and whether hosts get silence or errors.
    pub fn serving(&self, now: Time) -> Serving {
        let _ = now;
        Serving::Held
    }

    /// The pod as users see it.
    pub fn status(&self, now: Time) -> Status {
        let _ = now;
        Status {
            mine: Side::Unknown,
            peer: None,
            sequencer: None,
            pre_elected: None,
            mediator: MediatorStatus::None,
            epoch: Epoch::default(),
            config: ConfigId::default(),
            in_session: false,
            mirrored: false,
            racing: false,
            held_since: None,
        }
    }

    /// State for a manifest whose stores hold everything up to `applied` (at most the commit index). Its base may be earlier than
    /// `applied` when a joiner still needs the entries.
    pub fn durable_state(&self, applied: Index) -> DurableState {
        let _ = applied;
        self.state.clone()
    }

    /// At a joiner: the state to put into the manifest of an image that stands at `base` in the survivor's log. `None` if this
    /// copy is not behind or has not heard the survivor's history up to `base`.
    pub fn state_after_flip(&self, base: Position) -> Option<DurableState> {
        let _ = base;
        Some(self.state.clone())
    }
}
