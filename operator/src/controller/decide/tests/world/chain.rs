//! The chain of a job in one storage, and how a claim judges what it is told to start from: as
//! `docs/decisions/0011-beliefs-are-judged-at-the-claim.md` says.

use std::collections::BTreeMap;

use crate::runtime_client::RuntimeState;

/// Checkpoints that are kept besides the newest.
const RETAINED: usize = 3;

/// A checkpoint.
#[derive(Debug, Clone)]
pub(in crate::controller) struct Slot {
    pub(super) position: u64,
    /// Records below may be written again: a person has gone back.
    pub(super) excused: u64,
    /// What the chain was last begun from: a checkpoint of another one.
    pub(super) from: Option<Place>,
    pub(super) kind: Kind,
    /// Under which it was decided.
    pub(super) deployment: i64,
}

/// What a checkpoint is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// The job has done something.
    Work,
    /// Where a deployment begins, on top of this work of the chain.
    Beginning(Option<u64>),
}

/// How the newest claim ended.
#[derive(Debug, Clone)]
pub(super) struct Release {
    pub(super) state: RuntimeState,
    pub(super) savepoint: Option<String>,
}

/// The chain in one storage.
#[derive(Debug, Clone, Default)]
pub(in crate::controller) struct Chain {
    pub(in crate::controller) deployment: i64,
    pub(super) released: Option<Release>,
    pub(super) slots: BTreeMap<u64, Slot>,
}

/// A savepoint, or whatever else has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::controller) enum Saved {
    Taking,
    Failed,
    Done(Place),
}

/// State in some chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::controller) struct Place {
    pub(super) storage: String,
    pub(super) id: u64,
    pub(super) position: u64,
    pub(super) excused: u64,
}

impl Chain {
    /// What a job of the same name has left that was deployed so and has written up to there.
    pub(in crate::controller) fn left_by(deployment: i64, position: u64) -> Self {
        let mut chain = Self {
            deployment,
            released: Some(Release {
                state: RuntimeState::Stopped,
                savepoint: None,
            }),
            slots: BTreeMap::new(),
        };
        chain.add(Slot {
            position,
            excused: 0,
            from: None,
            kind: Kind::Work,
            deployment,
        });
        chain
    }
}

impl Place {
    /// The checkpoint whose state it is.
    fn key(&self) -> (&str, u64) {
        (&self.storage, self.id)
    }
}

impl Chain {
    pub(super) fn newest(&self) -> Option<(u64, &Slot)> {
        self.slots.last_key_value().map(|(id, slot)| (*id, slot))
    }

    /// The newest checkpoint that is more than a beginning.
    fn work(&self) -> Option<u64> {
        let (id, slot) = self.newest()?;
        match slot.kind {
            Kind::Work => Some(id),
            Kind::Beginning(work) => work,
        }
    }

    pub(super) fn add(&mut self, slot: Slot) -> u64 {
        let id = self.slots.last_key_value().map_or(1, |(id, _)| id + 1);
        self.slots.insert(id, slot);
        while self.slots.len() > RETAINED + 1 {
            self.slots.pop_first();
        }
        id
    }

    /// A deployment begins somewhere.
    pub(super) fn begin(&mut self, position: u64, excused: u64, from: Option<Place>) -> u64 {
        let slot = Slot {
            position,
            excused,
            from,
            kind: Kind::Beginning(self.work()),
            deployment: self.deployment,
        };
        self.add(slot)
    }

    /// Whether what somebody believes to be the newest state is that.
    pub(super) fn is_newest(&self, storage: &str, place: &Place) -> bool {
        if self.slots.is_empty() {
            true
        } else if place.storage == storage {
            self.work() == Some(place.id)
        } else {
            // Of another chain: it counts until this one has begun from it.
            let begun = self.newest().and_then(|(_, slot)| slot.from.as_ref());
            begun.map(Place::key) != Some(place.key())
        }
    }
}
