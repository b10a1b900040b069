//! Pages of runs read lately and found intact; a bounded number, the oldest goes first.

use std::collections::VecDeque;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::run::RunId;

/// Pages by run and number.
pub(crate) struct PageCache {
    pages: FxHashMap<(RunId, u32), Bytes>,
    order: VecDeque<(RunId, u32)>,
    limit: usize,
}

impl PageCache {
    pub(crate) fn new(limit: usize) -> PageCache {
        PageCache { pages: FxHashMap::default(), order: VecDeque::new(), limit }
    }

    pub(crate) fn get(&self, run: RunId, page: u32) -> Option<Bytes> {
        self.pages.get(&(run, page)).cloned()
    }

    pub(crate) fn insert(&mut self, run: RunId, page: u32, bytes: Bytes) {
        if self.limit == 0 || self.pages.insert((run, page), bytes).is_some() {
            return;
        }
        self.order.push_back((run, page));
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.pages.remove(&oldest);
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.pages.len() * super::page::PAGE_BYTES) as u64
    }
}
