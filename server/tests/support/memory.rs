//! A sparse volume in memory that can be told to misbehave.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use metropod_server::nbd::{ExportInfo, Exports, Extent, IoError, OpenRefused, Piece, State, Volume};
use tokio::sync::watch;

const BLOCK: u64 = 4096;

/// How a volume behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Normal,
    /// Requests wait.
    Paused,
    /// Requests fail with `Shutdown`, opening is refused.
    Gone,
    /// Requests fail.
    Failing(IoError),
    /// Each request answers after a time of its own, so that replies overtake one another.
    Shuffled,
    /// Requests panic.
    Broken,
    /// Reads answer too little.
    Lying,
}

pub struct MemoryVolume {
    size_bytes: u64,
    read_only: bool,
    fast_zero: bool,
    blocks: Mutex<BTreeMap<u64, Box<[u8; BLOCK as usize]>>>,
    mode: watch::Sender<Mode>,
    turns: AtomicU64,
    /// Requests begun and not yet ended or dropped.
    pub pending: Arc<AtomicUsize>,
    pub flushes: AtomicUsize,
    pub fua_writes: AtomicUsize,
    /// Most requests pending at a time.
    pub pending_max: AtomicUsize,
}

impl MemoryVolume {
    pub fn new(size_bytes: u64) -> MemoryVolume {
        MemoryVolume {
            size_bytes,
            read_only: false,
            fast_zero: true,
            blocks: Mutex::default(),
            mode: watch::Sender::new(Mode::Normal),
            turns: AtomicU64::new(0),
            pending: Arc::default(),
            flushes: AtomicUsize::new(0),
            fua_writes: AtomicUsize::new(0),
            pending_max: AtomicUsize::new(0),
        }
    }

    pub fn read_only(self) -> MemoryVolume {
        MemoryVolume { read_only: true, ..self }
    }

    pub fn slow_zeroes(self) -> MemoryVolume {
        MemoryVolume { fast_zero: false, ..self }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub fn allocated_blocks(&self) -> usize {
        self.blocks.lock().unwrap().len()
    }

    pub async fn wait_for_pending(&self, count: usize) {
        for _ in 0..500 {
            if self.pending.load(Ordering::SeqCst) == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} pending, not {count}", self.pending.load(Ordering::SeqCst));
    }

    async fn pass(&self) -> Result<Pending, IoError> {
        let pending = Pending(self.pending.clone());
        let count = self.pending.fetch_add(1, Ordering::SeqCst) + 1;
        self.pending_max.fetch_max(count, Ordering::SeqCst);
        let mut mode = self.mode.subscribe();
        let mode = *mode.wait_for(|mode| *mode != Mode::Paused).await.expect("the volume holds the sender");
        match mode {
            Mode::Gone => return Err(IoError::Shutdown),
            Mode::Failing(error) => return Err(error),
            Mode::Broken => panic!("told to"),
            Mode::Shuffled => {
                let turn = self.turns.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(turn.wrapping_mul(0x9e37_79b9) >> 3 & 7)).await;
            }
            Mode::Normal | Mode::Paused | Mode::Lying => {}
        }
        Ok(pending)
    }

    /// The parts of a range, by block: (block, start within, length).
    fn parts(offset: u64, length: u64) -> impl Iterator<Item = (u64, usize, usize)> {
        let end = offset + length;
        (offset / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
            let from = offset.max(block * BLOCK);
            let to = end.min((block + 1) * BLOCK);
            (block, (from - block * BLOCK) as usize, (to - from) as usize)
        })
    }

    fn clear(&self, offset: u64, length: u64, keep: bool) {
        let mut blocks = self.blocks.lock().unwrap();
        if keep {
            for (block, start, length) in MemoryVolume::parts(offset, length) {
                let content = blocks.entry(block).or_insert_with(|| Box::new([0; BLOCK as usize]));
                content[start..start + length].fill(0);
            }
            return;
        }
        let (first, last) = (offset.div_ceil(BLOCK), (offset + length) / BLOCK);
        let inner: Vec<u64> = blocks.range(first..last.max(first)).map(|(block, _)| *block).collect();
        inner.iter().for_each(|block| drop(blocks.remove(block)));
        for (block, start, length) in
            MemoryVolume::parts(offset, length).filter(|part| part.2 < BLOCK as usize)
        {
            if let Some(content) = blocks.get_mut(&block) {
                content[start..start + length].fill(0);
            }
        }
    }
}

