//! Two machines of one pod, in session. The input says what becomes of each message on its way and what else happens; and a
//! machine that begins with a state and entries that no machine wrote.

use std::collections::VecDeque;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::{
    ArrayId, DurableState, Effect, Entry, Input, Machine, Message, PodId, Replay, RequestId, Setup, Span,
    Ticket, Time,
};

const IDS: [ArrayId; 2] = [ArrayId([0xa1; 16]), ArrayId([0xb2; 16])];
/// Most effects of one input; more is a loop.
const EFFECTS_MAX: usize = 10_000;
/// Most messages under way in one direction; more are lost with the link.
const UNDER_WAY_MAX: usize = 256;

#[derive(Clone)]
struct Pair {
    machines: [Machine; 2],
    /// From each to the other.
    under_way: [VecDeque<Message>; 2],
    now: Time,
    request: u64,
}

/// Steps of the input: kind, side and what the kind wants.
pub(super) fn pair(input: &[u8]) {
    let mut pair = joined().clone();
    let mut rest = input;
    while let Some(([kind, what], after)) = rest.split_first_chunk::<2>() {
        rest = after;
        let from = usize::from(kind >> 7);
        match kind & 7 {
            0 => pair.deliver(from, Some),
            1 => {
                let (patch, after) = rest.split_at(rest.len().min(usize::from(*what & 31) + 1));
                rest = after;
                pair.deliver(from, |message| damaged(&message, patch));
            }
            2 => {
                let (head, after) = rest.split_at(rest.len().min(usize::from(*what)));
                rest = after;
                if let Ok(message) = Message::decode(Bytes::copy_from_slice(head), Bytes::new()) {
                    pair.step(1 - from, Input::Receive(message));
                }
            }
            3 => {
                pair.request += 1;
                let (request, attachment) = (RequestId(pair.request), Bytes::new());
                let descriptor = Bytes::from_static(b"what");
                pair.step(from, Input::Submit { request, descriptor, attachment });
            }
            4 => {
                pair.now = pair.now + Span::millis(u64::from(*what) * 4);
                pair.step(0, Input::Tick);
                pair.step(1, Input::Tick);
            }
            5 => pair.link(*what & 1 == 1),
            6 => drop(pair.under_way[from].pop_front()),
            _ => (0..=*what).for_each(|_| pair.deliver(from, Some)),
        }
    }
}

/// A state with its length, then entries with theirs: what a manifest and a journal may say.
pub(super) fn restart(input: &[u8]) {
    let Some((state, mut rest)) = part(input) else { return };
    let Ok(state) = DurableState::decode(state) else { return };
    let mut replay = Replay::new(state);
    while let Some((bytes, after)) = part(rest) {
        rest = after;
        if let Ok(entry) = Entry::decode(bytes.clone(), Bytes::new()) {
            replay.entry(entry);
        } else if let Ok((ticket, record)) = crate::DurableRecord::decode(bytes) {
            replay.record(ticket, &record);
        }
    }
    let (state, entries) = replay.finish();
    let now = Time(1);
    let Ok(mut machine) = Machine::restart(setup(0), state, entries, now) else { return };
    machine.step(now, Input::LinkUp);
    run(&mut machine, now, &mut VecDeque::new());
    machine.step(now + Span::millis(60_000), Input::Tick);
    let _ = machine.status(now);
}

fn part(input: &[u8]) -> Option<(Bytes, &[u8])> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    Some((Bytes::copy_from_slice(bytes), rest))
}

/// The message with some of its bytes changed: place, new bytes.
fn damaged(message: &Message, patch: &[u8]) -> Option<Message> {
    let (head, attachment) = message.encode();
    let (at, bytes) = patch.split_first()?;
    let mut head = head.to_vec();
    let at = usize::from(*at) % head.len();
    for (byte, new) in head[at..].iter_mut().zip(bytes) {
        *byte = *new;
    }
    Message::decode(head.into(), attachment).ok()
}

fn setup(side: usize) -> Setup {
    Setup {
        me: IDS[side],
        pod: PodId([0xcc; 16]),
        peer: Some(IDS[1 - side]),
        mediator: None,
        preferred: None,
        settings: crate::Settings::default(),
        seed: [side as u8; 32],
    }
}

/// Both hold the pod and serve it.
fn joined() -> &'static Pair {
    static JOINED: OnceLock<Pair> = OnceLock::new();
    JOINED.get_or_init(|| {
        let now = Time(1);
        let founder = Machine::found(Setup { peer: None, ..setup(0) }, now);
        let machines = [founder, Machine::invited(setup(1), now)];
        let mut pair = Pair { machines, under_way: Default::default(), now, request: 0 };
        pair.step(1, Input::Tick);
        pair.step(0, Input::Invite { peer: IDS[1] });
        pair.link(true);
        for _ in 0..400 {
            pair.now = pair.now + Span::millis(1);
            for side in 0..2 {
                pair.step(side, Input::Tick);
                pair.deliver(side, Some);
            }
        }
        let mirrored = |machine: &Machine| machine.status(pair.now).mirrored;
        assert!(pair.machines.iter().all(mirrored), "the pair is whole before the input begins");
        pair
    })
}

impl Pair {
    fn step(&mut self, side: usize, input: Input) {
        self.machines[side].step(self.now, input);
        run(&mut self.machines[side], self.now, &mut self.under_way[side]);
        if self.under_way[side].len() > UNDER_WAY_MAX {
            self.link(false);
        }
    }

    fn deliver(&mut self, from: usize, change: impl FnOnce(Message) -> Option<Message>) {
        if let Some(message) = self.under_way[from].pop_front().and_then(change) {
            self.step(1 - from, Input::Receive(message));
        }
    }

    fn link(&mut self, up: bool) {
        self.under_way.iter_mut().for_each(VecDeque::clear);
        for side in 0..2 {
            self.machines[side].step(self.now, if up { Input::LinkUp } else { Input::LinkDown });
            run(&mut self.machines[side], self.now, &mut self.under_way[side]);
        }
    }
}

/// Carries out what a machine wants: its journal is durable at once, no image is needed, nobody else is there.
fn run(machine: &mut Machine, now: Time, sent: &mut VecDeque<Message>) {
    let mut durable: Option<Ticket> = None;
    for _ in 0..EFFECTS_MAX {
        match machine.next_effect() {
            Some(Effect::Append { ticket, .. } | Effect::Record { ticket, .. }) => durable = Some(ticket),
            Some(Effect::Send(message)) => sent.push_back(message),
            Some(Effect::CatchUp { end, .. }) => {
                machine.step(now, Input::SuffixPossible { after: end.index });
            }
            Some(_) => {}
            None => match durable.take() {
                Some(through) => machine.step(now, Input::Durable { through }),
                None => return,
            },
        }
    }
    panic!("a machine never comes to rest");
}
