//! Runs one array's core: whoever has something for it enters, steps, and carries out what comes out.
//!
//! ```text
//!  caller / link reader / timer / worker ──► enter: lock ► step ► sort effects ► unlock ► carry out
//! ```
//! - V1: the core is locked for steps only: no disk, socket or long computation happens under the lock.
//! - V2: frames and asks of the mediator are queued under the lock, in order, and written after it; so order on a
//!   connection is the order of steps, whoever writes.
//! - V2a: an ask goes into the mediator session that the step which made it knew, or nowhere: a READ proves that no
//!   earlier ask is still on its way (story 10).
//! - V4: a closed array is stepped no more: who asks is refused, who waits is told, nothing of it writes.
//! - V3: one journal append is in flight; whoever gets it out carries it out or hands it to the appender, and brings
//!   the completion back, which may give the next.

mod appender;
mod clock;
mod park;
mod presence;
mod reply;
#[cfg(test)]
mod tests;
mod timer;
mod workers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use metropod_core::task::{Task, WaitsFor};
use metropod_core::{Alarm, Array, Channel, Effect, Input};
use metropod_journal::Append;
use metropod_journal::media::{Durability, Media};
use metropod_protocol::{ArrayId, MediatorId, MediatorRequest, PodId, RequestId, Statement, Time};

use appender::Appender;
use timer::Timer;
use workers::Workers;

pub(crate) use clock::now;
pub(crate) use park::block_on;
pub(crate) use presence::{Guard, Presence};
use reply::Pending;
pub(crate) use reply::{Answer, Reply, Wait};

/// What the driver needs of the outside: connections, mediator, key.
pub(crate) trait Outside: Send + Sync + 'static {
    /// Queues a frame on a connection; called under the core's lock.
    fn queue(&self, peer: ArrayId, channel: Channel, parts: Vec<Bytes>);
    /// Writes what was queued.
    fn flush(&self);
    /// Closes a connection.
    fn disconnect(&self, peer: ArrayId, channel: Channel);
    /// Signs with the array's key.
    fn sign(&self, statement: &Statement) -> Bytes;
    /// Whether this array's disk is fit to take over.
    fn fit(&self, fit: bool);
    /// A pod's status changed.
    fn status_changed(&self, pod: PodId);
    /// Somebody should look.
    fn alarm(&self, alarm: Alarm);
}

/// A session with the mediator.
pub(crate) trait Asking: Send + Sync + 'static {
    /// Queues a request; called under the core's lock. Lost when the session is over.
    fn queue(&self, request: &MediatorRequest);
    /// Writes what was queued.
    fn flush(&self);
}

/// One running array.
pub(crate) struct Driver {
    core: Mutex<Inner>,
    media: Arc<dyn Media>,
    workers: Workers,
    appender: Appender,
    timer: Timer,
    outside: Arc<dyn Outside>,
    presence: Presence,
    stopping: AtomicBool,
}

struct Inner {
    array: Array,
    /// V4.
    closed: bool,
    pending: Pending,
    /// The mediator session that the array knows.
    mediator: Option<Arc<dyn Asking>>,
}

/// What is left to do after a step.
#[derive(Default)]
struct After {
    append: Option<Append>,
    tasks: Vec<Task>,
    answers: Vec<(Arc<Reply>, Answer)>,
    signs: Vec<(PodId, Statement)>,
    asked: Option<Arc<dyn Asking>>,
    alarms: Vec<Alarm>,
    disconnect: Vec<(ArrayId, Channel)>,
    changed: Vec<PodId>,
    sent: bool,
    deadline: Option<Time>,
    fit: bool,
}

/// A request that was started.
pub(crate) struct Started {
    pub(crate) request: RequestId,
    pub(crate) reply: Arc<Reply>,
    /// An append that the starter has to carry out by [`Driver::append`] or hand over by [`Driver::hand_over`].
    pub(crate) append: Option<Append>,
}

