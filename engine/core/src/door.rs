//! What goes into an array's core and what comes out of it.
//!
//! - D1: effects are performed in the order in which they come out, as far as they go to one place (one link, the
//!   journal, one mediator session); different places are independent.
//! - D2: every [`Input::Host`], [`Input::Read`] and [`Input::Manage`] is answered exactly once, or stays open for as
//!   long as the pod is paused; [`Input::Withdraw`] hurries the answer.
//! - D3: nothing here blocks: media, links and mediator are reached through effects, their answers are inputs.

use bytes::Bytes;
use metropod_dedupe::{Digest, SegmentId, segment_path};
use metropod_journal::Append;
use metropod_journal::media::MediaError;
use metropod_protocol::mediator::{MediatorReply, MediatorRequest, Statement};
use metropod_protocol::{ArrayId, MediatorId, PodId, RequestId};

use crate::fetch::Fetch;
use crate::frozen::Frozen;
use crate::names::{Name, SnapshotId, VolumeId};
use crate::operation::Operation;
use crate::task::{Finished, Task};

/// Which of the two connections to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Session frames and heartbeats.
    Sync,
    /// Transfer.
    Bulk,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A deadline passed.
    Tick,
    /// A host operation, already cut, hashed and reduced. Answered by [`Effect::Complete`].
    Host {
        /// From [`crate::Array::next_request`].
        request: RequestId,
        /// The pod.
        pod: PodId,
        /// `Write` or `Zero`.
        operation: Operation,
    },
    /// A read. Answered by [`Effect::Fetch`] or by [`Effect::Complete`] with an error.
    Read {
        /// From [`crate::Array::next_request`].
        request: RequestId,
        /// The pod.
        pod: PodId,
        /// What to read.
        source: Source,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Whether it counts against the volume's limits: a host's read does, a look at the map does not.
        metered: bool,
    },
    /// The requester is gone.
    Withdraw {
        /// The pod.
        pod: PodId,
        /// Which request.
        request: RequestId,
    },
    /// A management request. Answered by [`Effect::Managed`].
    Manage {
        /// From [`crate::Array::next_request`].
        request: RequestId,
        /// What is asked.
        command: Command,
    },
    /// Writes a checkpoint now; answered by [`Effect::Managed`] with [`Managed::Done`].
    Checkpoint {
        /// From [`crate::Array::next_request`].
        request: RequestId,
    },
    /// Gives back the space of what nothing refers to now; answered by [`Effect::Managed`] with [`Managed::Done`] when the
    /// files are gone.
    Collect {
        /// From [`crate::Array::next_request`].
        request: RequestId,
    },
    /// Counts whose the space is; answered by [`Effect::Managed`] with [`Managed::Done`] when [`crate::Array::accounted`] has it.
    Account {
        /// From [`crate::Array::next_request`].
        request: RequestId,
    },
    /// Begins or stops reading and proving everything stored; answered at once by [`Effect::Managed`] with
    /// [`Managed::Done`]. [`crate::Array::scrub_progress`] tells the rest.
    Scrub {
        /// From [`crate::Array::next_request`].
        request: RequestId,
        /// What is asked.
        what: ScrubRequest,
    },
    /// A journal append ended.
    Appended {
        /// [`Append::id`].
        id: u64,
        /// How.
        result: Result<(), MediaError>,
    },
    /// A task ended.
    Finished(Finished),
    /// A connection to an array is up (a new one, if it was up before).
    LinkUp {
        /// Whose.
        peer: ArrayId,
        /// Which.
        channel: Channel,
    },
    /// It is closed.
    LinkDown {
        /// Whose.
        peer: ArrayId,
        /// Which.
        channel: Channel,
    },
    /// A frame from an array, authenticated, in order.
    Frame {
        /// Whose.
        peer: ArrayId,
        /// On which connection.
        channel: Channel,
        /// Its payload.
        payload: Bytes,
    },
    /// A session with the mediator is open.
    MediatorUp {
        /// Whose.
        mediator: MediatorId,
    },
    /// It is gone.
    MediatorDown,
    /// A reply from the mediator.
    MediatorReply(MediatorReply),
    /// Answers [`Effect::Sign`].
    Signed {
        /// Whose machine asked.
        pod: PodId,
        /// What was signed.
        statement: Statement,
        /// With the array's key.
        signature: Bytes,
    },
}

