//! P22: a whole mark pass over a store on the disk: the walk of a volume and its snapshot, and what was not marked dies.
//!
//! The volume refers to chunks at random, some several times, and its snapshot differs from it in a tenth. Chunks have
//! numbers for digests and little content: a pass reads nodes and the index, never chunks. After the first pass exactly
//! what is referred to must be there. Beside each pass it is counted whose the space is, by the same maps and index; the count
//! must be what the store holds.

use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

use metropod::PodId;
use metropod_core::names::{SnapshotId, VolumeId};
use metropod_core::space_account::{Owned, OwnedVolume, account};
use metropod_dedupe::{Digest, Store};
use metropod_snapshots::{Image, LayerId, Nodes, Slot, VolumeMap, fold, mark_reachable};
use serde_json::json;

use super::{Settings, progress};
use crate::chance::Chance;
use crate::clock::process_cpu_ns;
use crate::many_chunks;
use crate::memory;
use crate::park::block_on;
use crate::report::{Document, Figure};

/// Blocks that are set before the map is folded.
const STEP: u64 = 1 << 20;
/// One in so many references of the volume changed after its snapshot.
const CHANGED: u64 = 10;
/// Names asked for together.
const TOGETHER: usize = 32;

pub(super) fn run(settings: &Settings) -> io::Result<Document> {
    let home = settings.home()?;
    let references = settings.count.unwrap_or(settings.pick(50_000, 10_000_000)).next_multiple_of(128);
    let chunks = references;
    let params = json!({"chunks": chunks, "references_of_the_volume": references});
    let mut document = Document::begin("mark", home.path(), params);
    document.context("warm", "nodes and index in the page cache; nodes are read past the array's own cache");
    let directory = home.path().join("store");
    std::fs::create_dir(&directory)?;
    let store = many_chunks::create(&directory)?;
    many_chunks::store(&store, 0..chunks)?;
    let (images, referred) = volume_and_snapshot(&store, chunks, references)?;
    many_chunks::flush(&store)?;
    progress(format_args!("{chunks} chunks and {references} references stored"));
    let owned = owned(&images);
    let (mut rates, mut cpu, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=settings.rounds() {
        let began = (Instant::now(), process_cpu_ns());
        let pass = store.begin_pass().ok_or_else(|| io::Error::other("another pass is under way"))?;
        let reached = block_on(mark_reachable(&images, &store, &pass)).map_err(io::Error::other)?;
        let marked_s = began.0.elapsed().as_secs_f64();
        let collected = block_on(pass.finish()).map_err(io::Error::other)?;
        let all_s = began.0.elapsed().as_secs_f64();
        let cpu_s = (process_cpu_ns() - began.1) as f64 / 1e9;
        many_chunks::flush(&store)?;
        if round == 0 {
            document.checked(check(&store, &referred, chunks)?);
            document.fact("dead_after_the_first_pass", collected.dead_chunks);
            document.fact("references_walked", reached.data);
            document.fact("nodes_walked", reached.nodes);
            document.fact("seconds_of_the_first_pass", all_s);
            continue;
        }
        if collected.dead_chunks > 0 {
            return Err(io::Error::other("a pass let something die that is referred to"));
        }
        counts.push(reached.data as f64 / 1e6 / count(&owned, &store)?);
        rates.push(reached.data as f64 / 1e6 / marked_s);
        cpu.push(reached.data as f64 / 1e6 / cpu_s);
        progress(format_args!("mark: round {round} of {}", settings.rounds()));
    }
    document.checked(check(&store, &referred, chunks)?);
    let wall = Figure::of("walk and mark, one thread", "M references/s", rates);
    document.add("a mark pass, by time", "5 M references per second and core", vec![wall]);
    let cpu = Figure::of("walk, mark and the end of the pass", "M references/s of one core", cpu);
    document.add("a mark pass, by processor time", "", vec![cpu]);
    let counts = Figure::of("walk and count, one thread", "M references/s", counts);
    document.add("whose the space is, by time", "", vec![counts]);
    document.fact("peak_resident_bytes", memory::peak_bytes());
    Ok(document)
}

/// A volume with its snapshot.
fn owned(images: &[Image]) -> Owned {
    let (pod, id) = (PodId([1; 16]), VolumeId(1));
    let (live, snapshots) = images.split_last().expect("a volume was made");
    let taken =
        (2..).zip(snapshots).map(|(taken_at, image)| (SnapshotId { volume: id, taken_at }, image.clone()));
    let volume = OwnedVolume { pod, id, live: live.clone(), snapshots: taken.collect() };
    Owned { pods: vec![pod], volumes: vec![volume], held: Vec::new() }
}

/// Seconds that it takes to count whose the space is; it is all that is stored, after a pass.
fn count(owned: &Owned, store: &Store) -> io::Result<f64> {
    let began = Instant::now();
    let account = block_on(account(owned, store)).map_err(|error| io::Error::other(format!("{error:?}")))?;
    let seconds = began.elapsed().as_secs_f64();
    let is_all = account.unattributed_bytes == 0 && account.missing_chunks == 0 && account.held_bytes == 0;
    let is_sum = account.data_bytes() + account.map_bytes == account.census.stored_bytes;
    match is_all && is_sum {
        true => Ok(seconds),
        false => Err(io::Error::other(format!("the count does not add up: {account:?}"))),
    }
}

/// The images, and the numbers of the chunks that they refer to.
fn volume_and_snapshot(
    store: &Store,
    chunks: u64,
    references: u64,
) -> io::Result<(Vec<Image>, BTreeSet<u32>)> {
    let nodes = Nodes::new(store.clone());
    let image = Image::new(references << 12, None, Vec::new()).map_err(io::Error::other)?;
    let mut map = VolumeMap::from_image(image);
    let mut chance = Chance::new(22);
    let mut referred = BTreeSet::new();
    let mut layer = 0;
    let mut set = |map: &mut VolumeMap, block: u64, chance: &mut Chance| {
        let chunk = chance.below(chunks);
        referred.insert(chunk as u32);
        map.set(block, Slot::Data(many_chunks::name(chunk)));
    };
    let mut settle = |map: &mut VolumeMap| -> io::Result<Image> {
        layer += 1;
        let image = map.freeze(LayerId(layer));
        let folded = block_on(fold(&image, &nodes)).map_err(io::Error::other)?;
        map.rebase(&image, &folded).map_err(io::Error::other)?;
        Ok(folded)
    };
    let mut snapshot = None;
    for first in (0..references).step_by(STEP as usize) {
        (first..references.min(first + STEP)).for_each(|block| set(&mut map, block, &mut chance));
        snapshot = Some(settle(&mut map)?);
    }
    (0..references / CHANGED).for_each(|block| set(&mut map, block * CHANGED, &mut chance));
    let volume = settle(&mut map)?;
    Ok((snapshot.into_iter().chain([volume]).collect(), referred))
}

/// Exactly the chunks that are referred to are there; gives the number of answers compared.
fn check(store: &Store, referred: &BTreeSet<u32>, chunks: u64) -> io::Result<u64> {
    let numbers: Vec<u64> = (0..chunks).collect();
    for numbers in numbers.chunks(TOGETHER) {
        let names: Vec<Digest> = numbers.iter().map(|number| many_chunks::name(*number)).collect();
        let found = block_on(store.have(&names)).map_err(io::Error::other)?;
        for (number, found) in numbers.iter().zip(found) {
            if found != referred.contains(&(*number as u32)) {
                let what = if found { "dead and there" } else { "referred to and gone" };
                return Err(io::Error::other(format!("chunk {number} is {what}")));
            }
        }
    }
    Ok(chunks)
}
