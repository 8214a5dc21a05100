//! The slots that a node has for pods. A kubelet refuses the pods beyond them, whatever their priority, and no controller
//! moves such a pod to another node.

use std::fmt::{Display, Formatter, Result};

/// The slots that prefetch pods leave to other pods.
const RESERVED: u32 = 2;
/// With fewer free slots than these, the scheduler binds prefetch pods: it knows what it binds at the same time.
const SCARCE: u32 = 4;

/// The slots of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodSlots {
    /// The number of pods that the node takes.
    pub all: u32,
    /// The number of pods that it has.
    pub taken: u32,
}

/// The room for one more prefetch pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodRoom {
    /// There is enough.
    Ample,
    /// Only the scheduler may bind the pod.
    Scarce,
    /// The slots that are left are for other pods.
    None,
}

impl PodSlots {
    /// Returns the room for one more prefetch pod.
    pub fn room(self) -> PodRoom {
        match self.all.saturating_sub(self.taken) {
            0..=RESERVED => PodRoom::None,
            free if free < SCARCE => PodRoom::Scarce,
            _ => PodRoom::Ample,
        }
    }
}

impl Display for PodSlots {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { all, taken } = self;
        if *all == 0 {
            return f.write_str("the node takes no pods");
        }
        write!(
            f,
            "the node takes {all} pods and has {taken}, and {RESERVED} slots are left to other pods"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_slots_are_left_and_the_scheduler_binds_to_the_third() {
        let room = |all, taken| PodSlots { all, taken }.room();
        for (taken, expected) in [
            (0, PodRoom::Ample),
            (106, PodRoom::Ample),
            (107, PodRoom::Scarce),
            (108, PodRoom::None),
            (110, PodRoom::None),
            (115, PodRoom::None),
        ] {
            assert_eq!(room(110, taken), expected, "{taken}");
        }
        assert_eq!(room(0, 0), PodRoom::None);
    }

    #[test]
    fn a_full_node_says_how_full_it_is() {
        let said = |all, taken| PodSlots { all, taken }.to_string();
        assert_eq!(
            said(110, 109),
            "the node takes 110 pods and has 109, and 2 slots are left to other pods"
        );
        assert_eq!(said(0, 0), "the node takes no pods");
    }
}
