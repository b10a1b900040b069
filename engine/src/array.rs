//! An array: opened from a directory, connected to others, asked for pods and volumes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metropod_core::names::{BadName, Name};
use metropod_core::operation::Manage;
use metropod_core::{
    AccountConfig, ArrayConfig, CollectConfig, Command, Input, ManageError as Refusal, Managed,
    OverlayLimits, ScrubConfig, ScrubRequest,
};
use metropod_dedupe::StoreConfig;
use metropod_journal::JournalConfig;
use metropod_journal::media::real::{OpenDirError, RealMedia};
use metropod_journal::media::{Io, Media};
use metropod_protocol::{ArrayId, Incarnation, PodId, RequestId, Settings};

use crate::boot;
use crate::driver::{Answer, Driver, Wait, block_on, now};
use crate::hub::Hub;
use crate::identity::{
    ConnectionKey, ConnectionKeyError, Identity, IdentityError, PeerKind, fill_random, is_name,
};
use crate::link::{self, Links, LinksConfig};
use crate::mediator::MediatorClientConfig;
use crate::superblock::{self, Superblock, SuperblockError};
use crate::volume::Volume;

/// Journal budget of [`Options::new`], in bytes.
pub const JOURNAL_BYTES_DEFAULT: u64 = 1 << 30;

/// Entries of [`Options::overlay_entries`] in [`Options::new`].
pub const OVERLAY_ENTRIES_DEFAULT: usize = metropod_core::OVERLAY_ENTRIES_DEFAULT;

/// Rate of [`Options::scrub_bytes_per_s`] in [`Options::new`].
pub const SCRUB_BYTES_PER_S_DEFAULT: u64 = metropod_core::SCRUB_BYTES_PER_S_DEFAULT;

/// Smallest journal budget, in bytes.
pub const JOURNAL_BYTES_MIN: u64 = 128 << 20;

/// Smallest capacity of an array, in bytes.
pub const CAPACITY_BYTES_MIN: u64 = 256 << 20;

/// How long [`Array::close`] waits for its last checkpoint.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(20);

/// How long the end of an array waits for its threads.
const THREADS_WITHIN: Duration = Duration::from_secs(10);

/// How an array is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// 1–63 letters, digits and `-`; unique among connected arrays.
    pub name: String,
    /// The array's own directory; made if missing.
    pub directory: PathBuf,
    /// Where other arrays connect; port 0 takes any.
    pub listen: SocketAddr,
    /// Where other arrays are told to connect; `None`: where they see this one.
    pub advertise: Option<SocketAddr>,
    /// The mediator.
    pub mediator: Option<SocketAddr>,
    /// Journal budget, at least [`JOURNAL_BYTES_MIN`], in bytes.
    pub journal_bytes: u64,
    /// What files of chunks may take, at least [`CAPACITY_BYTES_MIN`], in bytes; `None`: as much as the file system has.
    /// The journal, the index and the maps come on top. With a capacity the array collects in time; without one it
    /// notices only from failing writes that there is no room left.
    pub capacity_bytes: Option<u64>,
    /// Changed blocks kept in memory before they are folded into the volumes' trees, at about 40 bytes each. More of them
    /// cost fewer bytes on the device.
    pub overlay_entries: usize,
    /// How fast everything stored is read and proven, once a week or on request, in bytes per second.
    pub scrub_bytes_per_s: u64,
}

impl Options {
    /// An array named `name` in `directory`, listening on a loopback port of the system's choice, without a mediator.
    pub fn new(name: &str, directory: impl Into<PathBuf>) -> Options {
        Options {
            name: name.to_owned(),
            directory: directory.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            mediator: None,
            journal_bytes: JOURNAL_BYTES_DEFAULT,
            capacity_bytes: None,
            overlay_entries: OVERLAY_ENTRIES_DEFAULT,
            scrub_bytes_per_s: SCRUB_BYTES_PER_S_DEFAULT,
        }
    }
}

