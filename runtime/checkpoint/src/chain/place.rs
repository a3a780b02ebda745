//! What of a chain an address names.

use crate::chain::Chain;
use crate::slot::SlotNumber;
use crate::storage::{is_same_place, split_last};

/// What of a job's chain an address names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The job's folder: the newest checkpoint of its chain.
    Newest,
    /// One slot.
    Slot(SlotNumber),
    /// Something else in the job's folder, such as a savepoint.
    Beside,
}

impl Chain {
    /// What of this chain an address names; `None` if it lies outside of the job's folder.
    pub fn place(&self, uri: &str) -> Option<Place> {
        let own = self.path();
        let uri = uri.trim_end_matches('/');
        if is_same_place(uri, &own) {
            return Some(Place::Newest);
        }
        let mut folder = uri;
        let mut below = Vec::new();
        while let Some((parent, name)) = split_last(folder) {
            folder = parent;
            below.push(name);
            if is_same_place(folder, &own) {
                let slot = match below.as_slice() {
                    [slot, "chain"] => SlotNumber::from_file_name(slot),
                    _ => None,
                };
                return Some(slot.map_or(Place::Beside, Place::Slot));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::JobId;

    use super::*;
    use crate::storage::Storage;

    #[test]
    fn addresses_in_the_own_folder_are_known_however_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobId {
            namespace: "default".to_owned(),
            name: "orders".to_owned(),
        };
        let store = folder.path().join("store");
        let chain = Chain::new(Storage::directory(store.clone()), job);
        let at = |rest: &str| chain.place(&format!("file://{}{rest}", store.display()));
        let slot = Place::Slot(SlotNumber(42));
        assert_eq!(at("/default/orders"), Some(Place::Newest));
        assert_eq!(at("//default/./orders/"), Some(Place::Newest));
        assert_eq!(
            at("/default/orders/chain/00000000000000000042.json"),
            Some(slot)
        );
        assert_eq!(at("/default/orders/savepoints/a"), Some(Place::Beside));
        for outside in ["", "/default", "/default/orders2", "/other/orders"] {
            assert_eq!(at(outside), None, "{outside}");
        }
        assert_eq!(chain.place("s3://bucket/default/orders"), None);
        assert_eq!(chain.place("nonsense"), None);
        // Another way to the same directory.
        std::fs::create_dir_all(store.join("default/orders")).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&store, &link).unwrap();
        let linked = format!("file://{}/default/orders", link.display());
        assert_eq!(chain.place(&linked), Some(Place::Newest));
    }
}
