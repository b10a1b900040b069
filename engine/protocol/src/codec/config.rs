//! Bytes of configurations and histories.

use crate::codec::DecodeError;
use crate::codec::bytes::{Put, Reader, Writer};
use crate::config::{Configuration, Epoch, Ground, Members, Right};
use crate::durable::{HistoryItem, Learned, OutOfSync};
use crate::ids::{ArrayId, Chain, ConfigId, Index, MediatorId, RegisterId};

/// Configurations that a history may hold.
pub const HISTORY_MAX: usize = 16_384;

pub(crate) fn put_epoch(out: &mut Writer, epoch: &Epoch) {
    out.u32(epoch.era);
    out.u64(epoch.number);
}

pub(crate) fn epoch(reader: &mut Reader) -> Result<Epoch, DecodeError> {
    Ok(Epoch { era: reader.u32()?, number: reader.number()? })
}

pub(crate) fn put_members(out: &mut Writer, members: &Members) {
    out.u8(if members.is_pair() { 2 } else { 1 });
    for member in members.iter() {
        out.raw(&member.0);
    }
}

pub(crate) fn members(reader: &mut Reader) -> Result<Members, DecodeError> {
    match reader.u8()? {
        1 => Ok(Members::one(ArrayId(reader.array()?))),
        2 => {
            let (low, high) = (ArrayId(reader.array()?), ArrayId(reader.array()?));
            if low < high { Ok(Members::pair(low, high)) } else { Err(DecodeError::Inconsistent) }
        }
        value => Err(DecodeError::Unknown { what: "number of members", value }),
    }
}

pub(crate) fn put_configuration(out: &mut Writer, configuration: &Configuration) {
    put_epoch(out, &configuration.epoch);
    out.raw(&configuration.id.0);
    put_members(out, &configuration.members);
    out.raw(&configuration.sequencer.0);
    match configuration.right {
        Right::Mediator { mediator, register } => {
            out.u8(0);
            out.raw(&mediator.0);
            out.raw(&register.0);
        }
        Right::Array(holder) => {
            out.u8(1);
            out.raw(&holder.0);
        }
    }
    out.u8(match configuration.ground {
        Ground::Agreed => 0,
        Ground::Granted => 1,
    });
}

pub(crate) fn configuration(reader: &mut Reader) -> Result<Configuration, DecodeError> {
    let epoch = epoch(reader)?;
    let id = ConfigId(reader.array()?);
    let members = members(reader)?;
    let sequencer = ArrayId(reader.array()?);
    let right = match reader.u8()? {
        0 => Right::Mediator { mediator: MediatorId(reader.array()?), register: RegisterId(reader.array()?) },
        1 => Right::Array(ArrayId(reader.array()?)),
        value => return Err(DecodeError::Unknown { what: "right", value }),
    };
    let ground = match reader.u8()? {
        0 => Ground::Agreed,
        1 => Ground::Granted,
        value => return Err(DecodeError::Unknown { what: "ground", value }),
    };
    let holder_is_member = !matches!(right, Right::Array(holder) if !members.contains(holder));
    if !members.contains(sequencer) || !holder_is_member {
        return Err(DecodeError::Inconsistent);
    }
    Ok(Configuration { epoch, id, members, sequencer, right, ground })
}

pub(crate) fn put_history(out: &mut Writer, history: &[HistoryItem]) {
    out.u32(u32::try_from(history.len()).expect("histories are bounded"));
    for item in history {
        put_configuration(out, &item.configuration);
        out.u64(item.first.0);
        out.raw(&item.chain_before.0);
    }
}

pub(crate) fn history(reader: &mut Reader) -> Result<Vec<HistoryItem>, DecodeError> {
    let count = reader.count(HISTORY_MAX)?;
    let mut items: Vec<HistoryItem> = Vec::new();
    for _ in 0..count {
        let configuration = configuration(reader)?;
        let first = Index(reader.number()?);
        let chain_before = Chain(reader.array()?);
        if first <= items.last().map_or(Index(0), |item| item.first) {
            return Err(DecodeError::Inconsistent);
        }
        items.push(HistoryItem { configuration, first, chain_before });
    }
    Ok(items)
}

pub(crate) fn put_out_of_sync(out: &mut Writer, mark: Option<&OutOfSync>) {
    let Some(mark) = mark else {
        out.u8(0);
        return;
    };
    out.u8(1);
    out.position(&mark.fork);
    out.raw(&mark.survivor.0);
    out.u64(mark.after.0);
    out.u8(u8::from(mark.first_time));
}

pub(crate) fn out_of_sync(reader: &mut Reader) -> Result<Option<OutOfSync>, DecodeError> {
    if !reader.flag()? {
        return Ok(None);
    }
    let fork = reader.position()?;
    let survivor = ConfigId(reader.array()?);
    let after = Index(reader.number()?);
    let first_time = reader.flag()?;
    Ok(Some(OutOfSync { fork, survivor, after, first_time }))
}

pub(crate) fn put_learned(out: &mut Writer, learned: &Learned) {
    put_epoch(out, &learned.epoch);
    put_array_option(out, learned.holder);
}

pub(crate) fn learned(reader: &mut Reader) -> Result<Learned, DecodeError> {
    Ok(Learned { epoch: epoch(reader)?, holder: array_option(reader)? })
}

pub(crate) fn put_array_option(out: &mut Writer, array: Option<ArrayId>) {
    out.u8(u8::from(array.is_some()));
    if let Some(array) = array {
        out.raw(&array.0);
    }
}

pub(crate) fn array_option(reader: &mut Reader) -> Result<Option<ArrayId>, DecodeError> {
    Ok(if reader.flag()? { Some(ArrayId(reader.array()?)) } else { None })
}
