//! Carrying out one command on the volume, and checking what the volume says.

use bytes::Bytes;

use super::reply::Answer;
use super::request::Command;
use super::volume::{Extent, IoError, Piece, Volume};
use super::wire::{BLOCK_BYTES_MIN, EXTENTS_MAX, Errno};

/// Longest extent of a compact reply, kept a multiple of the block.
const EXTENT_BYTES_MAX: u64 = (u32::MAX - (BLOCK_BYTES_MIN - 1)) as u64;

/// Carries out `command`; `payload` is what a write brought along, and `wide` says that lengths of 64 bits can be
/// answered.
pub(super) async fn execute<V: Volume>(volume: &V, command: Command, payload: Bytes, wide: bool) -> Answer {
    match command {
        Command::Read { offset, length, whole } => match read(volume, offset, length).await {
            Ok(pieces) => Answer::Data { pieces, whole },
            Err(error) => Answer::Failed(error),
        },
        Command::BlockStatus { offset, length, one } => {
            let count_max = if one { 1 } else { EXTENTS_MAX };
            match volume.block_status(offset, length).await {
                Ok(extents) => match usable(&extents, length, count_max, wide) {
                    extents if extents.is_empty() => {
                        tracing::error!(offset, length, "the volume answered a status request with nothing");
                        Answer::Failed(Errno::Io)
                    }
                    extents => Answer::Extents(extents),
                },
                Err(error) => Answer::Failed(errno(error)),
            }
        }
        Command::Write { offset, length, fua } if length > 0 => {
            done(volume.write(offset, payload, fua).await)
        }
        Command::Trim { offset, length, fua } if length > 0 => done(volume.trim(offset, length, fua).await),
        Command::WriteZeroes { offset, length, no_hole, fast, fua } if length > 0 => {
            if fast && !volume.zeroes_fast(offset, length, no_hole) {
                return Answer::Failed(Errno::NotSupported);
            }
            done(volume.write_zeroes(offset, length, no_hole, fua).await)
        }
        Command::Flush => done(volume.flush().await),
        Command::Cache | Command::Write { .. } | Command::Trim { .. } | Command::WriteZeroes { .. } => {
            Answer::Done
        }
    }
}

async fn read<V: Volume>(volume: &V, offset: u64, length: u32) -> Result<Vec<Piece>, Errno> {
    if length == 0 {
        return Ok(Vec::new());
    }
    let mut pieces = volume.read(offset, length).await.map_err(errno)?;
    pieces.retain(|piece| piece.length_bytes() > 0);
    let answered: u64 = pieces.iter().map(Piece::length_bytes).sum();
    if answered != u64::from(length) {
        tracing::error!(offset, length, answered, "the volume answered a read with another length");
        return Err(Errno::Io);
    }
    Ok(pieces)
}

fn done(result: Result<(), IoError>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Failed(errno(error)),
    }
}

fn errno(error: IoError) -> Errno {
    match error {
        IoError::Shutdown => Errno::Shutdown,
        IoError::NoSpace => Errno::NoSpace,
        IoError::Invalid => Errno::Invalid,
        IoError::ReadOnly => Errno::Permission,
        IoError::Io => Errno::Io,
    }
}

/// Neighbours of one state joined, cut to the length asked for, to `count_max` and to what the reply can express.
fn usable(extents: &[Extent], length: u64, count_max: usize, wide: bool) -> Vec<Extent> {
    let length_max = if wide { u64::MAX } else { EXTENT_BYTES_MAX };
    let mut joined: Vec<Extent> = Vec::new();
    let mut left = length;
    for extent in extents {
        let mut part = extent.length.min(left);
        left -= part;
        if let Some(last) = joined.last_mut().filter(|last| last.state == extent.state) {
            let growth = part.min(length_max - last.length);
            last.length += growth;
            part -= growth;
        }
        while part > 0 {
            if joined.len() == count_max {
                return joined;
            }
            let length = part.min(length_max);
            joined.push(Extent { length, state: extent.state });
            part -= length;
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::super::volume::State;
    use super::*;

    fn extent(length: u64, state: State) -> Extent {
        Extent { length, state }
    }

    #[test]
    fn neighbours_are_joined_and_the_end_is_cut() {
        let found = [extent(512, State::Data), extent(512, State::Data), extent(4096, State::Hole)];
        assert_eq!(usable(&found, 2048, 9, false), [extent(1024, State::Data), extent(1024, State::Hole)]);
    }

    #[test]
    fn one_extent_is_joined_before_the_count_cuts() {
        let found = [extent(512, State::Zero), extent(512, State::Zero), extent(512, State::Hole)];
        assert_eq!(usable(&found, 1536, 1, false), [extent(1024, State::Zero)]);
    }

    #[test]
    fn long_extents_are_split_only_where_lengths_have_32_bits() {
        let found = [extent(5 << 30, State::Hole)];
        assert_eq!(usable(&found, 5 << 30, 9, true), found);
        let split = usable(&found, 5 << 30, 9, false);
        assert_eq!(split.len(), 2);
        assert_eq!(split.iter().map(|extent| extent.length).sum::<u64>(), 5 << 30);
        assert!(split.iter().all(|extent| extent.length % 512 == 0 && extent.length <= u64::from(u32::MAX)));
    }
}
