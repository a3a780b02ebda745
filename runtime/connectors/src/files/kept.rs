//! Which committed files need not be kept any more. Pure.
//!
//! A file is listed by every snapshot from the one that it was prepared in until the writer is told
//! that it is committed. So no checkpoint lists it any more that is taken after the news; and when
//! a file that was prepared after the news is committed, no checkpoint that lists it can still be.

use std::collections::BTreeMap;

/// Files of one writer, by their names before they were committed.
#[derive(Debug, Default)]
pub(super) struct Kept {
    snapshots: u64,
    /// In which snapshot each was prepared.
    prepared: BTreeMap<String, u64>,
    /// How many snapshots there were when the writer was told that each is committed.
    told: BTreeMap<String, u64>,
}

impl Kept {
    /// A snapshot is taken, in which a file may be prepared.
    pub(super) fn snapshot(&mut self, file: Option<String>) {
        self.snapshots += 1;
        if let Some(file) = file {
            self.prepared.insert(file, self.snapshots);
        }
    }

    /// These are committed, and a completed checkpoint has said so. Returns those that no checkpoint
    /// can still list.
    pub(super) fn committed(&mut self, files: &[String]) -> Vec<String> {
        let newest = files
            .iter()
            .filter_map(|file| self.prepared.get(file))
            .max();
        let newest = newest.copied().unwrap_or(0);
        let freed = self.told.extract_if(.., |_, told| *told < newest);
        let freed: Vec<String> = freed.map(|(file, _)| file).collect();
        for file in files {
            if self.prepared.remove(file).is_some() {
                self.told.insert(file.clone(), self.snapshots);
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_file_is_kept_until_one_that_was_prepared_after_the_news_is_committed() {
        let mut kept = Kept::default();
        kept.snapshot(Some("a".into()));
        assert_eq!(kept.committed(&names(&["a"])), names(&[]));
        kept.snapshot(None);
        assert_eq!(kept.committed(&names(&[])), names(&[]));
        kept.snapshot(Some("b".into()));
        assert_eq!(kept.committed(&names(&["b"])), names(&["a"]));
    }

    #[test]
    fn a_checkpoint_that_overlaps_the_news_frees_nothing() {
        let mut kept = Kept::default();
        kept.snapshot(Some("a".into()));
        // Lists `a` too: its barrier was before the news.
        kept.snapshot(Some("b".into()));
        assert_eq!(kept.committed(&names(&["a"])), names(&[]));
        assert_eq!(kept.committed(&names(&["a", "b"])), names(&[]));
        kept.snapshot(Some("c".into()));
        assert_eq!(kept.committed(&names(&["c"])), names(&["a", "b"]));
    }
}
