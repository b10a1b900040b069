//! Reading a connection: frames go into the core, appends that come of them are carried out here.
//!
//! ```text
//!  owner:   take the reader ─► frame ─► step ─► append? give the reader up ─► append ─► step ─► take it back
//!                                                  └── more frames are there: step them, the appender appends, read on
//!  standby: asleep ─► an append lasts 5 ms ─► takes the vacant reader, does everything an owner does ─► asleep
//! ```
//! - G1: frames enter the core in the order of the connection: the reader is given up only after the step.
//! - G2: the standby costs nothing per frame: it is woken by the first append after a quiet time, then looks by itself.
//! - G3: who has more to read does not append: what comes meanwhile shares the next append instead of having one each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use metropod_core::{Channel, Input};
use metropod_protocol::ArrayId;

use crate::driver::{Driver, now};
use crate::link::{Closed, Reader};

/// How long a reader spins for the next frame before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// An append that lasts longer leaves the reader to the standby.
const STANDBY_AFTER: Duration = Duration::from_millis(5);

/// Without an append for this long the standby sleeps until it is woken.
const STANDBY_IDLE: Duration = Duration::from_millis(100);

/// Frames that are stepped before an append that has come out is passed on.
const AT_HAND_MAX: usize = 64;

struct Connection {
    driver: Arc<Driver>,
    peer: ArrayId,
    channel: Channel,
    reader: Mutex<Reader>,
    /// When the owner's append began, in nanoseconds of the array's clock; 0: none is under way.
    appending_since: AtomicU64,
    standby_asleep: AtomicBool,
    closed: AtomicBool,
}

/// Starts the threads of a connection.
pub(crate) fn start(driver: &Arc<Driver>, peer: ArrayId, channel: Channel, reader: Reader) {
    let connection = Arc::new(Connection {
        driver: driver.clone(),
        peer,
        channel,
        reader: Mutex::new(reader),
        appending_since: AtomicU64::new(0),
        standby_asleep: AtomicBool::new(false),
        closed: AtomicBool::new(false),
    });
    let standby = (channel == Channel::Sync).then(|| {
        let connection = connection.clone();
        spawn("metropod-standby", driver, move || connection.stand_by())
    });
    spawn("metropod-reader", driver, move || {
        connection.own(standby.as_ref());
        connection.closed.store(true, Ordering::Release);
        if let Some(standby) = standby {
            standby.unpark();
        }
    });
}

impl Connection {
    /// Reads until the connection ends.
    fn own(&self, standby: Option<&thread::Thread>) {
        loop {
            let append = {
                let Ok(mut reader) = self.reader.lock() else { return };
                let append = match self.read_until_append(&mut reader, None) {
                    Ok(Some(append)) => append,
                    Ok(None) => continue,
                    Err(_) => return,
                };
                if self.step_at_hand(&mut reader) > 0 {
                    self.driver.hand_over(append);
                    continue;
                }
                append
            };
            self.appending_since.store(now().0.max(1), Ordering::Release);
            if let Some(standby) = standby
                && self.standby_asleep.swap(false, Ordering::AcqRel)
            {
                standby.unpark();
            }
            let next = self.driver.append(append);
            self.appending_since.store(0, Ordering::Release);
            if let Some(next) = next {
                self.driver.hand_over(next);
            }
        }
    }

    /// Steps frames until one brings an append out (or, with a deadline, none comes any more).
    fn read_until_append(
        &self,
        reader: &mut Reader,
        deadline: Option<Instant>,
    ) -> Result<Option<metropod_journal::Append>, Closed> {
        loop {
            let frame = match deadline {
                None => Some(reader.read_frame(SPIN)?),
                Some(deadline) => reader.read_frame_until(Duration::ZERO, deadline)?,
            };
            let Some(frame) = frame else { return Ok(None) };
            let input = Input::Frame { peer: self.peer, channel: self.channel, payload: frame.payload };
            if let Some(append) = self.driver.enter(input) {
                return Ok(Some(append));
            }
        }
    }

    /// Steps frames that are there already; how many. While an append is out none of them brings another.
    fn step_at_hand(&self, reader: &mut Reader) -> usize {
        let mut stepped = 0;
        // A closed connection is met by whoever reads next.
        while stepped < AT_HAND_MAX
            && let Ok(Some(frame)) = reader.try_frame()
        {
            stepped += 1;
            self.driver.tell(Input::Frame { peer: self.peer, channel: self.channel, payload: frame.payload });
        }
        stepped
    }

    fn stand_by(&self) {
        let mut last_seen = Instant::now();
        while !self.closed.load(Ordering::Acquire) && !self.driver.is_stopping() {
            let since = self.appending_since.load(Ordering::Acquire);
            if since != 0 {
                last_seen = Instant::now();
            }
            if since != 0 && now().0.saturating_sub(since) >= STANDBY_AFTER.as_nanos() as u64 {
                self.stand_in(since);
            } else if last_seen.elapsed() > STANDBY_IDLE {
                self.standby_asleep.store(true, Ordering::Release);
                thread::park_timeout(Duration::from_millis(500));
                self.standby_asleep.store(false, Ordering::Release);
            } else {
                thread::sleep(STANDBY_AFTER);
            }
        }
    }

    /// Reads in the owner's place for as long as its append lasts.
    fn stand_in(&self, since: u64) {
        while self.appending_since.load(Ordering::Acquire) == since {
            let mut reader = match self.reader.try_lock() {
                Ok(reader) => reader,
                Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => return,
            };
            let deadline = Instant::now() + Duration::from_millis(1);
            match self.read_until_append(&mut reader, Some(deadline)) {
                // The owner's append may have ended just now, so the next may come out here.
                Ok(Some(append)) => self.driver.hand_over(append),
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }
}

fn spawn(name: &str, driver: &Arc<Driver>, body: impl FnOnce() + Send + 'static) -> thread::Thread {
    let here = driver.enter_presence();
    let handle = thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            let _here = here;
            body();
        })
        .expect("the system can start a handful of threads");
    handle.thread().clone()
}
