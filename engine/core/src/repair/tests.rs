//! Asks: shared, bounded, ended by time, by refusal, by a lost connection, never by content that is not proven.

use std::pin::Pin;

use metropod_dedupe::{Compression, Reduced, reduce};

use super::*;

const A: (ArrayId, PodId) = (ArrayId([1; 16]), PodId([9; 16]));
const B: (ArrayId, PodId) = (ArrayId([2; 16]), PodId([8; 16]));

#[derive(Default)]
struct Sent(Mutex<Vec<(ArrayId, Message)>>);

impl BulkPort for Sent {
    fn send(&self, peer: ArrayId, parts: Vec<Bytes>) {
        lock(&self.0).push((peer, Message::decode(parts[1].clone()).unwrap()));
    }
}

fn at(milliseconds: u64) -> Time {
    Time(0) + Span::millis(milliseconds)
}

fn chunk(number: u8) -> (Digest, Chunk) {
    let Reduced::Chunk { digest, payload } = reduce(&[number; 4096], Compression::WhenItPays) else {
        panic!("not zero")
    };
    (digest, (Domain::Data, payload))
}

fn rig(peers: &[(ArrayId, PodId)]) -> (Arc<Sent>, Repairs) {
    let sent = Arc::<Sent>::default();
    let repairs = Repairs::new(sent.clone());
    repairs.pass(at(0), peers.to_vec());
    (sent, repairs)
}

fn poll(flow: &mut Pin<Box<dyn Future<Output = Option<Chunk>> + Send>>) -> Poll<Option<Chunk>> {
    flow.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn asked(sent: &Sent) -> Vec<(ArrayId, u64)> {
    let number = |(peer, message): &(ArrayId, Message)| match message {
        Message::Ask { number, .. } => Some((*peer, *number)),
        Message::Answer { .. } => None,
    };
    lock(&sent.0).iter().filter_map(number).collect()
}

#[test]
fn who_asks_for_the_same_chunk_shares_the_ask_and_the_answer() {
    let (sent, repairs) = rig(&[A]);
    let (digest, good) = chunk(1);
    let (mut one, mut other) = (repairs.fetch(digest), repairs.fetch(digest));
    assert!(poll(&mut one).is_pending() && poll(&mut other).is_pending());
    assert_eq!(asked(&sent), [(A.0, 1)]);
    assert_eq!(repairs.answered(at(1), B.0, 1, Some(good.clone())), Outcome::Nothing, "it was not asked");
    assert_eq!(repairs.answered(at(1), A.0, 1, Some(good.clone())), Outcome::Repaired(digest));
    assert_eq!(
        (poll(&mut one), poll(&mut other)),
        (Poll::Ready(Some(good.clone())), Poll::Ready(Some(good)))
    );
    assert_eq!(repairs.counts(), RepairCounts { found: 1, repaired: 1, failed: 0 });
}

#[test]
fn content_of_another_chunk_is_garbage_and_the_next_array_is_asked() {
    let (sent, repairs) = rig(&[A, B]);
    let ((digest, good), (_, other)) = (chunk(1), chunk(2));
    let mut flow = repairs.fetch(digest);
    assert_eq!(repairs.answered(at(1), A.0, 1, Some(other)), Outcome::Garbage);
    let wrong_domain = (Domain::Node { level: 0 }, good.1.clone());
    assert!(poll(&mut flow).is_pending());
    assert_eq!(asked(&sent), [(A.0, 1), (B.0, 2)]);
    assert_eq!(repairs.answered(at(2), B.0, 2, Some(wrong_domain)), Outcome::Garbage);
    assert_eq!(poll(&mut flow), Poll::Ready(None));
    assert_eq!(repairs.counts(), RepairCounts { found: 1, repaired: 0, failed: 1 });
}

#[test]
fn a_chunk_that_was_refused_is_asked_for_again_only_after_a_rest() {
    let (sent, repairs) = rig(&[A]);
    let (digest, _) = chunk(1);
    let mut flow = repairs.fetch(digest);
    assert_eq!(repairs.answered(at(1), A.0, 1, None), Outcome::Nothing);
    assert_eq!(poll(&mut flow), Poll::Ready(None));
    assert_eq!(poll(&mut repairs.fetch(digest)), Poll::Ready(None));
    repairs.pass(at(5_002), vec![A]);
    assert!(poll(&mut repairs.fetch(digest)).is_pending());
    assert_eq!(asked(&sent).len(), 2);
}

#[test]
fn a_silent_array_costs_one_wait_whatever_the_number_of_chunks() {
    let (sent, repairs) = rig(&[A]);
    let mut flows: Vec<_> = (1..=3).map(|number| repairs.fetch(chunk(number).0)).collect();
    repairs.pass(at(10), vec![A]);
    assert_eq!(repairs.due_at(), Some(at(3_010)));
    repairs.pass(at(3_009), vec![A]);
    assert!(flows.iter_mut().all(|flow| poll(flow).is_pending()));
    repairs.pass(at(3_010), vec![A]);
    assert!(flows.iter_mut().all(|flow| poll(flow) == Poll::Ready(None)));
    assert_eq!(poll(&mut repairs.fetch(chunk(4).0)), Poll::Ready(None), "it is not asked for a while");
    repairs.pass(at(13_011), vec![A]);
    assert!(poll(&mut repairs.fetch(chunk(4).0)).is_pending());
    assert_eq!((asked(&sent).len(), repairs.due_at()), (4, None));
}

#[test]
fn asks_are_bounded_and_end_with_the_connection_or_the_array() {
    let (sent, repairs) = rig(&[A]);
    let name = |number: usize| {
        let mut name = [1; 32];
        name[..8].copy_from_slice(&(number as u64).to_le_bytes());
        Digest(name)
    };
    let mut flows: Vec<_> = (0..ASKS_MAX).map(|number| repairs.fetch(name(number))).collect();
    assert_eq!(poll(&mut repairs.fetch(name(ASKS_MAX))), Poll::Ready(None));
    assert_eq!(asked(&sent).len(), ASKS_MAX);
    repairs.pass(at(1), Vec::new());
    assert!(flows.iter_mut().all(|flow| poll(flow) == Poll::Ready(None)));
    assert_eq!(poll(&mut repairs.fetch(name(ASKS_MAX))), Poll::Ready(None), "nobody is there");
    repairs.pass(at(2), vec![A]);
    let mut flow = repairs.fetch(name(ASKS_MAX + 1));
    assert!(poll(&mut flow).is_pending());
    repairs.close();
    assert_eq!(poll(&mut flow), Poll::Ready(None));
    assert_eq!(poll(&mut repairs.fetch(name(ASKS_MAX + 2))), Poll::Ready(None));
}