/// What is asked of the scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrubRequest {
    /// To begin; one that is under way goes on.
    Start,
    /// To stop, if one is under way.
    Stop,
}

/// What a read reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A volume's present content.
    Volume(VolumeId),
    /// A snapshot.
    Snapshot(SnapshotId),
}

/// Something to do.
pub enum Effect {
    /// Write to the journal: one direct, durable write. Answered by [`Input::Appended`].
    Append(Append),
    /// Run a flow to its end. Answered by [`Input::Finished`].
    Run(Task),
    /// Send a frame whose payload is the parts one after another.
    Send {
        /// To whom.
        peer: ArrayId,
        /// On which connection.
        channel: Channel,
        /// The payload.
        parts: Vec<Bytes>,
    },
    /// Send to the mediator.
    Mediator(MediatorRequest),
    /// Sign with the array's key; answered by [`Input::Signed`].
    Sign {
        /// Whose machine asks.
        pod: PodId,
        /// What to sign.
        statement: Statement,
    },
    /// A read may fetch its data now, with or without the core.
    Fetch {
        /// The read.
        request: RequestId,
        /// Where the data is.
        fetch: Box<Fetch>,
    },
    /// A host operation ended (or a read was refused).
    Complete {
        /// Which.
        request: RequestId,
        /// How.
        result: Result<(), HostError>,
    },
    /// A management request ended.
    Managed {
        /// Which.
        request: RequestId,
        /// How.
        result: Result<Managed, ManageError>,
    },
    /// Status of a pod changed.
    StatusChanged {
        /// Which.
        pod: PodId,
    },
    /// Close a connection: what came on it makes no sense. [`Input::LinkDown`] follows, if it is still the same.
    Disconnect {
        /// Whose.
        peer: ArrayId,
        /// Which.
        channel: Channel,
    },
    /// Somebody should look.
    Alarm(Alarm),
}

/// A management request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Makes a pod on this array alone.
    CreatePod {
        /// Its id, random.
        pod: PodId,
        /// Its name.
        name: Name,
    },
    /// Changes a pod's namespace.
    Change {
        /// The pod.
        pod: PodId,
        /// The change.
        change: crate::operation::Manage,
    },
    /// Takes something of a pod, or the pod, out of use.
    Destroy {
        /// The pod.
        pod: PodId,
        /// What.
        target: crate::operation::Target,
        /// For a pod: even if it holds volumes.
        contents: bool,
    },
    /// Moves a volume and its snapshots to another pod of this array.
    Move {
        /// The pod that it leaves.
        pod: PodId,
        /// The volume.
        volume: VolumeId,
        /// The pod that it goes to.
        to: PodId,
    },
    /// Freezes content as this array shows it now, all in one instant. No entry: nothing of it outlives the answer.
    Freeze {
        /// The pod.
        pod: PodId,
        /// What.
        contents: Vec<crate::operation::Content>,
    },
    /// Stretches a pod to a connected array.
    Stretch {
        /// The pod.
        pod: PodId,
        /// The joiner.
        peer: ArrayId,
    },
    /// Lets the other array of a stretched pod order, or this one.
    Switch {
        /// The pod.
        pod: PodId,
        /// The array that is to order.
        to: ArrayId,
    },
    /// Takes a stretched pod from one of its arrays.
    Unstretch {
        /// The pod.
        pod: PodId,
        /// The array that is to hold it no more: this one or the other.
        from: ArrayId,
        /// Also if the other array is not heard, so that nobody knows what it does with its copy until it is back.
        with_unknown: bool,
    },
}

