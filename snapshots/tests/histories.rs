//! Random histories of a volume against the oracle: writes, trims, sizes, freezes, clones, folds and merges in any order.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use metropod_snapshots::{
    BLOCK_BYTES, Comparison, DiffCursor, Differing, Image, Layer, LayerId, Limits, Nodes, Rework, Slot,
    Source, Stack, VolumeMap, Work, diff, fold, mapped_blocks, merge_in_turns, read_slots, resolve_now,
    survey, volume_digest,
};
use support::{Chance, MemoryStore, Oracle, Point, block_on, check_diff, chunk};

/// Steps of one history.
const STEPS: u64 = 220;
/// Histories in a default run.
const SEEDS_DEFAULT: u64 = 400;

struct History {
    chance: Chance,
    nodes: Nodes<MemoryStore>,
    map: VolumeMap,
    oracle: Oracle,
    points: Vec<Point>,
    layers_made: u64,
    blocks_max: u64,
}

impl History {
    fn new(seed: u64) -> History {
        let mut chance = Chance(seed);
        // Around the borders of leaves and of level 1 nodes, and once far away.
        let blocks_max = *chance.pick(&[1, 100, 128, 129, 700, 16_384, 16_390, 40_000, 3_000_000]);
        let size_bytes = blocks_max * BLOCK_BYTES;
        let cached = *chance.pick(&[0, 4, 4096]);
        History {
            chance,
            nodes: Nodes::with_capacity(MemoryStore::default(), cached),
            map: VolumeMap::new(size_bytes).unwrap(),
            oracle: Oracle::new(size_bytes),
            points: vec![Point { image: Image::empty(size_bytes).unwrap(), oracle: Oracle::new(size_bytes) }],
            layers_made: 0,
            blocks_max,
        }
    }

    fn block(&mut self) -> u64 {
        let near = *self.chance.pick(&[0, 120, 16_380, 16_500, 32_760, 2_097_150]);
        let block =
            if self.chance.below(4) == 0 { self.chance.next() } else { near + self.chance.below(140) };
        block % (self.blocks_max + 2)
    }

    fn range(&mut self) -> Range<u64> {
        let (from, to) = (self.block(), self.block());
        match self.chance.below(4) {
            0 => from..from + self.chance.below(300),
            1 => from..from + 1,
            2 => (from & !127)..(from & !127) + 128 * self.chance.below(3),
            _ => from.min(to)..from.max(to),
        }
    }

