//! Two writers at one slot, a thousand times.

#![cfg(feature = "s3")]

use millstream_tests::Minio;
use millstream_types::{Attempt, CheckpointId, JobId};

use super::{Outcome, Slots};
use crate::envelope::{self, Sealed};
use crate::protocol::placing::Intent;
use crate::slot::{CommittedEntry, Entry, Slot, SlotNumber};
use crate::storage::{S3Credentials, S3Options, Storage, StorageOptions};

/// One more than fits on a page of an S3 listing.
const RACES: u64 = 1_001;

/// One of two writers.
struct Writer {
    slots: Slots,
    attempt: Attempt,
}

impl Writer {
    fn new(storage: Storage, attempt: u64) -> Self {
        let job = JobId {
            namespace: "default".to_owned(),
            name: "race".to_owned(),
        };
        Self {
            slots: Slots::of_job(storage, job),
            attempt: Attempt(attempt),
        }
    }

    fn entry(&self) -> CommittedEntry {
        CommittedEntry {
            checkpoint: None,
            given_up: None,
            swept_through: self.attempt,
        }
    }

    fn sealed(&self, number: SlotNumber) -> Sealed {
        let slot = Slot {
            job: self.slots.job.clone().unwrap(),
            number,
            attempt: self.attempt,
            newest: None,
            next_checkpoint: CheckpointId(1),
            deployment: None,
            lineage: None,
            entry: Entry::Committed(self.entry()),
        };
        envelope::seal(&slot).unwrap()
    }

    async fn write(&self, number: SlotNumber) -> Outcome {
        let intent = Intent::Committed(self.entry());
        let bytes = self.sealed(number).bytes;
        let placed = self.slots.place(number, self.attempt, &intent, &bytes);
        placed.await.unwrap()
    }
}

async fn race(one: Storage, other: Storage) {
    let (one, other) = (Writer::new(one, 1), Writer::new(other, 2));
    let mut wins = [0, 0];
    for number in (1..=RACES).map(SlotNumber) {
        // Neither is always asked first.
        let outcomes = if number.0 % 2 == 0 {
            tokio::join!(one.write(number), other.write(number))
        } else {
            let (second, first) = tokio::join!(other.write(number), one.write(number));
            (first, second)
        };
        let (winner, loser) = match &outcomes {
            (Outcome::Placed(_), Outcome::Overtaken(by)) => (&one, by),
            (Outcome::Overtaken(by), Outcome::Placed(_)) => (&other, by),
            both => panic!("slot {number}: {both:?}"),
        };
        assert_eq!(loser.as_ref().unwrap().attempt, winner.attempt);
        let key = winner.slots.key(number);
        let stored = winner.slots.storage.read(&key).await.unwrap().unwrap();
        assert_eq!(stored, winner.sealed(number).bytes);
        wins[usize::from(winner.attempt == other.attempt)] += 1;
    }
    for after in [0, 1, 990] {
        let listed = one.slots.list_after(SlotNumber(after)).await.unwrap();
        let expected: Vec<SlotNumber> = (after + 1..=RACES).map(SlotNumber).collect();
        assert_eq!(listed, expected);
    }
    assert!(wins.iter().all(|wins| *wins > 0), "no race: {wins:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_of_two_writers_wins_each_slot_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let storage = || Storage::directory(folder.path().to_owned());
    race(storage(), storage()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_one_of_two_writers_wins_each_slot_in_s3() {
    let minio = Minio::start();
    let options = StorageOptions {
        s3: S3Options {
            endpoint: Some(minio.endpoint()),
            path_style: true,
            credentials: Some(S3Credentials {
                access_key: Minio::ACCESS_KEY.to_owned(),
                secret_key: Minio::SECRET_KEY.to_owned(),
            }),
            ..S3Options::default()
        },
        ..StorageOptions::default()
    };
    let uri = format!("s3://{}/race", Minio::BUCKET);
    let one = Storage::open(&uri, &options).await.unwrap();
    let other = Storage::open(&uri, &options).await.unwrap();
    race(one, other).await;
}
