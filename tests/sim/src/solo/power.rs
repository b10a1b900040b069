//! The array is opened, the power goes, and it is opened again.

use std::sync::Arc;

use metropod_core::{AccountConfig, Array, ArrayConfig, CollectConfig, OverlayLimits, ScrubConfig};
use metropod_dedupe::{SEGMENT_BYTES_MIN, StoreConfig};
use metropod_journal::JournalConfig;
use metropod_journal::media::Io;
use metropod_protocol::{Settings, Span};

use super::{ME, NoPeer, OVERLAY_LAYERS, Solo};
use crate::executor::run;

impl Solo {
    pub(super) fn arm_power_cut(&mut self) {
        let effects = self.random.below(30);
        self.media.cut_power_after(effects);
        self.note(effects ^ 0xaaaa);
    }

    pub(super) fn crash(&mut self) {
        self.counts.crashes += 1;
        self.counts.moved_bytes += self.array.as_ref().map_or(0, |array| array.collect_counts().moved_bytes);
        self.array = None;
        self.tasks.clear();
        self.append = None;
        self.answers.clear();
        self.fetches.clear();
        self.held = None;
        self.writes.clear();
        let seed = self.random.bits();
        self.note(seed);
        self.media.crash(seed);
        self.open();
        if self.moving {
            let start = self.starts;
            self.find_home(false);
            if self.starts != start {
                return;
            }
        }
        if self.volume.is_some() {
            self.check_all();
            self.oracle.crashed();
        }
    }

    pub(super) fn open(&mut self) {
        for _ in 0..100 {
            self.starts += 1;
            self.now = self.now + Span::millis(1000);
            // Sometimes the power goes during recovery too.
            if self.starts > 1 && self.random.chance(20) {
                let effects = self.random.below(20);
                self.media.cut_power_after(effects);
            }
            let config = self.config();
            let io = Io::inline(Arc::new(self.media.clone()));
            match run(Array::open(config, io, Arc::new(NoPeer), self.now)) {
                Ok(array) if !self.media.is_dark() => {
                    self.array = Some(array);
                    while let Some(effect) = self.array.as_mut().and_then(Array::next_effect) {
                        self.effect(effect);
                    }
                    return;
                }
                Ok(_) => {}
                Err(error) if self.media.is_dark() => self.note(error.to_string().len() as u64),
                Err(error) => panic!("S3: an array opens after any crash: {error}"),
            }
            self.tasks.clear();
            self.append = None;
            let seed = self.random.bits();
            self.media.crash(seed);
        }
        panic!("S3: an array opens once the power stays");
    }

    fn config(&mut self) -> ArrayConfig {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.random.bits().to_le_bytes());
        let journal = JournalConfig {
            segment_bytes: 5 << 20,
            budget_bytes: 20 << 20,
            ..JournalConfig::new(ME.0, self.random.bits())
        };
        let overlay = OverlayLimits { entries_max: self.overlay_entries, layers_max: OVERLAY_LAYERS };
        let mut store = StoreConfig { hints_max: 512, ..StoreConfig::new(ME.0) };
        let mut collect = CollectConfig::default();
        let mut scrub = ScrubConfig { every: None, ..ScrubConfig::default() };
        let mut account = AccountConfig { every: None };
        if self.collecting {
            store.segment_bytes = SEGMENT_BYTES_MIN;
            store.capacity_bytes = self.capacity_bytes.unwrap_or(store.capacity_bytes);
            collect = CollectConfig { fresh_percent: 30, fresh_bytes_min: 200_000, clean_percent: 60 };
            scrub = ScrubConfig { bytes_per_s: 4 << 20, every: Some(Span::millis(100)) };
            account = AccountConfig { every: Some(Span::millis(200)) };
        }
        ArrayConfig {
            me: ME,
            journal,
            store,
            overlay,
            settings: Settings::default(),
            collect,
            scrub,
            account,
            seed,
        }
    }
}