    fn layer_id(&mut self) -> LayerId {
        self.layers_made += 1;
        LayerId(self.layers_made)
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            0..40 => {
                let (block, seed) = (self.block(), self.chance.below(50));
                let slot = if seed == 0 { Slot::Zero } else { Slot::Data(chunk(seed)) };
                self.map.set(block, slot);
                self.oracle.set(block, slot);
            }
            40..50 => {
                let start = self.block();
                for block in start..start + self.chance.below(200) {
                    let slot = Slot::Data(chunk(block % 97));
                    self.map.set(block, slot);
                    self.oracle.set(block, slot);
                }
            }
            50..60 => {
                let blocks = self.range();
                self.map.zero(blocks.clone());
                self.oracle.zero(blocks);
            }
            60..63 => {
                let size_bytes = (self.block() * BLOCK_BYTES).saturating_sub(self.chance.below(2) * 512);
                self.map.resize(size_bytes).unwrap();
                self.oracle.resize(size_bytes);
            }
            63..73 => self.freeze(),
            73..78 => self.fold_underneath(),
            78..82 => self.merge_underneath(),
            82..85 => self.go_on_from_a_point(),
            85..88 => self.replace_a_point(),
            88..91 => self.restore_from_bytes(),
            91..94 => self.check_digest(),
            94..96 => self.check_diff(),
            96 => self.check_comparison(),
            97 => self.keep_up(),
            _ => self.check_reads(),
        }
    }

    fn freeze(&mut self) {
        let id = self.layer_id();
        let image = self.map.freeze(id);
        self.points.push(Point { image, oracle: self.oracle.clone() });
    }

    /// A fold that ends after more has happened: the image it started from is then no longer the newest.
    fn fold_underneath(&mut self) {
        self.freeze();
        let base = self.map.image().clone();
        let folded = block_on(fold(&base, &self.nodes)).unwrap();
        let block = self.block();
        self.map.set(block, Slot::Data(chunk(1000)));
        self.oracle.set(block, Slot::Data(chunk(1000)));
        if self.chance.below(2) == 0 {
            self.freeze();
        }
        self.map.rebase(&base, &folded).unwrap();
    }

    fn merge_underneath(&mut self) {
        let base = self.map.image().clone();
        let count = base.layers().len();
        if count < 2 {
            return;
        }
        let first = self.chance.below(count as u64 - 1) as usize;
        let last = first + 2 + self.chance.below((count - first - 1) as u64) as usize;
        let id = self.layer_id();
        self.map.rebase(&base, &base.with_merged(first..last, id)).unwrap();
    }

    /// Map and points together stay within limits, as an array keeps them; some get to know of it later or never.
    fn keep_up(&mut self) {
        self.freeze();
        let layers_max = 1 + self.chance.below(4) as usize;
        let limits = Limits { entries_max: *self.chance.pick(&[0, 40, 400, 4000]), layers_max };
        let fences = self.chance.below(3);
        for _ in 0..self.chance.below(40) {
            let stack = |(at, image): (usize, &Image)| {
                let fenced = fences > 0 && at % 5 == fences as usize;
                Stack { image: image.clone(), fenced }
            };
            let images = self.points.iter().map(|point| &point.image).chain([self.map.image()]);
            let stacks: Vec<Stack> = images.enumerate().map(stack).collect();
            let Some(work) = survey(&stacks, limits, &BTreeSet::new()).work else { break };
            let rework = match work {
                Work::Merge(run) => {
                    let id = self.layer_id();
                    let into = Arc::new(block_on(merge_in_turns(&run, id)));
                    Rework::Merged { run: run.iter().map(|layer| layer.id()).collect(), into }
                }
                Work::Fold(from) => {
                    let into = block_on(fold(&from, &self.nodes)).unwrap();
                    Rework::Folded { from, into }
                }
            };
            if self.chance.below(4) == 0 {
                let block = self.block();
                self.map.set(block, Slot::Data(chunk(2000)));
                self.oracle.set(block, Slot::Data(chunk(2000)));
                self.freeze();
            }
            drop(self.map.rework(&rework));
            for point in &mut self.points {
                if self.chance.below(20) > 0 {
                    point.image = point.image.reworked(&rework).unwrap_or(point.image.clone());
                }
            }
        }
    }

    fn go_on_from_a_point(&mut self) {
        let point = self.chance.pick(&self.points).clone();
        self.map = VolumeMap::from_image(point.image);
        self.oracle = point.oracle;
    }

    /// A point keeps its meaning when it is folded.
    fn replace_a_point(&mut self) {
        let index = self.chance.below(self.points.len() as u64) as usize;
        self.points[index].image = block_on(fold(&self.points[index].image, &self.nodes)).unwrap();
    }

    fn restore_from_bytes(&mut self) {
        self.freeze();
        let image = self.map.image();
        let layers =
            image.layers().iter().map(|layer| Arc::new(Layer::decode(&layer.encode()).unwrap())).collect();
        let restored = Image::new(image.size_bytes(), image.root(), layers).unwrap();
        assert_eq!(restored, *image);
        self.map = VolumeMap::from_image(restored);
    }

    fn check_digest(&mut self) {
        let point = self.chance.pick(&self.points).clone();
        let before = self.nodes.store().len();
        let found = block_on(volume_digest(&point.image, &self.nodes)).unwrap();
        assert_eq!(self.nodes.store().len(), before, "a digest stores nothing");
        assert_eq!(found, point.oracle.digest());
        let folded = block_on(fold(&point.image, &self.nodes)).unwrap();
        assert_eq!(block_on(volume_digest(&folded, &self.nodes)).unwrap(), found);
    }

    fn check_comparison(&mut self) {
        let (one, other) = (self.chance.pick(&self.points).clone(), self.chance.pick(&self.points).clone());
        let mut comparison = Comparison::new(&one.image, &other.image, &self.nodes);
        let mut expected: BTreeSet<u64> = one.oracle.blocks.keys().copied().collect();
        expected.extend(other.oracle.blocks.keys());
        expected.retain(|block| one.oracle.slot(*block) != other.oracle.slot(*block));
        let mut last: Option<Differing> = None;
        while let Some(found) = block_on(comparison.next()).unwrap() {
            for block in found.blocks.clone() {
                assert!(expected.remove(&block), "block {block} does not differ, or is given twice");
                let zero = (one.oracle.slot(block) == Slot::Zero, other.oracle.slot(block) == Slot::Zero);
                assert_eq!((found.zero_in_first, found.zero_in_second), zero, "block {block}");
            }
            if let Some(last) = last.replace(found.clone()) {
                let kind = |range: &Differing| (range.zero_in_first, range.zero_in_second);
                assert!(
                    last.blocks.end < found.blocks.start || kind(&last) != kind(&found),
                    "ranges are whole"
                );
            }
        }
        assert!(expected.is_empty(), "not found: {expected:?}");
    }

    fn check_diff(&mut self) {
        let (from, to) = (self.chance.pick(&self.points).clone(), self.chance.pick(&self.points).clone());
        let whole = block_on(diff(Some(&from.image), &to.image, &self.nodes)).unwrap();
        check_diff(&whole, &from.oracle, &to.oracle);
        let mut target = VolumeMap::from_image(from.image.clone());
        target.resize(to.image.size_bytes()).unwrap();
        whole.iter().for_each(|extent| target.apply(extent));
        let id = self.layer_id();
        let reached = block_on(volume_digest(&target.freeze(id), &self.nodes)).unwrap();
        assert_eq!(
            reached,
            to.oracle.digest(),
            "a difference applied to where it starts leads to where it ends"
        );
        let mapped = block_on(diff(None, &to.image, &self.nodes)).unwrap();
        assert_eq!(check_diff(&mapped, &Oracle::new(0), &to.oracle), to.oracle.blocks.len());
        assert_eq!(mapped.len(), to.oracle.blocks.len(), "a baseline names no zeroes");
        assert_eq!(block_on(mapped_blocks(&to.image, &self.nodes)).unwrap(), mapped.len() as u64);

        let mut cursor = DiffCursor::new(Some(&from.image), &to.image, &self.nodes);
        let mut pieces = Vec::new();
        loop {
            let most = 1 + self.chance.below(20) as usize;
            let batch = block_on(cursor.next_batch(most)).unwrap();
            if batch.is_empty() {
                break;
            }
            assert!(batch.len() <= most);
            pieces.extend(batch);
        }
        assert_eq!(pieces, whole, "batches are the whole, cut");
    }

    fn check_reads(&mut self) {
        let mut blocks = self.range();
        blocks.end = blocks.end.min(blocks.start + 5000);
        let live = block_on(read_slots(&self.map, &self.nodes, blocks.clone())).unwrap();
        assert_eq!(live, self.oracle.slots(blocks.clone()));
        let point = self.chance.pick(&self.points);
        let frozen = block_on(read_slots(&point.image, &self.nodes, blocks.clone())).unwrap();
        assert_eq!(frozen, point.oracle.slots(blocks.clone()));
        let at_once = resolve_now(&point.image.lookup(blocks), &self.nodes);
        assert!(at_once.is_none_or(|slots| slots == frozen));
    }

    fn check_everything(&mut self) {
        self.freeze();
        for point in &self.points {
            let size = point.oracle.size_blocks();
            for blocks in [0..size.min(20_000), size.saturating_sub(300)..size + 10] {
                let slots = block_on(read_slots(&point.image, &self.nodes, blocks.clone())).unwrap();
                assert_eq!(slots, point.oracle.slots(blocks));
            }
        }
        for _ in 0..8 {
            self.check_diff();
            self.check_digest();
        }
    }
}

#[test]
fn any_history_reads_diffs_and_digests_as_the_oracle_says() {
    #[expect(clippy::disallowed_methods, reason = "a longer run is asked for from outside")]
    let seeds =
        std::env::var("METROPOD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS_DEFAULT);
    for seed in 0..seeds {
        let steps = std::panic::AssertUnwindSafe(|| {
            let mut history = History::new(seed);
            (0..STEPS).for_each(|_| history.step());
            history.check_everything();
        });
        if let Err(panic) = std::panic::catch_unwind(steps) {
            eprintln!("seed {seed} of {seeds}");
            std::panic::resume_unwind(panic);
        }
    }
}
