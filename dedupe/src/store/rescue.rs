//! Chunks that are lost here and may be had elsewhere.
//!
//! Comes in: a name whose content cannot be read here. Goes out: the content, proven, and staged to take the place of what
//! is lost.
//!
//! - E1: what the rescuer brings counts only if it has the digest in the domain; nothing else is staged or given out.
//! - E2: without a rescuer, or if it brings nothing, the reader hears what was wrong here.
//! - E3: what is given to another array ([`Store::get_proven`]) is proven, and never fetched from a third.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use metropod_journal::media::{Cause, MediaError};

use super::{ReadError, Store};
use crate::digest::{Digest, Domain};
use crate::reduce::{Payload, verify};

/// What a rescuer brings, if it brings something.
pub type Rescued = Pin<Box<dyn Future<Output = Option<(Domain, Payload)>> + Send>>;

/// Where chunks may be had that are lost here.
pub trait Rescue: Send + Sync + 'static {
    /// Fetches a chunk; ends within a bounded time, with `None` if nobody has it.
    fn fetch(&self, digest: Digest) -> Rescued;
}

impl Store {
    /// Says who is asked for what is lost; the first one said stays.
    pub fn set_rescue(&self, rescue: Arc<dyn Rescue>) {
        let _stays = self.shared.rescue.set(rescue);
    }

    /// Fetches what cannot be read here (E1); `error` if that is in vain.
    pub(super) async fn rescued(
        &self,
        domain: Domain,
        digest: &Digest,
        error: ReadError,
    ) -> Result<(Bytes, Payload), ReadError> {
        let is_lost = match error {
            ReadError::Missing { .. } | ReadError::Rot { .. } | ReadError::IndexDamaged { .. } => true,
            ReadError::Media { source, .. } => is_rot(source),
        };
        let rescue = self.shared.rescue.get().filter(|_| is_lost && !digest.is_zero()).ok_or(error)?;
        let (_, payload) = rescue.fetch(*digest).await.ok_or(error)?;
        let content = verify(domain, digest, &payload).map_err(|_| error)?;
        self.replace(domain, *digest, payload.clone());
        Ok((content, payload))
    }

    /// Fetches anew what was found rotten on the disk, whether or not a cache still holds it; whether that was done.
    pub(super) async fn mend(&self, digest: &Digest) -> bool {
        // Fetched already, and on its way to the disk.
        let staged = self.lock().staged.get(digest).map(|staged| (staged.domain, staged.payload.clone()));
        if let Some((domain, payload)) = staged
            && verify(domain, digest, &payload).is_ok()
        {
            self.replace(domain, *digest, payload);
            return true;
        }
        let Some(rescue) = self.shared.rescue.get() else { return false };
        let Some((domain, payload)) = rescue.fetch(*digest).await else { return false };
        if verify(domain, digest, &payload).is_err() {
            return false;
        }
        self.replace(domain, *digest, payload);
        true
    }

    /// A chunk as it is stored here and the domain that its name is of, proven; for another array (E3).
    pub async fn get_proven(&self, digest: &Digest) -> Result<(Domain, Payload), ReadError> {
        let staged = self.lock().staged.get(digest).map(|staged| (staged.domain, staged.payload.clone()));
        if let Some((domain, payload)) = staged {
            let proven = verify(domain, digest, &payload);
            return proven
                .map(|_| (domain, payload))
                .map_err(|_| ReadError::Rot { digest: *digest, location: None });
        }
        let location = self.locate(digest).await?.ok_or(ReadError::Missing { digest: *digest })?;
        let rot = ReadError::Rot { digest: *digest, location: Some(location) };
        let (header, payload) = self.read_any_record(location).await.map_err(|_| rot)?;
        verify(header.domain, digest, &payload).map_err(|_| rot)?;
        Ok((header.domain, payload))
    }
}

/// Whether this is the device saying that it has lost what lies there.
pub(super) fn is_rot(error: MediaError) -> bool {
    matches!(error.cause, Cause::Device(_) | Cause::PastEnd)
}
