//! Waiting for many futures at once, a bounded number at a time, and for nobody, without an executor of our own.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Reads in flight for one walk: where devices give most of their rate.
pub(crate) const READS_IN_FLIGHT: usize = 32;

/// Gives whoever polls a chance to do something else: a walk whose nodes are all cached would never end its turn.
pub(crate) async fn breathe() {
    let mut breathed = false;
    poll_fn(|context| {
        if std::mem::replace(&mut breathed, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs `futures`, at most `depth` at a time; the outputs are in the order of the futures.
pub(crate) async fn gather<F: Future>(futures: impl IntoIterator<Item = F>, depth: usize) -> Vec<F::Output> {
    let mut waiting = futures.into_iter().enumerate();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    let mut outputs: Vec<Option<F::Output>> = Vec::new();
    poll_fn(|context| {
        loop {
            while running.len() < depth
                && let Some((index, future)) = waiting.next()
            {
                running.push((index, Box::pin(future)));
                outputs.push(None);
            }
            let before = running.len();
            running.retain_mut(|(index, future)| match future.as_mut().poll(context) {
                Poll::Ready(output) => {
                    outputs[*index] = Some(output);
                    false
                }
                Poll::Pending => true,
            });
            if running.len() == before {
                return if running.is_empty() { Poll::Ready(()) } else { Poll::Pending };
            }
        }
    })
    .await;
    outputs.into_iter().map(|output| output.expect("every future has run to its end")).collect()
}
