//! When it is counted whose the space is.
//!
//! ```text
//! Idle ── asked, or due ──► Walking: everything frozen in one step, flow counts ──► Idle, with an account of that step
//! ```
//! - M1: what is counted is frozen content that was given out, so nothing of it is collected meanwhile; passes, checkpoints and
//!   folds go on.
//! - M2: a walk by itself is due after a pass, or when something changed and [`AccountConfig::every`] is over; and it rests
//!   [`REST_FACTOR`] times as long as the last one took.
//! - M3: an account that was asked for begins after the asking.

use std::collections::BTreeMap;
use std::sync::Arc;

use metropod_protocol::{RequestId, Span, Time};
use metropod_snapshots::Image;

use super::Array;
use crate::door::{Alarm, Effect, ManageError, Managed};
use crate::names::{SnapshotId, VolumeId};
use crate::pod::Pod;
use crate::space_account::{Owned, OwnedVolume, SpaceAccount, account};
use crate::task::{Finished, FlowError};

/// A walk rests so many times as long as it took.
const REST_FACTOR: u64 = 100;

/// Time between walks of [`AccountConfig::default`]: a quarter of an hour.
const EVERY_DEFAULT: Span = Span::millis(15 * 60 * 1_000);

/// The first walk after a start waits so long, if what lies between walks is longer: users see figures soon.
const FIRST_AFTER: Span = Span::millis(30_000);

/// How long a walk that failed rests.
const FAILED_REST: Span = Span::millis(30_000);

/// When an array counts whose its space is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountConfig {
    /// From the end of one to the next while things change; `None`: only on request.
    pub every: Option<Span>,
}

impl Default for AccountConfig {
    fn default() -> AccountConfig {
        AccountConfig { every: Some(EVERY_DEFAULT) }
    }
}

/// What counting has come to since the array was opened.
#[derive(Debug, Clone, Default)]
pub struct Accounted {
    /// The newest account, and of when it is; `None`: there is none yet.
    pub newest: Option<(Time, Arc<SpaceAccount>)>,
    /// Walks that ended well.
    pub finished: u64,
    /// Walks that failed.
    pub failed: u64,
    /// Requests that were answered, well or not.
    pub answered: u64,
    /// How long the last walk took.
    pub last: Span,
}

/// State of the counting.
pub(super) struct Accounting {
    walking: bool,
    /// Who wants an account that begins from now on.
    asked: Vec<RequestId>,
    /// Who waits for the walk under way.
    waiting: Vec<RequestId>,
    /// Something was applied, or collected, since the last walk began.
    changed: bool,
    began: Time,
    /// No walk begins before.
    rests_until: Time,
    /// When one is due by itself, if something changed.
    due: Option<Time>,
    done: Accounted,
}

impl Accounting {
    pub(super) fn new(now: Time, config: &AccountConfig) -> Accounting {
        Accounting {
            walking: false,
            asked: Vec::new(),
            waiting: Vec::new(),
            changed: true,
            began: now,
            rests_until: now,
            due: config.every.map(|every| now + every.min(FIRST_AFTER)),
            done: Accounted::default(),
        }
    }

    pub(super) fn is_walking(&self) -> bool {
        self.walking
    }

    /// When the core has to be stepped for it.
    pub(super) fn due_at(&self) -> Option<Time> {
        if self.walking {
            return None;
        }
        if !self.asked.is_empty() {
            return Some(self.rests_until);
        }
        self.due.filter(|_| self.changed).map(|due| due.max(self.rests_until))
    }

    pub(super) fn applied(&mut self) {
        self.changed = true;
    }

    /// A pass has ended: what it found is out of the account.
    pub(super) fn collected(&mut self) {
        self.changed = true;
        self.due = self.due.map(|_| self.rests_until);
    }
}

impl Array {
    /// Whose the space is, as of when that was last counted.
    pub fn accounted(&self) -> &Accounted {
        &self.accounting.done
    }

    pub(super) fn account_for(&mut self, request: RequestId) {
        // Who asks does not wait because the last walk was long; but what failed is not tried again at once.
        if self.accounting.done.newest.is_some() {
            self.accounting.rests_until = Time(0);
        }
        self.accounting.asked.push(request);
    }

    /// When a walk is due: a pass that was asked for waits for one under way, not for one after the other.
    pub(super) fn account_due_at(&self) -> Option<Time> {
        self.accounting.due_at().filter(|_| !self.collection.is_asked())
    }

    /// Begins a walk, if it is time.
    pub(super) fn account(&mut self, now: Time) {
        if self.account_due_at().is_none_or(|due_at| now < due_at) {
            return;
        }
        let owned = self.owned();
        let accounting = &mut self.accounting;
        (accounting.walking, accounting.changed, accounting.began) = (true, false, now);
        accounting.waiting.append(&mut accounting.asked);
        let volumes = owned.volumes.iter();
        let images = volumes.flat_map(|volume| {
            let snapshots = volume.snapshots.iter().map(|(_, image)| image.clone());
            snapshots.chain([volume.live.clone()])
        });
        // M1: also what pods hold now and may let go of.
        let images: Vec<Image> = images.chain(owned.held.iter().cloned()).collect();
        let given_out = self.frozen.give(images);
        let store = self.store.clone();
        self.run("account", async move {
            let counted = account(&owned, &store).await;
            drop((owned, given_out));
            Finished::Accounted(counted.map(Box::new))
        });
    }

    /// Everything that reaches something now.
    fn owned(&mut self) -> Owned {
        let mut owned = Owned {
            pods: self.pods.keys().copied().collect(),
            volumes: Vec::new(),
            held: self.frozen.images(),
        };
        for pod in self.pods.values_mut() {
            // What a round builds and cannot be told yet is nobody's for now, and so unattributed.
            let _is_told = pod.add_held(&mut owned.held);
            owned.volumes.extend(pod.owned_volumes());
        }
        owned
    }

    pub(super) fn accounted_for(&mut self, now: Time, result: Result<Box<SpaceAccount>, FlowError>) {
        let accounting = &mut self.accounting;
        accounting.walking = false;
        let took = now.since(accounting.began);
        accounting.done.last = took;
        let answer = match result {
            Ok(account) => {
                accounting.done.finished += 1;
                accounting.done.newest = Some((accounting.began, Arc::new(*account)));
                accounting.rests_until = now + Span(took.0.saturating_mul(REST_FACTOR));
                Ok(Managed::Done)
            }
            Err(_) => {
                accounting.done.failed += 1;
                accounting.changed = true;
                accounting.rests_until = now + FAILED_REST;
                self.effects.push_back(Effect::Alarm(Alarm::FlowFailed { flow: "account" }));
                Err(ManageError::Media)
            }
        };
        accounting.due = self.config.account.every.map(|every| now + every);
        self.collection.review();
        for request in std::mem::take(&mut self.accounting.waiting) {
            self.accounting.done.answered += 1;
            self.managed(request, answer.clone());
        }
    }
}

impl Pod {
    /// All volumes as they are now, each with its snapshots.
    fn owned_volumes(&mut self) -> Vec<OwnedVolume> {
        let pod = self.id;
        let frozen = self.freeze();
        let mut snapshots: BTreeMap<VolumeId, Vec<(SnapshotId, Image)>> = BTreeMap::new();
        for (id, image) in frozen.snapshots {
            snapshots.entry(id.volume).or_default().push((id, image));
        }
        let volumes = frozen.volumes.into_iter();
        let volumes = volumes.map(|(id, live)| OwnedVolume {
            pod,
            id,
            live,
            snapshots: snapshots.remove(&id).unwrap_or_default(),
        });
        volumes.collect()
    }
}
