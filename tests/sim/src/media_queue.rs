//! An array's media in virtual time: requests wait here until the simulator lets them happen.
//!
//! While the array opens, requests are answered at once: recovery is one event.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Completion, IoQueue, IoRequest};

/// See the module's text. Clones share the queue.
#[derive(Clone)]
pub struct MediaQueue {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    media: SimMedia,
    inline: bool,
    submitted: Vec<(IoRequest, Completion)>,
}

impl MediaQueue {
    /// A queue that answers at once.
    pub fn inline(media: SimMedia) -> MediaQueue {
        MediaQueue { inner: Arc::new(Mutex::new(Inner { media, inline: true, submitted: Vec::new() })) }
    }

    /// Whether requests are answered at once, or wait.
    pub fn set_inline(&self, inline: bool) {
        self.lock().inline = inline;
    }

    /// What was submitted since the last call.
    pub fn take(&self) -> Vec<(IoRequest, Completion)> {
        std::mem::take(&mut self.lock().submitted)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IoQueue for MediaQueue {
    fn submit(&self, request: IoRequest, completion: Completion) {
        let media = {
            let mut inner = self.lock();
            // Advice takes no time and nobody waits for it.
            if !inner.inline && !matches!(request, IoRequest::WillNeed { .. }) {
                inner.submitted.push((request, completion));
                return;
            }
            inner.media.clone()
        };
        completion.complete(request.run(&media));
    }
}