/// Why an array could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name breaks the rules.
    #[error("an array's name has 1 to 63 letters, digits or '-'; choose another with --name")]
    Name,
    /// The journal budget is too small.
    #[error("the journal needs at least 128 MiB; give it more with --journal-bytes")]
    JournalTooSmall,
    /// The capacity is too small.
    #[error("an array needs room for at least 256 MiB of chunks; give it more with --capacity")]
    CapacityTooSmall,
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] OpenDirError),
    /// The directory is not this array's.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What is stored cannot be used.
    #[error(transparent)]
    Core(#[from] metropod_core::OpenError),
    /// The links cannot start.
    #[error(transparent)]
    Links(#[from] link::StartError),
    /// The mediator client cannot start.
    #[error("cannot start the mediator client: {0}")]
    Mediator(std::io::Error),
    /// The system gave no random numbers, or the start counter cannot be kept.
    #[error("cannot start: {0}")]
    System(std::io::Error),
}

/// Why a management request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// A name breaks the rules.
    #[error(
        "names have 1 to 63 letters, digits or '-'; volumes are pod::volume, snapshots pod::volume.suffix"
    )]
    BadName,
    /// Source and target are in different pods.
    #[error("source and target are in different pods; copy within one pod")]
    OtherPod,
    /// No array of that name is connected.
    #[error("no array of that name is connected; see `metropod array connections`")]
    NoSuchArray,
    /// The array was closed here. What was asked may have happened or not.
    #[error("the array is closed")]
    Closed,
    /// The pod or array refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<BadName> for ManageError {
    fn from(_: BadName) -> ManageError {
        ManageError::BadName
    }
}

/// Why arrays could not be connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The key is no connection key.
    #[error(transparent)]
    Key(#[from] ConnectionKeyError),
    /// The other array cannot be reached or refused.
    #[error(transparent)]
    Link(#[from] link::ConnectError),
    /// The key could not be made.
    #[error("cannot make a connection key: {0}")]
    Issue(std::io::Error),
}

/// A running array. Clones are handles on the same array. It ends with [`Array::close`], or when the last handle is dropped: then
/// without a last checkpoint, so that the next open takes longer.
///
/// # Example
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir_in(".")?;
/// # let directory = home.path().join("a");
/// let options = metropod::Options { journal_bytes: 128 << 20, ..metropod::Options::new("A", directory) };
/// let array = metropod::Array::open(options)?;
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// array.create_pod("pod1").await?;
/// let volume = array.create_volume("pod1::vol1", 64 << 20).await?;
/// volume.write(4096, bytes::Bytes::from(vec![7; 4096])).await?;
/// assert_eq!(volume.read(4096, 512).await?, vec![7; 512]);
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// array.close();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Array {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) id: ArrayId,
    pub(crate) driver: Arc<Driver>,
    media: Arc<RealMedia>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) links: Mutex<Links>,
    pub(crate) address: SocketAddr,
    closed: Mutex<bool>,
}

impl Array {
    /// Opens the array in a directory, or makes a new one in an empty directory. Blocks for the recovery.
    pub fn open(options: Options) -> Result<Array, OpenError> {
        if !is_name(&options.name) {
            return Err(OpenError::Name);
        }
        if options.journal_bytes < JOURNAL_BYTES_MIN {
            return Err(OpenError::JournalTooSmall);
        }
        if options.capacity_bytes.is_some_and(|bytes| bytes < CAPACITY_BYTES_MIN) {
            return Err(OpenError::CapacityTooSmall);
        }
        superblock::check_foreign(&options.directory)?;
        let media = RealMedia::create(&options.directory)?;
        let identity = Arc::new(Identity::open_or_create(&options.directory)?);
        let superblock = Superblock { array: identity.id(), name: options.name.clone() };
        superblock::claim(&options.directory, &superblock)?;
        let incarnation = boot::next(&options.directory).map_err(OpenError::System)?;
        let config = core_config(&options, &identity)?;
        let media = Arc::new(media);
        let shared: Arc<dyn Media> = media.clone();
        let hub = Hub::new(identity.clone());
        let io = Io::inline(shared.clone());
        let core = block_on(metropod_core::Array::open(config, io, hub.clone(), now()))?;
        let driver = Driver::start(core, shared, hub.clone());
        hub.start(&driver);
        driver.recall();
        let links = match reach_out(&options, &identity, incarnation, &hub) {
            Ok(links) => links,
            Err(error) => {
                end(&driver, &hub, &media);
                return Err(error);
            }
        };
        let address = links.address();
        let inner = Inner {
            name: options.name,
            id: identity.id(),
            driver,
            media,
            hub,
            links: Mutex::new(links),
            address,
            closed: Mutex::new(false),
        };
        Ok(Array { inner: Arc::new(inner) })
    }

