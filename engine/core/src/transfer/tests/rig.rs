//! Two flows and the messages between them, polled in a fixed order.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Bytes, BytesMut};
use metropod_dedupe::{SEGMENT_BYTES_MIN, Store, StoreConfig};
use metropod_journal::media::Io;
use metropod_journal::media::sim::SimMedia;
use metropod_protocol::PodId;

use super::model::{Pod, position};
use crate::namespace::PodImage;
use crate::transfer::receive::receive_folding;
use crate::transfer::{
    Begin, Body, Building, Common, Inbox, Message, Port, Progress, Sent, Touched, TransferError, send_round,
};

pub(super) const POD: PodId = PodId([3; 16]);

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

fn flag() -> (Arc<Flag>, Waker) {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    (flag.clone(), Waker::from(flag))
}

/// Runs one future that waits for nobody else.
pub(super) fn run<F: Future>(future: F) -> F::Output {
    let (flag, waker) = flag();
    let mut future = pin!(future);
    loop {
        assert!(flag.0.swap(false, Ordering::AcqRel), "the future waits for ever");
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
    }
}

/// Runs two futures by turns until both are done or both wait for ever.
pub(super) fn run_both<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> (Option<A>, Option<B>) {
    run_until(first, second, || false)
}

/// Like [`run_both`]; when both wait, `stalled` may do something and say so.
pub(super) fn run_until<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
    mut stalled: impl FnMut() -> bool,
) -> (Option<A>, Option<B>) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut left, mut right) = (None, None);
    let ((flag_a, waker_a), (flag_b, waker_b)) = (flag(), flag());
    loop {
        let mut moved = false;
        moved |= turn(first.as_mut(), &mut left, &flag_a, &waker_a);
        moved |= turn(second.as_mut(), &mut right, &flag_b, &waker_b);
        if !moved && !stalled() {
            return (left, right);
        }
    }
}

fn turn<T>(
    future: Pin<&mut impl Future<Output = T>>,
    output: &mut Option<T>,
    flag: &Flag,
    waker: &Waker,
) -> bool {
    if output.is_some() || !flag.0.swap(false, Ordering::AcqRel) {
        return false;
    }
    if let Poll::Ready(value) = future.poll(&mut Context::from_waker(waker)) {
        *output = Some(value);
    }
    true
}

/// A store of its own on simulated media; small segments and writes, so that destaging happens.
pub(super) fn new_store() -> Store {
    let io = Io::inline(Arc::new(SimMedia::new()));
    let config = StoreConfig {
        segment_bytes: SEGMENT_BYTES_MIN,
        write_bytes: 64 << 10,
        hints_max: 512,
        ..StoreConfig::new([1; 16])
    };
    run(Store::open(io, config, None)).unwrap()
}

type Tamper = Box<dyn FnMut(Message) -> Option<Message> + Send>;

/// One direction of the link: encodes, decodes, counts.
pub(super) struct Wire {
    to: Inbox,
    state: Arc<Mutex<Link>>,
    tamper: Mutex<Tamper>,
}

/// Both directions.
#[derive(Default)]
pub(super) struct Link {
    /// Messages that may still pass; the link is cut after them.
    pub left: usize,
    pub is_cut: bool,
    pub passed: usize,
    pub bytes: u64,
    pub chunks: Vec<Bytes>,
}

impl Port for Wire {
    fn send(&self, message: Message) {
        let mut frame = BytesMut::new();
        message.encode().iter().for_each(|part| frame.extend_from_slice(part));
        assert_eq!(frame.len() as u64, message.wire_bytes());
        assert!(frame.len() <= crate::transfer::FRAME_BYTES_MAX);
        let decoded = Message::decode(frame.freeze()).unwrap();
        assert_eq!(decoded, message);
        let mut link = self.state.lock().unwrap();
        if link.left == 0 {
            link.is_cut = true;
            return;
        }
        link.left -= 1;
        link.passed += 1;
        link.bytes += message.wire_bytes();
        if let Body::Chunks { payloads, .. } = &decoded.body {
            link.chunks.extend(payloads.iter().map(|payload| payload.bytes.clone()));
        }
        drop(link);
        if let Some(message) = (self.tamper.lock().unwrap())(decoded) {
            self.to.push(message).unwrap();
        }
    }
}

