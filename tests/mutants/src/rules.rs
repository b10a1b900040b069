//! The rules that are broken, each by replacing a piece of the protocol's source that occurs there once.

/// One broken rule.
pub struct Mutation {
    /// What is wrong then.
    pub name: &'static str,
    /// File, the piece, what takes its place.
    pub edits: &'static [(&'static str, &'static str, &'static str)],
}

/// All of them.
pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "what a configuration gives is gained at its append",
        edits: &[(
            "config.rs",
            "(race @ Race { .. }, Alone) | (Alone, race @ Race { .. }) => race,",
            "(Race { .. }, Alone) => Alone,\n            (Alone, race @ Race { .. }) => race,",
        )],
    },
    Mutation {
        name: "what a configuration takes is lost only when it is known committed",
        edits: &[(
            "machine/commit.rs",
            ".iter().map(|item| item.configuration.entitles(me));",
            ".iter().take(1).map(|item| item.configuration.entitles(me));",
        )],
    },
    Mutation {
        name: "the peer of a pre-elected array does not renounce",
        edits: &[(
            "config.rs",
            "Right::Array(_) => Entitlement::None,",
            "Right::Array(_) => Entitlement::Alone,",
        )],
    },
    Mutation {
        name: "a start forgets the promises made before it",
        edits: &[("machine/start.rs", "let promise = now + setup.settings.promise();", "let promise = now;")],
    },
    Mutation {
        name: "who goes on does not wait for the peer's lease",
        edits: &[
            (
                "machine/commit.rs",
                "self.is_settled_alone() && now >= self.promise",
                "self.is_settled_alone()",
            ),
            (
                "machine/alone.rs",
                "        if now < self.promise {\n            let at = self.promise;\n            self.wake(now, at);\n            return;\n        }\n        if self.setup.peer",
                "        if self.setup.peer",
            ),
        ],
    },
    Mutation {
        name: "a member of a pair serves without a lease",
        edits: &[(
            "machine/status.rs",
            "self.entitlement() == Entitlement::Alone || self.lease.is_some_and(|lease| now < lease)",
            "true",
        )],
    },
    Mutation {
        name: "a lease is taken for longer than it was given",
        edits: &[(
            "machine/lease.rs",
            "let until = *sent + self.setup.settings.lease;",
            "let until = *sent + crate::ids::Span(3 * self.setup.settings.lease.0);",
        )],
    },
    Mutation {
        name: "a lease is given without a promise",
        edits: &[(
            "machine/lease.rs",
            "            self.promise = self.promise.max(now + self.setup.settings.promise());\n",
            "            let _ = now;\n",
        )],
    },
    Mutation {
        name: "the out-of-sync mark is not written",
        edits: &[(
            "machine/journal.rs",
            "let ticket = self.record(now, DurableRecord::OutOfSync(mark));",
            "let _ = now;\n        let ticket = self.ticket;",
        )],
    },
    Mutation {
        name: "any pair configuration ends the out-of-sync state",
        edits: &[(
            "machine/commit.rs",
            "joined && item.first > mark.after",
            "joined || item.first > mark.after",
        )],
    },
    Mutation {
        name: "the own tail counts as committed after a start",
        edits: &[(
            "machine/start.rs",
            "machine.committed = machine.committed.min(end).max(known);",
            "machine.committed = end.max(known);",
        )],
    },
    Mutation {
        name: "the sequencer orders before it holds what the peer reported",
        edits: &[(
            "machine/order.rs",
            "self.is_merged() && self.is_member() && self.orders_since_known(me)",
            "self.session().is_some() && self.is_member() && self.orders_since_known(me)",
        )],
    },
    Mutation {
        name: "frames of an earlier session are taken",
        edits: &[(
            "machine/session.rs",
            "if open.id != session || number < open.next_in {",
            "let _ = session;\n                if number < open.next_in {",
        )],
    },
    Mutation {
        name: "HELLO before everything handed to the journal is durable",
        edits: &[(
            "machine/session.rs",
            "let may_tell = self.incarnation_durable && (self.awaited.is_empty() || self.is_settled_alone());",
            "let may_tell = self.incarnation_durable;",
        )],
    },
    Mutation {
        name: "an entry is acknowledged when it is durable on one array",
        edits: &[("machine/commit.rs", "self.durable.min(self.peer_durable)", "self.durable")],
    },
    Mutation {
        name: "a configuration counts as known when it is durable on one array",
        edits: &[(
            "machine/commit.rs",
            "let Some(item) = self.log.in_force(self.committed).copied()",
            "let Some(item) = self.log.in_force(self.durable).copied()",
        )],
    },
    Mutation {
        name: "a grant for another race is taken",
        edits: &[
            (
                "machine/alone.rs",
                "        if self.entitlement() != (Entitlement::Race { mediator: race.mediator, base: race.base }) {\n            return;\n        }\n",
                "",
            ),
            (
                "machine/alone.rs",
                "if self.race.as_ref().is_some_and(|race| reply.request >= race.first) {",
                "if self.race.is_some() {",
            ),
            (
                "machine/alone.rs",
                "record.members.is_only(self.setup.me) && record.from == Some(race.base) =>",
                "record.members.contains(self.setup.me) =>",
            ),
        ],
    },
    Mutation {
        name: "the mediator's compare-and-set does not compare",
        edits: &[(
            "mediator/register.rs",
            "        if statement.expect != Some(record.id) {\n            return Decision::Refused(Refusal::Changed);\n        }\n        let allowed",
            "        let allowed",
        )],
    },
    Mutation {
        name: "the log is not cut to what it shares with the survivor's",
        edits: &[(
            "machine/join.rs",
            "if keep < self.log.end().index {",
            "if keep < self.log.base().index {",
        )],
    },
    Mutation {
        name: "an old forward is ordered, though its host may have given it up",
        edits: &[(
            "machine/lease.rs",
            "session.beats_sent.iter().any(|(beat, sent)| *beat == number && now.since(*sent) <= lease)",
            "session.beats_sent.iter().any(|(beat, sent)| *beat == number && (now.since(*sent) <= lease || true))",
        )],
    },
    Mutation {
        name: "a request that was forwarded counts as withdrawn at once",
        edits: &[(
            "machine/order.rs",
            "        if pending.place == Place::Waiting {\n            self.finish(request, Outcome::Withdrawn);",
            "        if pending.place != Place::Ordered {\n            self.finish(request, Outcome::Withdrawn);",
        )],
    },
    Mutation {
        name: "an array that never heard the peer's knowledge moves the right on",
        edits: &[(
            "machine/moves.rs",
            "configuration.members.is_pair() && session.peer_known == self.known && self.may_order(now)",
            "configuration.members.is_pair() && session.peer_known.0 > 0 && self.may_order(now)",
        )],
    },
    Mutation {
        name: "who stays ends the session before the right is its own",
        edits: &[("machine/leave.rs", " && pair.right == Right::Array(me);", ";")],
    },
    Mutation {
        name: "a pair that is to part hands the right back",
        edits: &[(
            "machine/moves.rs",
            "            return self.give_to_stayer(now, &pair, stayer);\n",
            "            let _ = stayer;\n",
        )],
    },
    Mutation {
        name: "a peer that owes nothing is kept, whatever it says of its disk",
        edits: &[("machine/merge.rs", " || !session.peer_fit;", ";")],
    },
    Mutation {
        name: "who is unfit does not look who won",
        edits: &[("machine/alone.rs", "            self.look_who_won(now);\n", "")],
    },
];
