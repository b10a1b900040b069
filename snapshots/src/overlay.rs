//! A stack of layers seen as one: the newest word on a block wins.
//!
//! Stacks are slices with the oldest layer first.

use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use crate::gather::breathe;
use crate::layer::{Cover, Layer, LayerId, LayerRange, Packed};
use crate::slot::{Extent, Slot};

/// One layer that says what `layers` (oldest first) say together: the newest wins.
pub fn merge(layers: &[Arc<Layer>], id: LayerId) -> Layer {
    Layer::packed(id, extents(layers, 0..u64::MAX).collect::<Packed>())
}

/// [`merge`] for layers of any length: gives whoever polls a chance every now and then.
pub async fn merge_in_turns(layers: &[Arc<Layer>], id: LayerId) -> Layer {
    let mut extents = extents(layers, 0..u64::MAX);
    let mut packed = Packed::default();
    loop {
        let before = packed.len();
        extents.by_ref().take(TURN_EXTENTS).for_each(|extent| packed.push(extent));
        if packed.len() == before {
            packed.shrink();
            return Layer::packed(id, packed);
        }
        breathe().await;
    }
}

/// Extents merged in one turn: about a millisecond.
const TURN_EXTENTS: usize = 16 * 1024;

/// What the stack says inside `window`: disjoint, in order, neighbouring zeroes joined.
pub(crate) fn extents(layers: &[Arc<Layer>], window: Range<u64>) -> Extents<'_> {
    let sources = layers
        .iter()
        .rev()
        .map(|layer| layer.range(window.clone()).peekable())
        .filter_map(|mut source| source.peek().is_some().then_some(source))
        .collect();
    Extents { sources, position: window.start, stash: None }
}

/// How the stack covers `window`; a stack of several partial layers may count as mixed where it is all zero.
pub(crate) fn cover(layers: &[Arc<Layer>], window: &Range<u64>) -> Cover {
    layers
        .iter()
        .rev()
        .map(|layer| layer.cover(window))
        .find(|cover| *cover != Cover::Nothing)
        .unwrap_or(Cover::Nothing)
}

/// The first block in `window` that the stack says anything about.
pub(crate) fn first_touched(layers: &[Arc<Layer>], window: &Range<u64>) -> Option<u64> {
    layers.iter().filter_map(|layer| layer.range(window.clone()).next()).map(|first| first.blocks.start).min()
}

/// Fills the unknown ones of `slots`, which stand for the blocks from `start` on.
pub(crate) fn fill(layers: &[Arc<Layer>], start: u64, slots: &mut [Option<Slot>]) {
    for layer in layers.iter().rev() {
        fill_from(layer.range(start..start + slots.len() as u64), start, slots);
    }
}

/// Fills the unknown ones of `slots` from the extents of one table or layer.
pub(crate) fn fill_from(extents: impl Iterator<Item = Extent>, start: u64, slots: &mut [Option<Slot>]) {
    for extent in extents {
        let from = (extent.blocks.start - start) as usize;
        let to = (extent.blocks.end - start) as usize;
        for slot in &mut slots[from..to] {
            slot.get_or_insert(extent.slot);
        }
    }
}

/// Extents of a stack; see [`extents`].
#[derive(Debug)]
pub(crate) struct Extents<'a> {
    /// Newest first.
    sources: Vec<Peekable<LayerRange<'a>>>,
    position: u64,
    stash: Option<Extent>,
}

impl Extents<'_> {
    fn next_piece(&mut self) -> Option<Extent> {
        loop {
            let mut limit = u64::MAX;
            let mut winner = None;
            for source in &mut self.sources {
                while source.next_if(|extent| extent.blocks.end <= self.position).is_some() {}
                let Some(extent) = source.peek() else { continue };
                if extent.blocks.start <= self.position {
                    winner = Some(extent.clone());
                    break;
                }
                limit = limit.min(extent.blocks.start);
            }
            match winner {
                Some(extent) => {
                    let piece = extent
                        .clipped(&(self.position..limit))
                        .expect("position lies inside, limit beyond it");
                    self.position = piece.blocks.end;
                    return Some(piece);
                }
                None if limit == u64::MAX => return None,
                None => self.position = limit,
            }
        }
    }
}

impl Iterator for Extents<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        let mut extent = match self.stash.take() {
            Some(extent) => extent,
            None => self.next_piece()?,
        };
        if extent.slot == Slot::Zero {
            while let Some(next) = self.next_piece() {
                if next.slot != Slot::Zero || next.blocks.start != extent.blocks.end {
                    self.stash = Some(next);
                    break;
                }
                extent.blocks.end = next.blocks.end;
            }
        }
        Some(extent)
    }
}

#[cfg(test)]
mod tests {
    use metropod_dedupe::Digest;

    use super::*;
    use crate::table::Table;

    fn layer(id: u64, change: impl FnOnce(&mut Table)) -> Arc<Layer> {
        let mut table = Table::new();
        change(&mut table);
        Arc::new(Layer::freeze(LayerId(id), table))
    }

    #[test]
    fn the_newest_layer_wins_and_older_zeroes_show_through_its_gaps() {
        let data = |seed: u8| Slot::Data(Digest([seed; 32]));
        let layers = [
            layer(1, |table| table.zero(0..1000)),
            layer(2, |table| table.set(10, data(1))),
            layer(3, |table| {
                table.zero(5..20);
                table.set(30, data(2));
            }),
        ];
        let merged = merge(&layers, LayerId(9));
        let expected =
            [Extent::zero(0..30), Extent { blocks: 30..31, slot: data(2) }, Extent::zero(31..1000)];
        assert!(merged.extents().eq(expected));
        assert_eq!(first_touched(&layers[1..], &(11..100)), Some(11));
        assert_eq!(first_touched(&layers[1..2], &(11..100)), None);
        assert_eq!(cover(&layers, &(40..90)), Cover::Zero);
        assert_eq!(cover(&layers, &(1000..1001)), Cover::Nothing);
        assert_eq!(cover(&layers, &(20..40)), Cover::Mixed);
    }
}
