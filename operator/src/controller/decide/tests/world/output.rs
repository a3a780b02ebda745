//! What a reader of the output sees: which records of the input are in it, and how often.

use std::collections::BTreeSet;

/// The output of one job, wherever its checkpoints lie.
#[derive(Debug, Default)]
pub(in crate::controller) struct Output {
    written: BTreeSet<u64>,
    /// Records that came a second time though nobody wanted that.
    pub(in crate::controller) doubled: u64,
    /// Records that were left out though nobody wanted that.
    pub(in crate::controller) lost: u64,
}

impl Output {
    /// Records `from..to` are committed by a job whose state says that everything below is. What
    /// lies below `excused` may come again, because a person has gone back to before it.
    pub(in crate::controller) fn commit(&mut self, from: u64, to: u64, excused: u64) {
        for record in from..to {
            let again = !self.written.insert(record);
            self.doubled += u64::from(again && record >= excused);
        }
        for record in 0..from {
            self.lost += u64::from(self.written.insert(record));
        }
    }

    /// The first record that was never written, nor any behind it.
    pub(in crate::controller) fn end(&self) -> u64 {
        self.written.last().map_or(0, |last| last + 1)
    }

    /// A person leaves everything below out.
    pub(super) fn leave_out(&mut self, below: u64) {
        self.written.extend(0..below);
    }
}
