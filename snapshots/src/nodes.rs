//! Reading nodes of the tree through a small cache.
//!
//! - N1: the cache is never locked across an await.
//! - N2: it holds at most its capacity, in two generations: what was not used while one generation filled goes.
//! - N3: entries are keyed by level and digest; a name is never answered in another level's domain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metropod_dedupe::Digest;
use rustc_hash::FxHashMap;

use crate::gather::{READS_IN_FLIGHT, gather};
use crate::store::NodeStore;
use crate::tree::Node;

/// A cache of 16 MiB: enough for the upper levels of a few TiB.
pub const CACHE_NODES_DEFAULT: usize = 4096;

/// Why a map could not be read or written through its tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError<E: std::error::Error + 'static> {
    /// The store did not give a node: repair it from the peer, or the device failed.
    #[error("node {digest:?} of level {level} cannot be read")]
    Node {
        /// Level of the node; leaves have 0.
        level: u8,
        /// Its name.
        digest: Digest,
        /// What the store said.
        #[source]
        source: E,
    },
    /// What the store gave has not the length of a node: the tree was built by something else.
    #[error("node {digest:?} of level {level} is {bytes} bytes long")]
    Malformed {
        /// Level of the node; leaves have 0.
        level: u8,
        /// Its name.
        digest: Digest,
        /// Length of what is stored under that name.
        bytes: usize,
    },
    /// The store could not write out staged nodes.
    #[error("staged nodes cannot be written out")]
    Stage {
        /// What the store said.
        #[source]
        source: E,
    },
}

/// A node, for a walk that will not want it again.
pub(crate) async fn read_past_cache<S: NodeStore>(
    store: &S,
    level: u8,
    digest: Digest,
) -> Result<Node, MapError<S::Error>> {
    let content = store.node(level, digest).await;
    let content = content.map_err(|source| MapError::Node { level, digest, source })?;
    let bytes = content.len();
    Node::from_content(content).ok_or(MapError::Malformed { level, digest, bytes })
}

/// A handle on the nodes of all volumes of an array; clones share the cache.
#[derive(Debug, Clone)]
pub struct Nodes<S> {
    store: S,
    cache: Arc<Mutex<Cache>>,
}

impl<S: NodeStore> Nodes<S> {
    /// Nodes of `store`, with the default cache.
    pub fn new(store: S) -> Nodes<S> {
        Nodes::with_capacity(store, CACHE_NODES_DEFAULT)
    }

    /// Nodes of `store` with a cache of at most `capacity` nodes of 4 KiB.
    pub fn with_capacity(store: S, capacity: usize) -> Nodes<S> {
        let cache = Cache { capacity, young: FxHashMap::default(), old: FxHashMap::default() };
        Nodes { store, cache: Arc::new(Mutex::new(cache)) }
    }

    /// The store behind.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Nodes in the cache.
    pub fn cached(&self) -> usize {
        let cache = self.cache();
        cache.young.len() + cache.old.len()
    }

    pub(crate) async fn get(&self, level: u8, digest: Digest) -> Result<Node, MapError<S::Error>> {
        if let Some(node) = self.cache().get(level, digest) {
            return Ok(node);
        }
        let content = self.store.node(level, digest).await.map_err(|source| MapError::Node {
            level,
            digest,
            source,
        })?;
        let bytes = content.len();
        let node = Node::from_content(content).ok_or(MapError::Malformed { level, digest, bytes })?;
        self.cache().put(level, digest, node.clone());
        Ok(node)
    }

    /// A node, if it is in the cache.
    pub(crate) fn get_cached(&self, level: u8, digest: Digest) -> Option<Node> {
        self.cache().get(level, digest)
    }

    /// Many nodes of one level, read side by side; in the order asked for.
    pub(crate) async fn get_all(
        &self,
        level: u8,
        digests: &[Digest],
    ) -> Result<Vec<Node>, MapError<S::Error>> {
        let missing = self.cache().missing(level, digests);
        if missing.len() > 1 {
            self.store.will_read(&missing);
        }
        let reads = digests.iter().copied().map(|digest| self.get(level, digest));
        gather(reads, READS_IN_FLIGHT).await.into_iter().collect()
    }

    /// Stages a node and keeps it in the cache: the next fold or read will want it.
    pub(crate) fn stage(&self, level: u8, digest: Digest, node: Node) {
        self.store.stage_node(level, digest, node.content().clone());
        self.cache().put(level, digest, node);
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Cache {
    capacity: usize,
    young: FxHashMap<(u8, Digest), Node>,
    old: FxHashMap<(u8, Digest), Node>,
}

impl Cache {
    fn get(&mut self, level: u8, digest: Digest) -> Option<Node> {
        if let Some(node) = self.young.get(&(level, digest)) {
            return Some(node.clone());
        }
        let node = self.old.remove(&(level, digest))?;
        self.put(level, digest, node.clone());
        Some(node)
    }

    fn missing(&self, level: u8, digests: &[Digest]) -> Vec<Digest> {
        let is_missing = |digest: &&Digest| {
            let key = (level, **digest);
            !self.young.contains_key(&key) && !self.old.contains_key(&key)
        };
        digests.iter().filter(is_missing).copied().collect()
    }

    fn put(&mut self, level: u8, digest: Digest, node: Node) {
        let generation = self.capacity / 2;
        if generation == 0 {
            return;
        }
        if self.young.len() >= generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert((level, digest), node);
    }
}