    /// Writes a last checkpoint and ends: when it returns, no thread of the array is at work and its directory can be opened again.
    ///
    /// Everything acknowledged is durable with or without the checkpoint. What is under way ends in [`ManageError::Closed`] or
    /// [`IoError::Closed`](crate::IoError::Closed): it may have happened or not, as with a crash, and never happens later. What is
    /// asked of handles afterwards ends so too. Blocks for at most 20 seconds for the checkpoint and 10 for the threads; if a
    /// thread hangs in the disk for longer, the directory stays locked until the process ends. A second call waits for the first.
    pub fn close(&self) {
        self.inner.end(true);
    }

    /// Gives back the space of everything that nothing refers to now: of what was overwritten, trimmed or eradicated. The
    /// array does so by itself when it is worth it; this does it at once, and ends when the files are gone.
    pub async fn collect(&self) -> Result<(), ManageError> {
        self.asked(|request| Input::Collect { request }).await.map(drop)
    }

    /// Begins to read and prove everything stored, beside what hosts do and no faster than [`Options::scrub_bytes_per_s`]; one
    /// that is under way goes on. [`Array::scrub`] tells how far it is. The array does so by itself once a week.
    pub async fn scrub_start(&self) -> Result<(), ManageError> {
        self.asked(|request| Input::Scrub { request, what: ScrubRequest::Start }).await.map(drop)
    }

    /// Stops it, if it is under way.
    pub async fn scrub_stop(&self) -> Result<(), ManageError> {
        self.asked(|request| Input::Scrub { request, what: ScrubRequest::Stop }).await.map(drop)
    }

    /// Address other arrays connect to.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Makes a pod on this array alone.
    pub async fn create_pod(&self, name: &str) -> Result<(), ManageError> {
        let name = Name::new(name)?;
        let mut id = [0; 16];
        fill_random(&mut id).map_err(|_| Refusal::Media)?;
        self.manage(Command::CreatePod { pod: PodId(id), name }).await.map(drop)
    }

    /// Sets which array goes on when both could; `None`: whoever is first.
    pub async fn set_preference(&self, pod: &str, array: Option<&str>) -> Result<(), ManageError> {
        let array = match array {
            Some(name) => Some(self.array_named(name)?),
            None => None,
        };
        let pod = self.pod_id(pod)?;
        self.manage(Command::Change { pod, change: Manage::SetPreference(array) }).await.map(drop)
    }

    /// Stretches a pod to a connected array. Returns once both know of it; [`Array::pods`] shows the baseline's progress.
    pub async fn stretch(&self, pod: &str, array: &str) -> Result<(), ManageError> {
        let peer = self.array_named(array)?;
        let pod = self.pod_id(pod)?;
        self.manage(Command::Stretch { pod, peer }).await.map(drop)
    }

    /// Lets an array of a stretched pod order its writes, which spares its hosts a way to the other array and back. Both have to be
    /// online. [`Array::pods`] shows when it does.
    pub async fn switch(&self, pod: &str, to: &str) -> Result<(), ManageError> {
        let to = self.array_named(to)?;
        let pod = self.pod_id(pod)?;
        self.manage(Command::Switch { pod, to }).await.map(drop)
    }

    /// Takes a stretched pod from one of its arrays: the other goes on alone, and the copy of the one that leaves becomes a
    /// destroyed pod of its own there, called `<pod>-left`. Asked of either array; returns once both know of it, or the one that
    /// stays, if the other is not heard and `with_unknown` says that this is meant. [`Array::pods`] shows when it is done.
    pub async fn unstretch(&self, pod: &str, from: &str, with_unknown: bool) -> Result<(), ManageError> {
        let from = self.array_named(from)?;
        let pod = self.pod_id(pod)?;
        self.manage(Command::Unstretch { pod, from, with_unknown }).await.map(drop)
    }