impl Driver {
    pub(crate) fn start(array: Array, media: Arc<dyn Media>, outside: Arc<dyn Outside>) -> Arc<Driver> {
        let presence = Presence::default();
        let driver = Arc::new(Driver {
            core: Mutex::new(Inner { array, closed: false, pending: Pending::default(), mediator: None }),
            media,
            workers: Workers::new(&presence),
            appender: Appender::new(),
            timer: Timer::new(),
            outside,
            presence,
            stopping: AtomicBool::new(false),
        });
        appender::start(&driver);
        timer::start(&driver);
        driver.tell(Input::Tick);
        driver
    }

    /// Lets the store remember where its chunks are, beside everything else: reads soon after a start need the index less.
    pub(crate) fn recall(self: &Arc<Self>) {
        let (driver, store) = (self.clone(), self.look(|array| array.store().clone()));
        self.run(move || {
            let chunks = block_on(store.recall(|| !driver.is_stopping()));
            tracing::debug!(chunks, "places of chunks are remembered");
        });
    }

    /// Ends the array (V4) and its threads, for which it waits so long at most; says whether all have ended. What is not
    /// durable by then was never acknowledged.
    pub(crate) fn stop(&self, limit: Duration) -> bool {
        self.stopping.store(true, Ordering::Release);
        let waiting = {
            let mut inner = self.lock();
            inner.closed = true;
            inner.mediator = None;
            inner.pending.take_all()
        };
        // Threads that wait for the other array's copy of a chunk end, too.
        self.look(|array| array.stop_repairs());
        for reply in waiting {
            reply.give(Answer::Closed);
        }
        self.appender.wake();
        self.timer.wake();
        self.workers.stop();
        self.presence.wait_until_empty(limit)
    }

    /// Somebody works for this array until the guard is dropped.
    pub(crate) fn enter_presence(&self) -> Guard {
        self.presence.enter()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Somebody should look.
    pub(crate) fn alarm(&self, alarm: Alarm) {
        self.outside.alarm(alarm);
    }

    /// Looks at the core.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Array) -> T) -> T {
        look(&self.lock().array)
    }

    /// Steps the core with an input that nobody waits for.
    pub(crate) fn tell(self: &Arc<Self>, input: Input) {
        if let Some(append) = self.enter(input) {
            self.hand_over(append);
        }
    }

    /// Steps the core; an append that comes out is the caller's to carry out or to hand over.
    pub(crate) fn enter(self: &Arc<Self>, input: Input) -> Option<Append> {
        let after = {
            let mut inner = self.lock();
            if inner.closed {
                return None;
            }
            inner.array.step(now(), input);
            self.collect(&mut inner)
        };
        self.carry_out(after)
    }

    /// A session with a mediator is open: asks go there from this step on.
    pub(crate) fn mediator_up(self: &Arc<Self>, mediator: MediatorId, session: Box<dyn Asking>) {
        self.mediator(Some(session.into()), Input::MediatorUp { mediator });
    }

    /// It is gone, and what was asked in it.
    pub(crate) fn mediator_down(self: &Arc<Self>) {
        self.mediator(None, Input::MediatorDown);
    }

    fn mediator(self: &Arc<Self>, session: Option<Arc<dyn Asking>>, input: Input) {
        let after = {
            let mut inner = self.lock();
            if inner.closed {
                return;
            }
            inner.mediator = session;
            inner.array.step(now(), input);
            self.collect(&mut inner)
        };
        if let Some(append) = self.carry_out(after) {
            self.hand_over(append);
        }
    }

    /// Starts a request whose answer somebody waits for.
    pub(crate) fn start_request(self: &Arc<Self>, make: impl FnOnce(RequestId) -> Input) -> Started {
        let reply = Arc::new(Reply::new());
        let (request, after) = {
            let mut inner = self.lock();
            let request = inner.array.next_request();
            if inner.closed {
                reply.give(Answer::Closed);
                return Started { request, reply, append: None };
            }
            inner.pending.insert(request, reply.clone());
            inner.array.step(now(), make(request));
            (request, self.collect(&mut inner))
        };
        let append = self.carry_out(after);
        Started { request, reply, append }
    }

    /// Gives a request up: if it is not ordered yet it never will be.
    pub(crate) fn withdraw(self: &Arc<Self>, pod: PodId, request: RequestId) {
        self.tell(Input::Withdraw { pod, request });
    }

