//! Leaders with a reactor thread beside the thread that waits for its write.
//!
//! The reactor reads the socket when nobody writes; here it is measured what its presence costs while somebody does.

use std::io;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

use crate::disk::Frame;
use crate::leader::{Bench, Timed, expect_ack};
use crate::wire::{Bell, Header, Inbox, Kind, Spin, send, wait_until};

impl Bench {
    /// A reactor thread waits in `epoll_wait` for a socket that is armed only while nobody else reads it.
    pub fn driven(
        &self,
        timed: &Timed,
        spin: Spin,
        stream: &TcpStream,
        inbox: &mut Inbox,
    ) -> io::Result<Vec<u64>> {
        const STOP: u64 = 1;
        let stop = eventfd(0, EventfdFlags::NONBLOCK)?;
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let armed = EventFlags::IN | EventFlags::ONESHOT;
        let data = || EventData::new_u64(0);
        epoll::add(&set, stream, data(), armed)?;
        epoll::add(&set, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        let inbox = Mutex::new((inbox, Frame::new()));
        thread::scope(|scope| {
            let reactor = scope.spawn(|| -> io::Result<()> {
                let mut events = Vec::with_capacity(2);
                loop {
                    events.clear();
                    epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), None)?;
                    if events.iter().any(|event| event.data.u64() == STOP) {
                        return Ok(());
                    }
                    let mut held = inbox.lock().expect("no thread panics while it holds the inbox");
                    let (inbox, scratch) = &mut *held;
                    if inbox.try_next(scratch)?.is_some() {
                        return Err(io::ErrorKind::InvalidData.into()); // all acks belong to the waiting thread
                    }
                    epoll::modify(&set, stream, data(), armed)?;
                }
            });
            let latencies = timed.each(|frame, sequence| {
                frame.seal(sequence);
                epoll::modify(&set, stream, data(), EventFlags::empty())?;
                let mut held = inbox.lock().expect("no thread panics while it holds the inbox");
                let (inbox, scratch) = &mut *held;
                send(stream, Header::new(Kind::Append, sequence), Some(frame))?;
                self.tape.append(frame, sequence)?;
                expect_ack(inbox.next(scratch, spin)?, sequence)?;
                drop(held);
                Ok(epoll::modify(&set, stream, data(), armed)?)
            });
            rustix::io::write(&stop, &1u64.to_ne_bytes())?;
            reactor.join().expect("the reactor does not panic")?;
            latencies
        })
    }

    /// A reactor thread polls the socket; with `steal` the waiting thread reads it too, whoever comes first.
    pub fn with_reactor(
        &self,
        timed: &Timed,
        spin: Spin,
        stream: &TcpStream,
        inbox: &mut Inbox,
        steal: bool,
    ) -> io::Result<Vec<u64>> {
        let inbox = Mutex::new((inbox, Frame::new()));
        let acked = AtomicU64::new(u64::MAX);
        let stop = AtomicBool::new(false);
        let (stop_bell, bell) = (Bell::new()?, Bell::new()?);
        let take = || -> io::Result<()> {
            if let Ok(mut held) = inbox.try_lock() {
                let (inbox, scratch) = &mut *held;
                if let Some(header) = inbox.try_next(scratch)? {
                    acked.store(header.sequence, Ordering::SeqCst);
                }
            }
            Ok(())
        };
        let reactor_spin = if steal { Spin::NONE } else { spin };
        thread::scope(|scope| {
            let reactor = scope.spawn(|| -> io::Result<()> {
                let mut seen = u64::MAX;
                while !stop.load(Ordering::SeqCst) {
                    wait_until(Some(&stop_bell), Some(stream), reactor_spin, || {
                        take()?;
                        Ok(acked.load(Ordering::SeqCst) != seen || stop.load(Ordering::SeqCst))
                    })?;
                    seen = acked.load(Ordering::SeqCst);
                    bell.ring()?;
                }
                Ok(())
            });
            let latencies = timed.each(|frame, sequence| {
                frame.seal(sequence);
                send(stream, Header::new(Kind::Append, sequence), Some(frame))?;
                self.tape.append(frame, sequence)?;
                wait_until(Some(&bell), steal.then_some(stream), spin, || {
                    if steal {
                        take()?;
                    }
                    Ok(acked.load(Ordering::SeqCst) == sequence)
                })
            });
            stop.store(true, Ordering::SeqCst);
            stop_bell.ring()?;
            reactor.join().expect("the reactor does not panic")?;
            latencies
        })
    }
}
