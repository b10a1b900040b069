//! Whoever connects to a port without belonging there: noise, other protocols, silence, one byte at a time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::content::Dice;

/// Longest answer that is read from a port, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest noise, in bytes.
const NOISE_BYTES_MAX: u64 = 100_000;
/// Between two bytes of a slow connection.
const DRIP: Duration = Duration::from_millis(150);
/// Time limit of any single call.
const CALL_TIME_MAX: Duration = Duration::from_millis(500);

/// Beginnings that some port takes for its own, or for another's.
const BEGINNINGS: [&[u8]; 8] = [
    b"",
    b"GET / HTTP/1.1\r\n\r\n",
    b"POST /api/v1/pods HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n{",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x07\xff\xff\xff\xff",
    b"\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x0apod1::vol1\x25\x60\x95\x13",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

/// Strangers at work on one port until it is dropped.
#[derive(Debug)]
pub struct Strangers {
    stop: Arc<AtomicBool>,
    visits: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    /// Connections that say nothing.
    _silent: Vec<TcpStream>,
}

impl Strangers {
    /// Some that make noise, one that drips, and `silent` that connect and say nothing.
    pub fn start(address: SocketAddr, silent: usize, seed: u64) -> Strangers {
        let (stop, visits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let silent = (0..silent).filter_map(|_| connect(address)).collect();
        let noise = (0..2).map(|number| {
            let (stop, visits) = (stop.clone(), visits.clone());
            thread::spawn(move || make_noise(address, Dice::new(seed * 2 + number), &stop, &visits))
        });
        let dripping = {
            let stop = stop.clone();
            thread::spawn(move || drip(address, &stop))
        };
        let threads = noise.chain([dripping]).collect();
        Strangers { stop, visits, threads, _silent: silent }
    }

    /// Noisy connections made so far.
    pub fn visits(&self) -> u64 {
        self.visits.load(Ordering::Relaxed)
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A stranger that panicked has left.
            let _ended = thread.join();
        }
    }
}

/// A connection with time limits; `None` while the port takes none.
fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CALL_TIME_MAX).ok()?;
    stream.set_read_timeout(Some(CALL_TIME_MAX)).ok()?;
    stream.set_write_timeout(Some(CALL_TIME_MAX)).ok()?;
    Some(stream)
}

fn make_noise(address: SocketAddr, mut dice: Dice, stop: &AtomicBool, visits: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let Some(mut stream) = connect(address) else { continue };
        visits.fetch_add(1, Ordering::Relaxed);
        let begin = BEGINNINGS[dice.below(BEGINNINGS.len() as u64) as usize];
        let length_max = if dice.below(2) == 0 { 64 } else { NOISE_BYTES_MAX };
        let length = dice.below(length_max);
        let mut noise = begin.to_vec();
        noise.extend((0..length).map(|_| dice.roll() as u8));
        // Being cut off is what a stranger has to expect.
        let _sent = stream.write_all(&noise);
        if dice.below(2) == 0 {
            let _answer = stream.read(&mut vec![0; ANSWER_BYTES_MAX]);
        }
        thread::sleep(Duration::from_millis(dice.below(20)));
    }
}

fn drip(address: SocketAddr, stop: &AtomicBool) {
    let mut streams: Vec<(TcpStream, usize)> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if streams.len() < BEGINNINGS.len() {
            let beginning = streams.len();
            streams.extend(connect(address).map(|stream| (stream, beginning)));
        }
        streams.retain_mut(|(stream, at)| {
            let bytes = BEGINNINGS[*at % BEGINNINGS.len()];
            *at += BEGINNINGS.len();
            let byte = bytes.get(*at / BEGINNINGS.len()).copied().unwrap_or(b'x');
            stream.write_all(&[byte]).is_ok()
        });
        thread::sleep(DRIP);
    }
}