    /// Makes an empty volume. `name` is `pod::volume`, the size a multiple of 512 bytes.
    pub async fn create_volume(&self, name: &str, size_bytes: u64) -> Result<Volume, ManageError> {
        let (pod_name, volume) = split_volume(name)?;
        let pod = self.pod_id(pod_name)?;
        let change = Manage::CreateVolume { name: Name::new(volume)?, size_bytes };
        self.manage(Command::Change { pod, change }).await?;
        self.volume(name)
    }

    /// Takes a snapshot of a volume (`pod::volume`) or of all volumes of a pod (`pod`) in one cut. Gives the names.
    pub async fn create_snapshot(&self, of: &str, suffix: Option<&str>) -> Result<Vec<String>, ManageError> {
        let (pod_name, volume) = match of.split_once("::") {
            Some((pod, volume)) => (pod, Some(Name::new(volume)?)),
            None => (of, None),
        };
        let pod = self.pod_id(pod_name)?;
        let suffix = match suffix {
            Some(suffix) => Name::new(suffix)?,
            None => Name::new(&format!("s{}", now().0 / 1_000_000))?,
        };
        let change = Manage::CreateSnapshot { volume, suffix: suffix.clone() };
        let managed = self.manage(Command::Change { pod, change }).await?;
        let Managed::Snapshots(taken) = managed else { return Ok(Vec::new()) };
        Ok(self.inner.driver.look(|array| {
            let Some(found) = array.pod(pod) else { return Vec::new() };
            let namespace = found.namespace();
            taken
                .iter()
                .filter_map(|id| namespace.volumes.get(&id.volume))
                .map(|volume| format!("{}::{}.{}", namespace.name, volume.name, suffix))
                .collect()
        }))
    }

    /// Makes a volume with the content of a volume (`pod::volume`) or snapshot (`pod::volume.suffix`) of the same pod.
    pub async fn clone_volume(&self, source: &str, name: &str) -> Result<Volume, ManageError> {
        let (pod_name, source) = split_volume(source)?;
        let (source, suffix) = match source.split_once('.') {
            Some((source, suffix)) => (source, Some(Name::new(suffix)?)),
            None => (source, None),
        };
        let (target_pod, volume) = split_volume(name)?;
        let pod = self.pod_id(pod_name)?;
        if self.pod_id(target_pod)? != pod {
            return Err(ManageError::OtherPod);
        }
        let change = Manage::CloneVolume { source: Name::new(source)?, suffix, name: Name::new(volume)? };
        self.manage(Command::Change { pod, change }).await?;
        self.volume(name)
    }

    /// The volume called `pod::volume`.
    pub fn volume(&self, name: &str) -> Result<Volume, ManageError> {
        let (pod_name, volume) = split_volume(name)?;
        let (pod_name, volume) = (Name::new(pod_name)?, Name::new(volume)?);
        let found = self.inner.driver.look(|array| {
            let pod = array.pod_named(&pod_name).ok_or(Refusal::NoSuchPod)?;
            let (id, volume) = pod.namespace().volume(&volume).ok_or(Refusal::NoSuchVolume)?;
            if !pod.namespace().is_in_use(id) {
                return Err(Refusal::Destroyed);
            }
            Ok((pod.id(), id, volume.size_bytes))
        })?;
        Ok(Volume::new(self.inner.driver.clone(), found.0, found.1, found.2))
    }

    /// A one-time key with which one other array can connect to this one within ten minutes.
    pub fn connection_key(&self) -> Result<String, ConnectError> {
        let links = self.inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(links.issue_key().map_err(ConnectError::Issue)?.to_string())
    }

    /// Connects to the array at `address` that issued `key`; gives its name. Blocks for some seconds at most.
    pub fn connect(&self, address: SocketAddr, key: &str) -> Result<String, ConnectError> {
        let key: ConnectionKey = key.parse()?;
        let links = self.inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(links.connect(&address.to_string(), &key, PeerKind::Sync)?.name)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) async fn manage(&self, command: Command) -> Result<Managed, ManageError> {
        self.asked(|request| Input::Manage { request, command }).await
    }

