//! Late copies of the small objects beside the chain.

use millstream_types::{Attempt, JobId};

use super::{DeletionMark, ListingStart, Slots};
use crate::chain::Chain;
use crate::envelope;
use crate::error::Error;
use crate::slot::{Holder, SlotNumber};
use crate::storage::Storage;

fn slots(folder: &tempfile::TempDir) -> Slots {
    Slots::of_job(Storage::directory(folder.path().to_owned()), job())
}

fn job() -> JobId {
    JobId {
        namespace: "default".to_owned(),
        name: "orders".to_owned(),
    }
}

fn holder() -> Holder {
    Holder {
        name: "a".to_owned(),
        build: String::new(),
        identity: None,
        parallelism: 1,
        deployment: None,
        host: None,
        sinks: std::collections::BTreeMap::new(),
    }
}

#[tokio::test]
async fn a_mark_that_arrives_late_hides_no_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let slots = slots(&folder);
    let attempt = Attempt(3);
    assert_eq!(slots.deletion_mark(attempt).await.unwrap(), None);
    for below in [7, 12, 12, 9] {
        slots
            .mark_deletions(attempt, SlotNumber(below))
            .await
            .unwrap();
    }
    let mark = slots.deletion_mark(attempt).await.unwrap();
    assert_eq!(mark, Some(SlotNumber(12)));
    for other in [Attempt(2), Attempt(30)] {
        assert_eq!(slots.deletion_mark(other).await.unwrap(), None);
    }
    // Marks of older attempts can go, the own ones stay.
    slots
        .mark_deletions(Attempt(2), SlotNumber(5))
        .await
        .unwrap();
    let older = slots.marks_before(attempt).await.unwrap();
    assert_eq!(older, [slots.mark_key(Attempt(2), SlotNumber(5))]);
}

#[tokio::test]
async fn a_mark_of_an_earlier_build_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let slots = slots(&folder);
    let mark = DeletionMark {
        attempt: Attempt(3),
        below: SlotNumber(8),
    };
    let key = slots.marks().child("00000000000000000003.json");
    let bytes = envelope::seal(&mark).unwrap().bytes;
    slots.storage.door().put(&key, bytes).await.unwrap();
    let read = slots.deletion_mark(Attempt(3)).await.unwrap();
    assert_eq!(read, Some(SlotNumber(8)));
    assert_eq!(slots.marks_before(Attempt(4)).await.unwrap(), [key]);
}

#[tokio::test]
async fn a_start_that_arrives_late_does_not_make_a_chain_unreadable() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::directory(folder.path().to_owned());
    let chain = Chain::new(storage, job());
    let holder = holder();
    let now = millstream_types::Timestamp(0);
    for _ in 0..3 {
        chain.claim(holder.clone(), now).await.unwrap();
    }
    // Nobody has said that the first two attempts are swept, as after a deletion.
    let slots = slots(&folder);
    let start = ListingStart {
        slot: SlotNumber(3),
    };
    let bytes = envelope::seal(&start).unwrap().bytes;
    let door = slots.storage.door();
    door.put(&slots.start_key(), bytes).await.unwrap();
    assert_eq!(chain.observe().await.unwrap().claims.len(), 3);
    let (claimed, state) = chain.claim(holder, now).await.unwrap();
    assert_eq!((claimed.attempt(), state.claims.len()), (Attempt(4), 3));
}

#[tokio::test]
async fn a_chain_whose_end_is_gone_is_no_new_chain() {
    let folder = tempfile::tempdir().unwrap();
    let slots = slots(&folder);
    slots
        .mark_deletions(Attempt(1), SlotNumber(24))
        .await
        .unwrap();
    let chain = Chain::new(Storage::directory(folder.path().to_owned()), job());
    let error = chain.observe().await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("24") && text.contains("collected"), "{text}");
}