/// The result of a management request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Managed {
    /// A volume was made.
    Volume(VolumeId),
    /// Snapshots were taken.
    Snapshots(Vec<SnapshotId>),
    /// Frozen content; it stays readable until the last handle on it is dropped.
    Images(std::sync::Arc<Frozen>),
    /// Done.
    Done,
}

/// Why a host operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// This array is offline or behind for the pod.
    #[error("the pod is offline at this array; use the other array")]
    Offline,
    /// The pod was paused for longer than the hold time.
    #[error("the pod is suspended at this array; the path is down")]
    Suspended,
    /// No such volume here.
    #[error("no such volume")]
    NoSuchVolume,
    /// The volume, snapshot or pod is destroyed, or the volume is on its way to another pod.
    #[error("the volume is destroyed, or moves to another pod")]
    Destroyed,
    /// The range reaches past the end.
    #[error("the range reaches past the end of the volume")]
    OutOfRange,
    /// The array has no space.
    #[error("the array is out of space")]
    NoSpace,
    /// The request is too long or too many wait.
    #[error("too many requests wait")]
    Busy,
    /// It was withdrawn.
    #[error("withdrawn before it was ordered")]
    Withdrawn,
    /// The media failed.
    #[error("the array's media failed")]
    Media,
}

/// Why a management request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// A pod of that name is here.
    #[error("a pod of this name exists already; choose another name")]
    PodExists,
    /// No such pod.
    #[error("no such pod at this array; see `metropod pod list`")]
    NoSuchPod,
    /// A volume of that name is in the pod.
    #[error("a volume of this name exists already; choose another name")]
    VolumeExists,
    /// No such volume.
    #[error("no such volume; see `metropod volume list`")]
    NoSuchVolume,
    /// A snapshot with that suffix is there.
    #[error("a snapshot with this suffix exists already; choose another suffix")]
    SnapshotExists,
    /// No such snapshot.
    #[error("no such snapshot; see `metropod snapshot list`")]
    NoSuchSnapshot,
    /// Size out of range.
    #[error("a volume's size is a multiple of 512 bytes from 1 MiB to 4 PiB")]
    BadSize,
    /// A volume gets smaller only if that is said.
    #[error("the volume would lose what lies beyond the new end; use --truncate if that is meant")]
    WouldShrink,
    /// A truncation falls inside a block.
    #[error("a volume is truncated at a multiple of 4 KiB; choose another size")]
    BadTruncation,
    /// The volumes together would be larger than allowed.
    #[error("the pod's quota does not allow that much; raise it with `metropod pod set --quota`")]
    OverQuota,
    /// The quota is smaller than what there is.
    #[error("the pod's volumes, with those not eradicated yet, are larger than that; choose a larger quota")]
    QuotaTooSmall,
    /// The volume, snapshot or pod is destroyed.
    #[error("it is destroyed; recover it first")]
    Destroyed,
    /// What is not destroyed is neither recovered nor eradicated.
    #[error("it is not destroyed; see `metropod volume list`")]
    NotDestroyed,
    /// Something destroyed has the name still.
    #[error(
        "something destroyed has this name until it is eradicated; recover or eradicate it, or choose another"
    )]
    NameOfDestroyed,
    /// The pod holds volumes.
    #[error("the pod holds volumes; use --contents if they are meant too")]
    HasContents,
    /// Only a pod at one array can be destroyed.
    #[error(
        "the pod is stretched to another array; take it from one of them first, with `metropod pod unstretch`"
    )]
    Stretched,
    /// Only between pods at one array do volumes move.
    #[error(
        "volumes move only between pods that are at this array alone, and one of the two is stretched; choose another pod, or copy the data from host to host"
    )]
    MoveOfStretched,
    /// A volume moves to another pod.
    #[error("source and target are the same pod; choose another pod of this array")]
    MoveToSamePod,
    /// The pod that is to take a volume is destroyed.
    #[error("the pod that the volume should move to is destroyed; recover it first, or choose another")]
    TargetDestroyed,
    /// A volume is on its way from or to the pod.
    #[error("a volume is moving between pods; try again when it has arrived")]
    Moving,
    /// The array is not connected.
    #[error("that array is not connected; use `metropod array connect` first")]
    NotConnected,
    /// The pod is stretched already.
    #[error("the pod is stretched to another array already")]
    StretchedAlready,
    /// The other array is not heard.
    #[error(
        "the other array is not connected, so its copy would stay as it is until it is back; use --with-unknown if that is meant"
    )]
    PeerUnknown,
    /// The other array does not hold everything.
    #[error(
        "the other array does not hold everything yet, so the pod cannot be taken from this one; wait until both are online"
    )]
    NotMirrored,
    /// Both arrays have to be online.
    #[error("both arrays have to be online for that; see `metropod pod explain`")]
    NotBothOnline,
    /// One array is leaving the pod.
    #[error("an array is leaving the pod; try again when it has left")]
    Leaving,
    /// The pod is at one array.
    #[error("the pod is not stretched")]
    NotStretched,
    /// The array named is not one of the pod's arrays.
    #[error("that array does not hold the pod")]
    NotAMember,
    /// The joiner refused: it holds another pod of that name.
    #[error("the other array has a pod of this name already; rename one of them")]
    NameClash,
    /// This array is offline or behind for the pod.
    #[error("the pod is not online at this array; ask the other array")]
    Offline,
    /// Too many requests wait.
    #[error("too many requests wait; try again")]
    Busy,
    /// The array has no space.
    #[error("the array is out of space; make room on its file system")]
    NoSpace,
    /// The media failed.
    #[error("the array's media failed; see its log")]
    Media,
}

