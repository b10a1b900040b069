//! The link between both arrays: an ordered connection, which breaks both ways or one way and is opened anew.
//!
//! - K1: within a connection messages arrive in order; what was sent before a break may still arrive until the end has noticed.
//!   What one step of an array sends travels together, unless [`crate::Bounds::single`] says otherwise.
//! - K2: a stray is a copy of a message that arrives at any later time, in whatever connection.

use std::collections::VecDeque;

use metropod_protocol::Message;

use crate::sealed::Sealed;

/// A connection and what is under way on it, by receiving end.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Link {
    /// Messages under way to each.
    pub under_way: [VecDeque<Sealed<Vec<Message>>>; 2],
    /// Each end believes the connection up.
    pub open: [bool; 2],
    /// What is sent to each gets through.
    pub flows: [bool; 2],
    /// Copies that have not arrived, with their receivers.
    pub strays: Vec<(usize, Sealed<Vec<Message>>)>,
}

impl Link {
    /// Takes messages of `from` that travel together.
    pub fn send(&mut self, from: usize, messages: Vec<Message>) {
        let to = 1 - from;
        if !messages.is_empty() && self.open[from] && self.flows[to] {
            self.under_way[to].push_back(Sealed::new(messages));
        }
    }

    /// A new connection.
    pub fn connect(&mut self) {
        self.under_way.iter_mut().for_each(VecDeque::clear);
        self.open = [true; 2];
        self.flows = [true; 2];
    }

    /// An end closes.
    pub fn close(&mut self, end: usize) {
        self.open[end] = false;
        self.under_way[end].clear();
    }

    /// Up, both ways, and both ends know it.
    pub fn is_whole(&self) -> bool {
        self.open == [true; 2] && self.flows == [true; 2]
    }

    /// Nothing gets through any more.
    pub fn is_broken(&self) -> bool {
        self.flows == [false; 2]
    }
}
