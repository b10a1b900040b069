//! What a round is about: from where, to where, and the frozen points to build on the way.
//!
//! For each volume of R: the snapshots that the common point lacks, oldest first, then the volume's present content,
//! each as changes to the one before. The first is relative to the common point's image of the volume, or to zeroes.
//!
//! - B1: points are in strictly rising order of (volume, time), so each is named once.
//! - B2: every volume of the namespace has a point; a snapshot without one is taken from the target's own.
//! - B3: the target's own volume serves as a base only where T3 holds; otherwise the volume is named in full, and
//!   what the target has costs a digest a block, no content.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use metropod_protocol::{Chain, ConfigId, Index, PodId, Position};
use metropod_snapshots::Image;

use super::error::TransferError;
use super::touched::Touched;
use super::walk::Leg;
use super::{NAMESPACE_BYTES_MAX, POINTS_MAX, TOUCHED_BLOCKS_MAX};
use crate::codec::{DecodeError, Reader, put_blob, put_count, put_option};
use crate::names::{SnapshotId, VolumeId};
use crate::namespace::{Namespace, PodImage};

/// Longest encoding of one point, in bytes.
pub(super) const POINT_BYTES_MAX: usize = 18;

/// Shortest encoding of one point, in bytes.
const POINT_BYTES_MIN: usize = 10;

/// A frozen point of the source that the target has reached.
#[derive(Debug, Clone)]
pub struct Common {
    /// The point.
    pub at: Position,
    /// Its content at the source.
    pub image: PodImage,
    /// What the target may have changed since (T3). `None`: it stands exactly there, for it flipped to that point and
    /// applied nothing since. If neither is known the round has to start from nothing.
    pub touched: Option<Touched>,
}

/// Where the target stands relative to the common point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Exactly at it.
    Exact,
    /// At it or later, but not beyond the last entry whose changes are named in any case.
    Beyond {
        /// That entry.
        through: Index,
    },
}

impl Common {
    fn reach(&self) -> Reach {
        match &self.touched {
            Some(touched) => Reach::Beyond { through: touched.through() },
            None => Reach::Exact,
        }
    }

    /// The volume's content at the point, if changes to it can be told (B3).
    fn base_of(&self, volume: VolumeId) -> Option<&Image> {
        let touched = self.touched.as_ref().map_or(0, |touched| touched.blocks(volume));
        self.image.volumes.get(&volume).filter(|_| touched <= TOUCHED_BLOCKS_MAX)
    }
}

/// A frozen point of one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A volume's content at R.
    Volume(VolumeId),
    /// A snapshot.
    Snapshot(SnapshotId),
}

/// What a point's changes are relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Zeroes.
    Nothing,
    /// The volume at the common point.
    Common,
    /// The point before, which is of the same volume.
    Previous,
}

/// One point to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Which.
    pub target: Target,
    /// On what.
    pub base: Base,
}

/// The first message of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// The pod.
    pub pod: PodId,
    /// Number of the round, which tells late messages of an earlier one apart.
    pub round: u64,
    /// The common frozen point, and where the target stands relative to it; `None`: the target starts from nothing.
    pub from: Option<(Position, Reach)>,
    /// R.
    pub to: Position,
    /// The namespace at R, encoded.
    pub namespace: Bytes,
    /// What to build, in order.
    pub points: Vec<Point>,
}

impl Target {
    /// The volume it is a point of.
    pub fn volume(self) -> VolumeId {
        match self {
            Target::Volume(volume) => volume,
            Target::Snapshot(snapshot) => snapshot.volume,
        }
    }

    /// Position in the order of B1.
    fn order(self) -> (VolumeId, u64, bool) {
        match self {
            Target::Volume(volume) => (volume, u64::MAX, true),
            Target::Snapshot(snapshot) => (snapshot.volume, snapshot.taken_at, false),
        }
    }

    /// Its content in a pod image.
    pub(super) fn image(self, pod: &PodImage) -> Option<&Image> {
        match self {
            Target::Volume(volume) => pod.volumes.get(&volume),
            Target::Snapshot(snapshot) => pod.snapshots.get(&snapshot),
        }
    }

    /// Its size in a namespace, in bytes.
    pub(super) fn size_bytes(self, namespace: &Namespace) -> Option<u64> {
        match self {
            Target::Volume(volume) => namespace.volumes.get(&volume).map(|volume| volume.size_bytes),
            Target::Snapshot(snapshot) => {
                namespace.snapshots.get(&snapshot).map(|snapshot| snapshot.size_bytes)
            }
        }
    }
}