    /// Carries an append out on this thread and steps with its end; gives the next one, if any.
    pub(crate) fn append(self: &Arc<Self>, append: Append) -> Option<Append> {
        let result = {
            let _here = self.presence.enter();
            if self.is_stopping() {
                return None;
            }
            self.media.write(append.file, append.offset, &[&append.data], Durability::Durable)
        };
        self.enter(Input::Appended { id: append.id, result })
    }

    /// Carries appends out on this thread until `reply` is given, then leaves them to the appender.
    pub(crate) fn append_until(self: &Arc<Self>, append: Append, reply: &Reply) {
        let mut next = self.append(append);
        while let Some(append) = next {
            if reply.is_given() {
                return self.hand_over(append);
            }
            next = self.append(append);
        }
    }

    /// Lets the appender thread carry an append out.
    pub(crate) fn hand_over(&self, append: Append) {
        self.appender.submit(append);
    }

    /// Runs a closure that ends by itself on a worker thread.
    pub(crate) fn run(&self, work: impl FnOnce() + Send + 'static) {
        self.workers.run(WaitsFor::Media, Box::new(work));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.core.lock().expect("a core whose step panicked must not go on: the array stops here")
    }

    /// Takes the effects out, in order; frames and asks go into their queues here, under the lock (V2).
    fn collect(&self, inner: &mut Inner) -> After {
        let mut after = After::default();
        while let Some(effect) = inner.array.next_effect() {
            match effect {
                Effect::Append(append) => {
                    assert!(after.append.is_none(), "V3: one journal append is in flight");
                    after.append = Some(append);
                }
                Effect::Run(task) => after.tasks.push(task),
                Effect::Send { peer, channel, parts } => {
                    self.outside.queue(peer, channel, parts);
                    after.sent = true;
                }
                Effect::Mediator(request) => {
                    if let Some(session) = &inner.mediator {
                        session.queue(&request);
                        after.asked = Some(session.clone());
                    }
                }
                Effect::Sign { pod, statement } => after.signs.push((pod, statement)),
                Effect::Fetch { request, fetch } => {
                    after
                        .answers
                        .extend(inner.pending.take(request).map(|reply| (reply, Answer::Fetch(fetch))));
                }
                Effect::Complete { request, result } => {
                    after
                        .answers
                        .extend(inner.pending.take(request).map(|reply| (reply, Answer::Host(result))));
                }
                Effect::Managed { request, result } => {
                    after
                        .answers
                        .extend(inner.pending.take(request).map(|reply| (reply, Answer::Managed(result))));
                }
                Effect::StatusChanged { pod } => after.changed.push(pod),
                Effect::Disconnect { peer, channel } => after.disconnect.push((peer, channel)),
                Effect::Alarm(alarm) => after.alarms.push(alarm),
            }
        }
        after.deadline = inner.array.next_deadline();
        after.fit = inner.array.is_fit(now());
        after
    }

    fn carry_out(self: &Arc<Self>, after: After) -> Option<Append> {
        if after.sent {
            self.outside.flush();
        }
        if let Some(session) = after.asked {
            session.flush();
        }
        for (reply, answer) in after.answers {
            reply.give(answer);
        }
        for task in after.tasks {
            self.run_task(task);
        }
        for (peer, channel) in after.disconnect {
            self.outside.disconnect(peer, channel);
        }
        for alarm in after.alarms {
            self.outside.alarm(alarm);
        }
        for pod in after.changed {
            self.outside.status_changed(pod);
        }
        if let Some(deadline) = after.deadline {
            self.timer.no_later_than(deadline);
        }
        self.outside.fit(after.fit);
        let mut append = after.append;
        for (pod, statement) in after.signs {
            let signature = self.outside.sign(&statement);
            let next = self.enter(Input::Signed { pod, statement, signature });
            append = append.or(next);
        }
        append
    }

    fn run_task(self: &Arc<Self>, task: Task) {
        let driver = self.clone();
        let work = move || {
            let finished = block_on(task.future);
            if !driver.is_stopping() {
                driver.tell(Input::Finished(finished));
            }
        };
        self.workers.run(task.waits_for, Box::new(work));
    }
}