/// How a round ended at both ends.
pub(super) struct Ended {
    pub source: Option<Result<Sent, TransferError>>,
    pub target: Option<Result<PodImage, TransferError>>,
    pub link: Arc<Mutex<Link>>,
    pub source_progress: Arc<Progress>,
    pub target_progress: Arc<Progress>,
    pub begin: Begin,
}

impl Ended {
    pub(super) fn chunks(&self) -> usize {
        self.link.lock().unwrap().chunks.len()
    }

    pub(super) fn messages(&self) -> usize {
        self.link.lock().unwrap().passed
    }
}

/// A round to be run.
pub(super) struct Round {
    pub from: Option<Common>,
    pub messages_max: usize,
    pub to_target: Tamper,
    pub to_source: Tamper,
    pub fold_entries: usize,
}

impl Round {
    pub(super) fn from_nothing() -> Round {
        Round {
            from: None,
            messages_max: usize::MAX,
            to_target: Box::new(Some),
            to_source: Box::new(Some),
            fold_entries: 1 << 20,
        }
    }

    pub(super) fn from(at: u64, image: PodImage, touched: Option<Touched>) -> Round {
        Round { from: Some(Common { at: position(at), image, touched }), ..Round::from_nothing() }
    }

    /// Runs the round between two pods. The target flips if its image is complete.
    pub(super) fn run(self, source: &mut Pod, target: &mut Pod) -> Ended {
        let to = source.freeze();
        let begin = Begin::plan(POD, 5, self.from.as_ref(), (position(source.applied), &to)).unwrap();
        let (to_target, to_source) = (Inbox::new(), Inbox::new());
        let link = Arc::new(Mutex::new(Link { left: self.messages_max, ..Link::default() }));
        let wire = |to: &Inbox, tamper| {
            Arc::new(Wire { to: to.clone(), state: link.clone(), tamper: Mutex::new(tamper) })
        };
        let (source_port, target_port) = (wire(&to_target, self.to_target), wire(&to_source, self.to_source));
        let (source_progress, target_progress) = (Arc::new(Progress::new()), Arc::new(Progress::new()));
        let held = target.held();
        let sending = send_round(
            begin.clone(),
            self.from,
            to,
            source.store.clone(),
            source_port,
            to_source.clone(),
            source_progress.clone(),
        );
        let receiving = async {
            let first = to_target.next().await.ok_or(TransferError::Closed)?;
            let Body::Begin(begin) = first.body else { panic!("a round begins with Begin") };
            let image = receive_folding(
                begin,
                Some(held),
                target.layer_ids.clone(),
                target.store.clone(),
                target_port.clone(),
                to_target.clone(),
                target_progress.clone(),
                Building::default(),
                self.fold_entries,
            )
            .await?;
            target_port.send(Message::flipped(first.round));
            Ok(image)
        };
        // What passed before a cut is taken in; then the session is over.
        let mut over = false;
        let (sent, received) = run_until(sending, receiving, || {
            let cut = link.lock().unwrap().is_cut && !std::mem::replace(&mut over, true);
            if cut {
                to_target.close();
                to_source.close();
            }
            cut
        });
        if let Some(Ok(image)) = &received {
            target.flip(image.clone(), begin.to.index.0);
        }
        Ended { source: sent, target: received, link, source_progress, target_progress, begin }
    }

    /// Runs a round that must succeed at both ends, and checks its counters.
    pub(super) fn run_well(self, source: &mut Pod, target: &mut Pod) -> (Sent, Ended) {
        let ended = self.run(source, target);
        let sent = *ended.source.as_ref().expect("the source ended").as_ref().expect("the source sent all");
        assert!(matches!(ended.target, Some(Ok(_))), "{:?}", ended.target);
        let (one, other) = (ended.source_progress.sample(), ended.target_progress.sample());
        assert_eq!(one.bytes_done, one.bytes_logical);
        assert_eq!(one.bytes_logical, sent.data_blocks * 4096);
        assert_eq!(one.bytes_wire, ended.link.lock().unwrap().bytes);
        // The target's `Flipped` is its caller's.
        assert_eq!(other.bytes_wire + Message::flipped(5).wire_bytes(), one.bytes_wire);
        assert_eq!((one.bytes_done, one.bytes_referenced), (other.bytes_done, other.bytes_referenced));
        assert_eq!((one.bytes_compressed, one.bytes_saved), (other.bytes_compressed, other.bytes_saved));
        assert_eq!(one.bytes_saved + one.bytes_compressed, one.bytes_logical);
        (sent, ended)
    }
}