/// What needs a person's attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// From a pod's protocol.
    Protocol(PodId, metropod_protocol::Alarm),
    /// The journal can no longer be written; the array stops taking writes until it is restarted.
    JournalPoisoned(MediaError),
    /// The device is full: writes are refused until there is room. Reads and trims go on.
    NoSpace,
    /// A background flow failed; it will be tried again.
    FlowFailed {
        /// Which flow.
        flow: &'static str,
    },
    /// The peer sent an entry whose content does not have the digest it names; the pod stops applying.
    CorruptEntry(PodId),
    /// A transfer failed; it will be tried again.
    TransferFailed(PodId),
    /// A peer's frame cannot be understood; its connection is closed.
    BadFrame(ArrayId),
    /// A chunk that is in use is missing or damaged here.
    DamagedChunk(Digest),
    /// A chunk that was missing or damaged here was fetched from the other array.
    ChunkRepaired(Digest),
    /// An array sent something else for a chunk that was asked for.
    BadChunk(ArrayId),
    /// A scrub found a segment damaged elsewhere than in a chunk that it can name.
    DamagedSegment(SegmentId),
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Alarm::NoSpace => f.write_str(
                "the device is full: writes are refused until there is room; free space on the array's file system",
            ),
            Alarm::FlowFailed { flow } => write!(f, "{flow} failed; it is tried again"),
            Alarm::CorruptEntry(pod) => write!(
                f,
                "what is to be applied to pod {pod:?} is damaged here; this array leaves the pod and is brought level, if another holds it"
            ),
            Alarm::BadFrame(peer) => write!(
                f,
                "array {peer:?} sent what cannot be understood; the connection is closed and made again: run versions that fit on both"
            ),
            Alarm::DamagedChunk(digest) => {
                write!(f, "chunk {digest} is missing or damaged at this array; restore its segment, or check the disk")
            }
            Alarm::ChunkRepaired(digest) => write!(
                f,
                "chunk {digest} was missing or damaged at this array and is repaired from the other; check the disk"
            ),
            Alarm::BadChunk(peer) => write!(
                f,
                "array {peer:?} sent other content than a chunk's that it was asked for; nothing of it is used: check that array"
            ),
            Alarm::DamagedSegment(segment) => write!(
                f,
                "file {} is damaged at this array; see `metropod scrub show`, and check the disk",
                segment_path(*segment)
            ),
            other => write!(f, "{other:?}"),
        }
    }
}