/// Counts a request for as long as it is pending.
struct Pending(Arc<AtomicUsize>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Volume for MemoryVolume {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn description(&self) -> String {
        "a volume in memory".to_owned()
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn zeroes_fast(&self, _offset: u64, _length: u64, _no_hole: bool) -> bool {
        self.fast_zero
    }

    async fn read(&self, offset: u64, length: u32) -> Result<Vec<Piece>, IoError> {
        let _pending = self.pass().await?;
        let blocks = self.blocks.lock().unwrap();
        let mut pieces: Vec<Piece> = MemoryVolume::parts(offset, length.into())
            .map(|(block, start, length)| match blocks.get(&block) {
                Some(content) => Piece::Data(Bytes::copy_from_slice(&content[start..start + length])),
                None => Piece::Zero(length as u32),
            })
            .collect();
        if *self.mode.borrow() == Mode::Lying {
            pieces.pop();
        }
        Ok(pieces)
    }

    async fn write(&self, offset: u64, data: Bytes, fua: bool) -> Result<(), IoError> {
        let _pending = self.pass().await?;
        self.fua_writes.fetch_add(usize::from(fua), Ordering::SeqCst);
        let mut blocks = self.blocks.lock().unwrap();
        let mut taken = 0;
        for (block, start, length) in MemoryVolume::parts(offset, data.len() as u64) {
            let content = blocks.entry(block).or_insert_with(|| Box::new([0; BLOCK as usize]));
            content[start..start + length].copy_from_slice(&data[taken..taken + length]);
            taken += length;
        }
        Ok(())
    }

    async fn trim(&self, offset: u64, length: u64, _fua: bool) -> Result<(), IoError> {
        let _pending = self.pass().await?;
        self.clear(offset, length, false);
        Ok(())
    }

    async fn write_zeroes(&self, offset: u64, length: u64, no_hole: bool, _fua: bool) -> Result<(), IoError> {
        let _pending = self.pass().await?;
        self.clear(offset, length, no_hole);
        Ok(())
    }

    async fn flush(&self) -> Result<(), IoError> {
        let _pending = self.pass().await?;
        self.flushes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn block_status(&self, offset: u64, length: u64) -> Result<Vec<Extent>, IoError> {
        let _pending = self.pass().await?;
        let blocks = self.blocks.lock().unwrap();
        let mut extents = Vec::new();
        let mut at = offset;
        let end = offset + length;
        for (block, content) in blocks.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            let (from, to) = ((block * BLOCK).max(offset), ((block + 1) * BLOCK).min(end));
            if from > at {
                extents.push(Extent { length: from - at, state: State::Hole });
            }
            let zero = content.iter().all(|byte| *byte == 0);
            extents.push(Extent { length: to - from, state: if zero { State::Zero } else { State::Data } });
            at = to;
        }
        if end > at {
            extents.push(Extent { length: end - at, state: State::Hole });
        }
        Ok(extents)
    }
}

/// Memory volumes by name.
pub struct MemoryExports(BTreeMap<String, Arc<MemoryVolume>>);

impl MemoryExports {
    pub fn with(name: &str, size_bytes: u64) -> MemoryExports {
        MemoryExports::of([(name, MemoryVolume::new(size_bytes))])
    }

    pub fn of<const N: usize>(volumes: [(&str, MemoryVolume); N]) -> MemoryExports {
        let volumes = volumes.into_iter();
        MemoryExports(volumes.map(|(name, volume)| (name.to_owned(), Arc::new(volume))).collect())
    }

    pub fn volume(&self, name: &str) -> Arc<MemoryVolume> {
        self.0[name].clone()
    }
}

impl Exports for MemoryExports {
    type Volume = MemoryVolume;

    fn list(&self) -> Vec<ExportInfo> {
        let describe = |(name, volume): (&String, &Arc<MemoryVolume>)| ExportInfo {
            name: name.clone(),
            description: volume.description(),
        };
        self.0.iter().map(describe).collect()
    }

    fn open(&self, name: &str) -> Result<Arc<MemoryVolume>, OpenRefused> {
        let volume = self.0.get(name).ok_or(OpenRefused::Unknown)?;
        if *volume.mode.borrow() == Mode::Gone { Err(OpenRefused::ShutDown) } else { Ok(volume.clone()) }
    }
}
