//! Two plain appends at once, to two files on the same disk: the least that a mirrored write costs when both arrays share it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::process_cpu_ns;
use crate::tape::Tape;

/// The value that ends the second writer.
const END: u64 = u64::MAX;
/// How long a writer spins for the other before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// Runs `count` pairs of appends, each timed until both are durable; gives the times in nanoseconds and the CPU time.
pub fn run(one: &mut Tape, mut other: Tape, count: u64, think_us: u64) -> io::Result<(Tape, Vec<u64>, u64)> {
    let (go, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let cpu = process_cpu_ns();
    let second = {
        let (go, done, first) = (go.clone(), done.clone(), thread::current());
        thread::spawn(move || -> io::Result<Tape> {
            for turn in 1.. {
                other.prepare();
                if wait(&go, turn) == END {
                    break;
                }
                let result = other.append();
                done.store(turn, Ordering::Release);
                first.unpark();
                result?;
            }
            other.verify_before(count)?;
            Ok(other)
        })
    };
    let mut latencies = Vec::with_capacity(count as usize);
    for turn in 1..=count {
        one.prepare();
        if think_us > 0 {
            thread::sleep(Duration::from_micros(think_us));
        }
        let began = Instant::now();
        go.store(turn, Ordering::Release);
        second.thread().unpark();
        one.append()?;
        wait(&done, turn);
        latencies.push(began.elapsed().as_nanos() as u64);
    }
    go.store(END, Ordering::Release);
    second.thread().unpark();
    let other = second.join().map_err(|_| io::Error::other("the second writer panicked"))??;
    let cpu = process_cpu_ns() - cpu;
    one.verify(count)?;
    Ok((other, latencies, cpu))
}

/// Waits until the value is at least `turn`: spins for a moment, giving the core away, then parks.
fn wait(value: &AtomicU64, turn: u64) -> u64 {
    let began = Instant::now();
    loop {
        let now = value.load(Ordering::Acquire);
        if now >= turn {
            return now;
        }
        if began.elapsed() < SPIN {
            rustix::thread::sched_yield();
        } else {
            thread::park();
        }
    }
}
