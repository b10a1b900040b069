//! Flushing: everything staged before the call becomes durable, and the state that says so is returned.
//!
//! Freed segments, dead records and the index that knows neither are one state (C4).

use bytes::Bytes;

use super::{Inner, Store, WriteError};
use crate::index::RunId;
use crate::location::SegmentId;
use crate::state::State;

impl Store {
    /// Puts everything staged before the call on stable storage and returns the state to be kept in the manifest.
    ///
    /// A store opened with that state holds all of it, whatever happens later. On an error the chunks concerned stay
    /// staged and readable, and a later flush may succeed.
    pub async fn flush(&self) -> Result<Bytes, WriteError> {
        let mut writer = self.shared.writer.take().await;
        self.settle_doubts(&mut writer);
        writer.for_a_state = true;
        self.place_queued(&mut writer).await?;
        self.harden(&mut writer).await?;
        self.maintain().await?;
        self.write_dead_list().await?;
        let state = self.lock().next_state(self.shared.config.array);
        Ok(state.encode())
    }
}

impl Inner {
    fn next_state(&mut self, array: [u8; 16]) -> State {
        for segment in self.segments.values() {
            let dead = self.dead.count(segment.id);
            assert_eq!(segment.live_records + dead, segment.records, "a record is live or dead");
        }
        self.prove_sums();
        self.generation += 1;
        State {
            array,
            generation: self.generation,
            next_segment: SegmentId(self.next_segment),
            next_run: RunId(self.next_run),
            duplicates: self.duplicates,
            pass: self.last_pass,
            fresh_bytes: self.fresh_bytes,
            dead: self.dead_list,
            rebuild_index: self.rebuild_index,
            segments: self.segments.values().map(|segment| self.as_listed(segment)).collect(),
            runs: self.runs.iter().map(|run| run.record).collect(),
        }
    }
}
