//! From what a pass begins: everything frozen that somebody may still name (collect.rs, L1).

use metropod_snapshots::Image;

use super::Array;
use crate::catchup::CatchUp;
use crate::checkpoint::images_of;
use crate::pod::Pod;

impl Array {
    /// Every frozen point that somebody may still name; `None` if that cannot be told now.
    pub(super) fn roots(&mut self) -> Option<Vec<Image>> {
        let mut roots = self.frozen.images();
        for pod in self.pods.values_mut() {
            pod.add_roots(&mut roots)?;
        }
        Some(roots)
    }
}

impl Pod {
    /// Adds everything this pod may still name; `None` if that cannot be told now.
    fn add_roots(&mut self, roots: &mut Vec<Image>) -> Option<()> {
        let own = self.freeze();
        roots.extend(images_of(&own).cloned());
        self.add_held(roots)
    }

    /// Adds everything that it may name beside its volumes and snapshots; `None` if that cannot be told now.
    pub(super) fn add_held(&self, roots: &mut Vec<Image>) -> Option<()> {
        roots.extend(self.fork.iter().flat_map(|fork| images_of(&fork.image)).cloned());
        match &self.catch_up {
            CatchUp::Sending(sending) => {
                roots.extend(images_of(&sending.image).cloned());
                roots.extend(sending.from.iter().flat_map(images_of).cloned());
            }
            CatchUp::Receiving(receiving) => roots.extend(receiving.building.images()?),
            CatchUp::Flipping(flipping) => roots.extend(images_of(&flipping.image).cloned()),
            CatchUp::Idle | CatchUp::Suffix { .. } => {}
        }
        Some(())
    }
}
