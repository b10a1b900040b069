//! One connection's window, shared by the pods that send on it.
//!
//! A pod may have half of what is left when the others' bytes are taken off, its own not counted: a busy pod beside idle ones
//! gets a whole [`WINDOW_BYTES`], n busy ones settle at `1/(n + 1)` of the connection's, and one that begins later finds room.
//! - W1: what is under way on a connection is at most [`CONNECTION_WINDOW_BYTES`] and one entry, however many pods send:
//!   a pod with nothing under way may send one entry of any size, but only while something is left.

use std::collections::BTreeMap;

use metropod_protocol::settings::{CONNECTION_WINDOW_BYTES, WINDOW_BYTES};
use metropod_protocol::{ArrayId, PodId};

const _: () = assert!(CONNECTION_WINDOW_BYTES / 2 == WINDOW_BYTES, "one busy pod has a whole window");

/// What is under way, by pod and by connection.
#[derive(Default)]
pub(super) struct Windows {
    pods: BTreeMap<PodId, (ArrayId, usize)>,
    peers: BTreeMap<ArrayId, usize>,
}

impl Windows {
    /// What a pod may have under way now.
    pub(super) fn share(&self, pod: PodId, peer: Option<ArrayId>) -> usize {
        let Some(peer) = peer else { return WINDOW_BYTES };
        let own = self.pods.get(&pod).filter(|(to, _)| *to == peer).map_or(0, |(_, bytes)| *bytes);
        let others = self.peers.get(&peer).map_or(0, |bytes| bytes - own);
        CONNECTION_WINDOW_BYTES.saturating_sub(others) / 2
    }

    /// What a pod has under way after a step.
    pub(super) fn note(&mut self, pod: PodId, peer: Option<ArrayId>, bytes: usize) {
        if let Some((before, bytes)) = self.pods.remove(&pod)
            && let Some(total) = self.peers.get_mut(&before)
        {
            *total -= bytes;
        }
        if let Some(peer) = peer.filter(|_| bytes > 0) {
            self.pods.insert(pod, (peer, bytes));
            *self.peers.entry(peer).or_default() += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: ArrayId = ArrayId([1; 16]);
    const ENTRY: usize = 1 << 20;

    fn pod(number: u8) -> PodId {
        PodId([number; 16])
    }

    /// Lets `count` pods send entries in turn until none may; gives what each has under way.
    fn fill(count: u8) -> Vec<usize> {
        let mut windows = Windows::default();
        let mut sent = vec![0; count.into()];
        loop {
            let before = sent.clone();
            for number in 0..count {
                let own = &mut sent[usize::from(number)];
                let share = windows.share(pod(number), Some(PEER));
                if (*own == 0 && share > 0) || *own + ENTRY <= share {
                    *own += ENTRY;
                    windows.note(pod(number), Some(PEER), *own);
                }
            }
            if sent == before {
                return sent;
            }
        }
    }

    #[test]
    fn any_number_of_busy_pods_stays_within_the_connections_window_and_shares_it() {
        assert_eq!(fill(1), [WINDOW_BYTES]);
        for count in [2, 3, 7, 40, 200] {
            let sent = fill(count);
            assert!(sent.iter().sum::<usize>() <= CONNECTION_WINDOW_BYTES + ENTRY, "{sent:?}");
            if count < 16 {
                let fair = CONNECTION_WINDOW_BYTES / (usize::from(count) + 1);
                assert!(sent.iter().all(|own| own + 2 * ENTRY > fair), "{sent:?}");
            }
        }
    }

    #[test]
    fn what_a_pod_got_back_others_may_have() {
        let mut windows = Windows::default();
        windows.note(pod(1), Some(PEER), WINDOW_BYTES);
        assert_eq!(windows.share(pod(2), Some(PEER)), WINDOW_BYTES / 2);
        assert_eq!(windows.share(pod(2), Some(ArrayId([2; 16]))), WINDOW_BYTES, "another connection");
        windows.note(pod(1), Some(PEER), 0);
        assert_eq!(windows.share(pod(2), Some(PEER)), WINDOW_BYTES);
    }
}