impl Begin {
    /// Plans a round that makes the target hold `to`, from a point that it has reached, if there is one.
    pub fn plan(
        pod: PodId,
        round: u64,
        from: Option<&Common>,
        to: (Position, &PodImage),
    ) -> Result<Begin, TransferError> {
        let (to, image) = to;
        let namespace = image.namespace_bytes();
        let mut volumes: BTreeMap<VolumeId, Vec<Target>> = BTreeMap::new();
        for id in image.namespace.snapshots.keys() {
            if from.is_none_or(|from| !from.image.snapshots.contains_key(id)) {
                volumes.entry(id.volume).or_default().push(Target::Snapshot(*id));
            }
        }
        for id in image.namespace.volumes.keys() {
            volumes.entry(*id).or_default().push(Target::Volume(*id));
        }
        let mut points = Vec::new();
        for (volume, targets) in volumes {
            let mut base = match from.and_then(|from| from.base_of(volume)) {
                Some(_) => Base::Common,
                None => Base::Nothing,
            };
            for target in targets {
                points.push(Point { target, base });
                base = Base::Previous;
            }
        }
        if points.len() > POINTS_MAX || namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(TransferError::TooLarge { points: points.len(), namespace_bytes: namespace.len() });
        }
        let from = from.map(|from| (from.at, from.reach()));
        Ok(Begin { pod, round, from, to, namespace, points })
    }

    /// What the source walks for each point. `from` and `to` are those that the round was planned for.
    pub(super) fn legs(&self, from: Option<&Common>, to: &PodImage) -> Vec<Leg> {
        let mut legs: Vec<Leg> = Vec::with_capacity(self.points.len());
        for point in &self.points {
            let image = point.target.image(to).expect("a round is planned for the image it sends").clone();
            let mut touched = Vec::new();
            let base = match point.base {
                Base::Nothing => None,
                Base::Previous => legs.last().map(|leg| leg.image.clone()),
                Base::Common => {
                    let volume = point.target.volume();
                    let from = from.expect("a round is planned for the common point it is sent from");
                    touched.extend(from.touched.iter().flat_map(|touched| touched.ranges(volume)));
                    let base = from.base_of(volume);
                    Some(base.expect("a round is planned for the common point it is sent from").clone())
                }
            };
            legs.push(Leg { base, image, touched });
        }
        legs
    }

    /// The namespace at R.
    pub fn namespace(&self) -> Result<Namespace, DecodeError> {
        let mut reader = Reader::new(self.namespace.clone());
        let namespace = Namespace::decode(&mut reader)?;
        reader.end()?;
        Ok(namespace)
    }

    /// Appends the encoded form.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.pod.0);
        out.put_u64_le(self.round);
        put_option(out, self.from, |out, (position, reach)| {
            put_position(out, position);
            match reach {
                Reach::Exact => out.put_u8(0),
                Reach::Beyond { through } => {
                    out.put_u8(1);
                    out.put_u64_le(through.0);
                }
            }
        });
        put_position(out, self.to);
        put_blob(out, &self.namespace);
        put_count(out, self.points.len());
        for point in &self.points {
            put_point(out, point);
        }
    }

    /// Reads what [`Begin::encode`] wrote, and checks B1, B2 and that bases make sense.
    pub(super) fn decode(reader: &mut Reader) -> Result<Begin, DecodeError> {
        let pod = PodId(reader.array()?);
        let round = reader.u64()?;
        let from = reader.option(|reader| {
            let position = read_position(reader)?;
            match reader.u8()? {
                0 => Ok((position, Reach::Exact)),
                1 => Ok((position, Reach::Beyond { through: Index(reader.u64()?) })),
                _ => Err(DecodeError::Value { field: "reach" }),
            }
        })?;
        let to = read_position(reader)?;
        let namespace = reader.blob()?;
        if namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(DecodeError::Value { field: "namespace length" });
        }
        let count = reader.count(POINT_BYTES_MIN)?;
        if count > POINTS_MAX {
            return Err(DecodeError::Value { field: "points" });
        }
        let points = (0..count).map(|_| read_point(reader)).collect::<Result<Vec<Point>, _>>()?;
        let begin = Begin { pod, round, from, to, namespace, points };
        begin.check()?;
        Ok(begin)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let namespace = self.namespace()?;
        let mut before: Option<Target> = None;
        for point in &self.points {
            let follows = before.is_some_and(|before| before.volume() == point.target.volume());
            let ordered = before.is_none_or(|before| before.order() < point.target.order());
            let based = match point.base {
                Base::Nothing => !follows,
                Base::Common => !follows && self.from.is_some(),
                Base::Previous => follows,
            };
            if !ordered || !based || point.target.size_bytes(&namespace).is_none() {
                return Err(DecodeError::Value { field: "point" });
            }
            before = Some(point.target);
        }
        let volumes = self.points.iter().filter(|point| matches!(point.target, Target::Volume(_))).count();
        let snapshots = self.points.len() - volumes;
        let complete = volumes == namespace.volumes.len()
            && (self.from.is_some() || snapshots == namespace.snapshots.len());
        if complete { Ok(()) } else { Err(DecodeError::Value { field: "points" }) }
    }
}

fn put_position(out: &mut BytesMut, position: Position) {
    out.put_slice(&position.config.0);
    out.put_u64_le(position.index.0);
    out.put_slice(&position.chain.0);
}

fn read_position(reader: &mut Reader) -> Result<Position, DecodeError> {
    Ok(Position {
        config: ConfigId(reader.array()?),
        index: Index(reader.u64()?),
        chain: Chain(reader.array()?),
    })
}

fn put_point(out: &mut BytesMut, point: &Point) {
    match point.target {
        Target::Volume(volume) => {
            out.put_u8(0);
            out.put_u64_le(volume.0);
        }
        Target::Snapshot(snapshot) => {
            out.put_u8(1);
            out.put_u64_le(snapshot.volume.0);
            out.put_u64_le(snapshot.taken_at);
        }
    }
    match point.base {
        Base::Nothing => out.put_u8(0),
        Base::Common => out.put_u8(1),
        Base::Previous => out.put_u8(2),
    }
}

fn read_point(reader: &mut Reader) -> Result<Point, DecodeError> {
    let target = match reader.u8()? {
        0 => Target::Volume(VolumeId(reader.u64()?)),
        1 => Target::Snapshot(SnapshotId { volume: VolumeId(reader.u64()?), taken_at: reader.u64()? }),
        _ => return Err(DecodeError::Value { field: "point" }),
    };
    let base = match reader.u8()? {
        0 => Base::Nothing,
        1 => Base::Common,
        2 => Base::Previous,
        _ => return Err(DecodeError::Value { field: "base" }),
    };
    Ok(Point { target, base })
}
