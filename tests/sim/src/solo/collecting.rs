//! The collector at work while everything else goes on, and the recount that it is compared with.
//!
//! - R1: the recount shares nothing with the collector: it asks every volume and snapshot for every block.
//! - R2: a read that was begun before a pass and ends after it shows the same bytes as one that ended at once.

use std::collections::BTreeSet;

use metropod_core::operation::BLOCK_BYTES;
use metropod_core::{Fetch, Input, Pod, Source};
use metropod_dedupe::{Digest, Domain, Store};
use metropod_snapshots::{Image, Nodes, resolve};

use super::{Solo, VOLUME_BYTES};
use crate::executor::run;

/// Children of a node.
const CHILDREN: usize = 128;

/// Passes after which only what is named may be left: what was staged and overwritten when the first one began is
/// garbage for the second, and so is a tree that was folded meanwhile.
const PASSES: usize = 3;

/// A read that takes its time.
pub(super) struct HeldRead {
    fetch: Box<Fetch>,
    expected: Vec<u8>,
}

impl Solo {
    /// Collects often, in small segments.
    pub fn collecting(mut self) -> Solo {
        self.collecting = true;
        // The sizes take effect with the next opening.
        self.crash();
        self
    }

    /// The same within a bound: cleaning begins by itself, hosts wait for it, and are refused when nothing helps.
    pub fn within(mut self, capacity_bytes: u64) -> Solo {
        self.capacity_bytes = Some(capacity_bytes);
        self.collecting()
    }

    pub(super) fn collect_something(&mut self) {
        match self.random.below(3) {
            0 => self.hold_a_read(),
            1 => self.end_held_read(),
            _ => {
                let Some(array) = &mut self.array else { return };
                let request = array.next_request();
                self.input(Input::Collect { request });
            }
        }
    }

    fn hold_a_read(&mut self) {
        self.settle();
        let source = Source::Volume(self.volume.expect("made at the beginning"));
        let expected = self.read(source);
        let Some(array) = &mut self.array else { return };
        let request = array.next_request();
        let length = VOLUME_BYTES;
        self.input(Input::Read { request, pod: self.home, source, offset: 0, length, metered: false });
        if let Some(at) = self.fetches.iter().position(|(answered, _)| *answered == request) {
            let (_, fetch) = self.fetches.remove(at).expect("just found");
            self.held = Some(HeldRead { fetch, expected });
        }
    }

    pub(super) fn end_held_read(&mut self) {
        let Some(HeldRead { fetch, expected }) = self.held.take() else { return };
        match run(fetch.read()) {
            Ok(bytes) => assert!(bytes == expected, "R2: a slow read shows what was there when it began"),
            Err(error) => assert!(self.media.is_dark(), "R2: a slow read finds its content: {error:?}"),
        }
    }

    /// Compares what is stored with what is named (S5).
    pub(super) fn recount(&mut self) {
        self.end_held_read();
        let mut found = (0, 0);
        for _ in 0..10 * PASSES {
            self.settle();
            let Some(array) = &mut self.array else { return };
            let request = array.next_request();
            if self.answer_to(request, Input::Collect { request }).is_err() {
                continue;
            }
            self.counts.collected += 1;
            self.settle();
            let array = self.array.as_ref().expect("the array is open");
            let scrub = array.scrub_progress();
            assert_eq!(scrub.findings, 0, "S6: {:?}", scrub.listed);
            let nodes = Nodes::new(array.store().clone());
            let named: BTreeSet<Digest> = array.pods().flat_map(|pod| named_by(pod, &nodes)).collect();
            let named = named.len() as u64;
            let stats = array.store().stats();
            found = (stats.chunks + stats.staged, named);
            if found.0 == found.1 && self.recount_space() {
                let array = self.array.as_ref().expect("the array is open");
                let scrub = array.scrub_progress();
                self.counts.recounts += 1;
                self.counts.scrubbed += scrub.records;
                self.counts.dead_chunks += array.collect_counts().dead_chunks;
                return;
            }
        }
        panic!("S5: {} chunks are stored, {} are named", found.0, found.1);
    }
}

/// Every name that a reader of a pod can meet, found block by block, and every node (R1).
fn named_by(pod: &Pod, nodes: &Nodes<Store>) -> BTreeSet<Digest> {
    let mut named = BTreeSet::new();
    for id in pod.namespace().volumes.keys() {
        let map = pod.volume_map(*id).expect("every volume has a map");
        add_blocks(map, map.size_blocks(), nodes, &mut named);
        add_nodes(map.image(), nodes.store(), &mut named);
    }
    for id in pod.namespace().snapshots.keys() {
        let image = pod.snapshot_image(*id).expect("every snapshot has an image");
        add_blocks(image, image.size_bytes() / BLOCK_BYTES, nodes, &mut named);
        add_nodes(image, nodes.store(), &mut named);
    }
    named
}

fn add_blocks(
    source: &impl metropod_snapshots::Source,
    blocks: u64,
    nodes: &Nodes<Store>,
    named: &mut BTreeSet<Digest>,
) {
    let slots = run(resolve(source.lookup(0..blocks), nodes)).expect("every node is stored");
    named.extend(slots.iter().map(|slot| slot.digest()).filter(|name| !name.is_zero()));
}

pub(super) fn add_nodes(image: &Image, store: &Store, named: &mut BTreeSet<Digest>) {
    if let Some(root) = image.root() {
        add_tree(root.height - 1, root.digest, store, named);
    }
}

fn add_tree(level: u8, digest: Digest, store: &Store, named: &mut BTreeSet<Digest>) {
    if !named.insert(digest) {
        return;
    }
    let content = run(store.get(Domain::Node { level }, &digest, None)).expect("a named node is stored");
    for child in content.chunks_exact(content.len() / CHILDREN) {
        let child = Digest(child.try_into().expect("a child's name is 32 bytes long"));
        if level > 0 && !child.is_zero() {
            add_tree(level - 1, child, store, named);
        }
    }
}
