//! Reading a chain as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};

use crate::chain::slots::Slots;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::protocol::Records;
use crate::protocol::view::{Gap, View};
use crate::slot::{Slot, SlotNumber};

/// Slots that are read at the same time.
const CONCURRENT_READS: usize = 16;
/// How often a chain is looked at again whose slots do not fit together.
const LOOKS: u32 = 4;

/// What a reading of a chain found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survey {
    /// Slots that were understood.
    pub(crate) records: Records,
    /// Slots that were not, and why.
    pub(crate) unreadable: BTreeMap<SlotNumber, String>,
    /// What the newest checkpoint among them holds, so that it need not be read again.
    pub(crate) newest: Option<(SlotNumber, Slot)>,
    /// Where listings begin, once that has been looked up; 0 if nobody has said it.
    start: Option<SlotNumber>,
}

impl Survey {
    fn keep_newest(&mut self, number: SlotNumber, slot: Slot) {
        if self.newest.as_ref().is_none_or(|newest| newest.0 < number) {
            self.newest = Some((number, slot));
        }
    }

    /// Lists everything from now on, if a start was remembered: it is only a hint. Whether it was.
    pub(crate) fn list_all(&mut self) -> bool {
        let started_later = self.start.is_some_and(|start| start != SlotNumber(0));
        self.start = Some(SlotNumber(0));
        started_later
    }

    pub(crate) fn unreadable_slots(&self) -> Vec<SlotNumber> {
        self.unreadable.keys().copied().collect()
    }
}

/// Counts looks at a chain whose slots do not fit together. Slots that are written and deleted
/// while one looks can hide each other, so the first look need not be right.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    done: u32,
}

impl Looks {
    /// Waits for the next look, or gives up with `error`.
    pub(crate) async fn again(&mut self, error: impl FnOnce() -> Error) -> Result<()> {
        self.done += 1;
        if self.done >= LOOKS {
            return Err(error());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }
}

impl Slots {
    /// Reads what is there beyond what is `known`; forgets what has gone.
    pub(crate) async fn survey(&self, known: &mut Survey) -> Result<()> {
        let start = match known.start {
            Some(start) => start,
            None => *known.start.insert(self.listing_start().await?),
        };
        let listed: BTreeSet<SlotNumber> = self.list(start).await?.into_iter().collect();
        known.records.retain(|slot, _| listed.contains(slot));
        known.unreadable.retain(|slot, _| listed.contains(slot));
        let unknown = listed
            .into_iter()
            .filter(|slot| !known.records.contains_key(slot))
            .collect::<Vec<_>>();
        let mut reads = stream::iter(unknown)
            .map(|slot| async move { (slot, self.read(slot).await) })
            .buffer_unordered(CONCURRENT_READS);
        while let Some((slot, read)) = reads.next().await {
            match read {
                Ok(Some((body, record))) => {
                    if record.checkpoint().is_some() {
                        known.keep_newest(slot, body);
                    }
                    known.unreadable.remove(&slot);
                    known.records.insert(slot, record);
                }
                Ok(None) => {}
                Err(Error::Corrupt { reason, .. }) => {
                    known.unreadable.insert(slot, reason);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the chain until its slots fit together.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the slot that does not fit.
    pub(crate) async fn view(&self, known: &mut Survey) -> Result<View> {
        let mut looks = Looks::default();
        loop {
            self.survey(known).await?;
            match View::of(&known.records, &known.unreadable_slots()) {
                Ok(view) => return Ok(view),
                Err(_) if known.list_all() => {}
                Err(gap) => looks.again(|| self.gap(known, gap)).await?,
            }
        }
    }

    /// As [`view`](Self::view), and checks that the end of the chain is there: an empty chain is a
    /// new one only if nobody has ever deleted slots of it.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub(crate) async fn whole_view(&self, known: &mut Survey) -> Result<View> {
        // Before the slots: whoever deletes slots says so while there are newer ones.
        let reached = self.highest_mark().await?;
        let mut looks = Looks::default();
        loop {
            let view = self.view(known).await?;
            if view.tail >= reached {
                return Ok(view);
            }
            // All that was listed may have been deleted, for newer ones, before it was read.
            if !known.list_all() {
                looks.again(|| self.cut_off(view.tail, reached)).await?;
            }
        }
    }

    /// The error that a chain is whose end is gone.
    fn cut_off(&self, tail: SlotNumber, reached: SlotNumber) -> Error {
        let found = if tail == SlotNumber(0) {
            "there is none".to_owned()
        } else {
            format!("the newest is {tail}")
        };
        Error::corrupt(
            self.chain_address(),
            format!(
                "slots up to {reached} and newer ones have been there, as the marks in `{}` say, \
                 and now {found}: somebody has deleted objects",
                self.marks()
            ),
        )
    }

    /// The error that a gap is, if it stays.
    pub(crate) fn gap(&self, known: &Survey, gap: Gap) -> Error {
        let Some(slot) = gap.slot else {
            return Error::corrupt(self.chain_address(), gap.reason);
        };
        let reason = known.unreadable.get(&slot).map_or_else(
            || gap.reason.clone(),
            |why| format!("{why}; {}", gap.reason),
        );
        Error::corrupt(self.address(slot), reason)
    }

    /// As [`manifest`](Self::manifest), for a slot that a survey has found.
    pub(crate) async fn surveyed_manifest(
        &self,
        survey: &Survey,
        number: SlotNumber,
    ) -> Result<Option<Manifest>> {
        match survey.newest.as_ref().filter(|newest| newest.0 == number) {
            Some((_, slot)) => self.manifest_in(slot.clone()).await.map(Some),
            None => self.manifest(number).await,
        }
    }
}
