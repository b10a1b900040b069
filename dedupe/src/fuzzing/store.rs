//! A store whose files and state the input changes; then it opens or is refused. Where it opens, it never gives content
//! under another's name, and it goes on.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Create, Durability, Io, Media, Open};

use super::{ARRAY, damage};
use crate::digest::{Digest, Domain, digest};
use crate::index::{RUN_DIR, run_of_name};
use crate::reduce::Payload;
use crate::segment::{SEGMENT_BYTES_MIN, SEGMENT_DIR, segment_of_name};
use crate::store::{Store, StoreConfig};

/// Contents of the base; those from [`REPLACED`] on are replaced once.
const CONTENTS: u8 = 40;
const REPLACED: u8 = 36;

struct Base {
    media: SimMedia,
    state: Vec<u8>,
    /// Every file.
    paths: Vec<String>,
    /// Of every content.
    names: Vec<Digest>,
}

/// Input: how (1: put checks right), then steps.
pub(super) fn store(input: &[u8]) {
    let base = base();
    let Some((how, mut steps)) = input.split_first() else { return };
    let media = base.media.deep_copy();
    let mut state = base.state.clone();
    while let Some((step, rest)) = steps.split_first_chunk::<5>() {
        steps = apply(base, &media, &mut state, *step, rest);
    }
    if how & 1 == 1 {
        damage::repair_end(&mut state);
        repair(&media);
    }
    let Ok(store) = now(Store::open(io(&media), config(), Some(&state))) else { return };
    check(&store, &base.names);
    store.stage(Domain::Data, digest(Domain::Data, b"fresh"), Payload::raw(b"fresh".as_slice().into()));
    for number in REPLACED..CONTENTS {
        let content = content(number);
        store.replace(domain(number), base.names[usize::from(number)], Payload::raw(content.into()));
    }
    let Ok(state) = now(store.flush()) else { return };
    store.committed(&state);
    drop(store);
    let store = now(Store::open(io(&media), config(), Some(&state))).expect("what was flushed opens");
    check(&store, &base.names);
    for number in REPLACED..CONTENTS {
        let found = now(store.get(domain(number), &base.names[usize::from(number)], None));
        assert_eq!(found.as_deref(), Ok(&content(number)[..]), "what was written again is there");
    }
}

fn check(store: &Store, names: &[Digest]) {
    for (number, name) in (0..).zip(names) {
        if let Ok(found) = now(store.get(domain(number), name, None)) {
            assert_eq!(found, content(number));
        }
    }
    let _ = (now(store.have(names)), store.stats());
}

/// One step (kind, file, three bytes of offset) and the bytes that it takes of `rest`.
fn apply<'a>(
    base: &Base,
    media: &SimMedia,
    state: &mut Vec<u8>,
    [kind, file, a, b, c]: [u8; 5],
    rest: &'a [u8],
) -> &'a [u8] {
    let path = base.paths.get(usize::from(file) % (base.paths.len() + 1));
    let mut bytes = path.map_or_else(|| state.clone(), |path| content_of(media, path));
    let offset = u32::from_le_bytes([a, b, c, 0]) as usize;
    // From the end as well: trailers stand there.
    let offset = if kind & 0x80 == 0 { offset } else { bytes.len().saturating_sub(offset) };
    let offset = offset % (bytes.len() + 1);
    let mut rest = rest;
    match kind % 4 {
        0 | 1 => {
            let (length, after) = rest.split_first().map_or((0, rest), |(length, after)| (*length, after));
            let (data, after) = after.split_at(after.len().min(usize::from(length)));
            rest = after;
            let end = bytes.len().min(offset + data.len());
            bytes[offset..end].copy_from_slice(&data[..end - offset]);
        }
        2 => bytes.truncate(offset),
        _ => {
            if let Some(path) = path {
                let _ = media.remove(path);
            }
            return rest;
        }
    }
    match path {
        Some(path) => write(media, path, &bytes),
        None => *state = bytes,
    }
    rest
}

fn repair(media: &SimMedia) {
    for name in media.list(SEGMENT_DIR).expect("healthy media") {
        if let Some(segment) = segment_of_name(&name) {
            change(media, &format!("{SEGMENT_DIR}/{name}"), |bytes| damage::repair_segment(segment, bytes));
        }
    }
    for name in media.list(RUN_DIR).expect("healthy media") {
        let is_run = run_of_name(&name).is_some();
        let repair = if is_run { damage::repair_run } else { damage::repair_end };
        change(media, &format!("{RUN_DIR}/{name}"), repair);
    }
}

fn change(media: &SimMedia, path: &str, change: impl FnOnce(&mut [u8])) {
    let before = content_of(media, path);
    let mut bytes = before.clone();
    change(&mut bytes);
    if bytes != before {
        write(media, path, &bytes);
    }
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let media = SimMedia::new();
        let store = now(Store::open(io(&media), config(), None)).expect("healthy media");
        let names: Vec<Digest> =
            (0..CONTENTS).map(|number| digest(domain(number), &content(number))).collect();
        let payload = |number| Payload::raw(content(number).into());
        (0..CONTENTS).for_each(|n| store.stage(domain(n), names[usize::from(n)], payload(n)));
        now(store.flush()).expect("healthy media");
        (REPLACED..CONTENTS).for_each(|n| store.replace(domain(n), names[usize::from(n)], payload(n)));
        let state = now(store.flush()).expect("healthy media");
        store.committed(&state);
        drop(store);
        media.kill();
        let mut paths = Vec::new();
        for dir in [SEGMENT_DIR, RUN_DIR] {
            let names = media.list(dir).expect("healthy media");
            paths.extend(names.into_iter().map(|name| format!("{dir}/{name}")));
        }
        Base { media, state: state.to_vec(), paths, names }
    })
}

fn config() -> StoreConfig {
    StoreConfig {
        segment_bytes: SEGMENT_BYTES_MIN,
        write_bytes: 16 << 10,
        recent_entries_max: 8,
        unsynced_bytes_max: 64 << 10,
        cached_pages_max: 2,
        open_segments_max: 2,
        ..StoreConfig::new(ARRAY)
    }
}

/// Two nodes fill a segment; the rest stays small.
fn content(number: u8) -> Vec<u8> {
    let length = if number < 3 { 60_000 } else { 100 + usize::from(number) };
    vec![number + 1; length]
}

fn domain(number: u8) -> Domain {
    if number < 10 { Domain::Node { level: number % 3 } } else { Domain::Data }
}

fn io(media: &SimMedia) -> Io {
    Io::inline(Arc::new(media.clone()))
}

fn now<F: Future>(flow: F) -> F::Output {
    match pin!(flow).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("inline media answer at once"),
    }
}

fn content_of(media: &SimMedia, path: &str) -> Vec<u8> {
    let Ok(file) = media.open(path, Open { create: Create::Never, direct: false }) else { return Vec::new() };
    let mut bytes = vec![0; media.len(file).expect("healthy media") as usize];
    media.read(file, 0, &mut bytes).expect("healthy media");
    media.close(file);
    bytes
}

fn write(media: &SimMedia, path: &str, bytes: &[u8]) {
    let _ = media.remove(path);
    let file = media.open(path, Open { create: Create::IfMissing, direct: false }).expect("healthy media");
    media.write(file, 0, &[bytes], Durability::Durable).expect("healthy media");
    media.close(file);
}