    pub(crate) async fn asked(&self, input: impl FnOnce(RequestId) -> Input) -> Result<Managed, ManageError> {
        let started = self.inner.driver.start_request(input);
        if let Some(append) = started.append {
            self.inner.driver.hand_over(append);
        }
        match Wait(&started.reply).await {
            Answer::Managed(result) => Ok(result?),
            Answer::Closed => Err(ManageError::Closed),
            Answer::Host(_) | Answer::Fetch(_) => Err(Refusal::Media.into()),
        }
    }

    pub(crate) fn pod_id(&self, name: &str) -> Result<PodId, ManageError> {
        let name = Name::new(name)?;
        let id = self.inner.driver.look(|array| array.pod_named(&name).map(metropod_core::Pod::id));
        Ok(id.ok_or(Refusal::NoSuchPod)?)
    }

    fn array_named(&self, name: &str) -> Result<ArrayId, ManageError> {
        if self.inner.name.eq_ignore_ascii_case(name) {
            return Ok(self.inner.id);
        }
        self.peer_names()
            .into_iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(name))
            .map(|(id, _)| id)
            .ok_or(ManageError::NoSuchArray)
    }

    pub(crate) fn peer_names(&self) -> BTreeMap<ArrayId, String> {
        let links = self.inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.peers().into_iter().map(|status| (status.peer.id, status.peer.name)).collect()
    }
}

impl Inner {
    fn end(&self, with_checkpoint: bool) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *closed, true) {
            return;
        }
        if with_checkpoint {
            let started = self.driver.start_request(|request| Input::Checkpoint { request });
            if let Some(append) = started.append {
                self.driver.hand_over(append);
            }
            started.reply.wait_for(CHECKPOINT_WITHIN);
        }
        self.links.lock().unwrap_or_else(PoisonError::into_inner).stop();
        end(&self.driver, &self.hub, &self.media);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// Listens, dials, and asks the mediator.
fn reach_out(
    options: &Options,
    identity: &Arc<Identity>,
    incarnation: Incarnation,
    hub: &Arc<Hub>,
) -> Result<Links, OpenError> {
    let peers = options.directory.join("peers");
    let links = Links::start(
        LinksConfig {
            listen: options.listen,
            advertise: options.advertise.map(|address| address.to_string()),
            ..LinksConfig::new(identity.clone(), incarnation, &options.name, peers)
        },
        hub.sink(),
    )?;
    if let Some(address) = options.mediator {
        let (identity, name) = (identity.clone(), options.name.clone());
        let config = MediatorClientConfig { identity, incarnation, name, address: address.to_string() };
        hub.start_mediator(config).map_err(OpenError::Mediator)?;
    }
    Ok(links)
}

/// Ends what runs behind an array whose links are stopped, and lets the directory go once nothing can write to it.
fn end(driver: &Driver, hub: &Hub, media: &RealMedia) {
    hub.stop();
    if driver.stop(THREADS_WITHIN) {
        media.release();
    } else {
        tracing::error!("a thread hangs in the disk; the directory stays locked until the process ends");
    }
}

impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Array({}, {:?})", self.inner.name, self.inner.id)
    }
}

pub(crate) fn core_config(options: &Options, identity: &Identity) -> Result<ArrayConfig, OpenError> {
    let mut seed = [0; 32];
    fill_random(&mut seed).map_err(OpenError::System)?;
    let mut salt = [0; 8];
    fill_random(&mut salt).map_err(OpenError::System)?;
    let me = identity.id();
    let journal = JournalConfig {
        budget_bytes: options.journal_bytes,
        ..JournalConfig::new(me.0, u64::from_le_bytes(salt))
    };
    let overlay = OverlayLimits { entries_max: options.overlay_entries, ..OverlayLimits::default() };
    Ok(ArrayConfig {
        me,
        journal,
        store: StoreConfig {
            capacity_bytes: options.capacity_bytes.unwrap_or(u64::MAX),
            ..StoreConfig::new(me.0)
        },
        overlay,
        settings: Settings::default(),
        collect: CollectConfig::default(),
        scrub: ScrubConfig { bytes_per_s: options.scrub_bytes_per_s, ..ScrubConfig::default() },
        account: AccountConfig::default(),
        seed,
    })
}

fn split_volume(name: &str) -> Result<(&str, &str), ManageError> {
    name.split_once("::").ok_or(ManageError::BadName)
}
