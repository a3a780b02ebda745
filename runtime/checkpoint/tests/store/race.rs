//! Two coordinators at one chain.

use millstream_checkpoint::{Chain, ClaimedChain, Error, Storage};
use millstream_tests::Minio;

use crate::s3::{open, options};
use crate::sample::{NOW, chain, directory, holder, manifest};

/// Races between two collections of garbage.
const COLLECTED_EVERY: u64 = 10;

/// The owner decides while another coordinator claims: both want the same slot. The loser then
/// takes the next one. Exactly one of them may believe in that slot.
async fn race(one: Storage, other: Storage, races: u64) {
    let chains: [Chain; 2] = [chain(&one), chain(&other)];
    let (mut owner, _): (ClaimedChain, _) = chains[0].claim(holder("0"), NOW).await.unwrap();
    let mut newest = 0;
    let (mut decisions, mut fences) = (0, 0);
    for round in 1..=races {
        let claimant = &chains[usize::try_from(round % 2).unwrap()];
        let id = newest + 1;
        let decide = owner.decide(manifest(owner.attempt(), id));
        let (decided, claimed) = tokio::join!(decide, claimant.claim(holder("x"), NOW));
        let (next, state) = claimed.unwrap();
        let restored = state.newest.map_or(0, |manifest| manifest.checkpoint.0);
        match decided {
            Ok(permit) => {
                assert_eq!(restored, id, "round {round}: decided and not restored");
                drop(permit);
                newest = id;
                decisions += 1;
            }
            Err(Error::Fenced { .. }) => {
                assert_eq!(
                    restored, newest,
                    "round {round}: fenced and restored nevertheless"
                );
                fences += 1;
            }
            Err(error) => panic!("round {round}: {error}"),
        }
        assert_eq!(next.attempt().0, round + 1);
        owner = next;
        if round % COLLECTED_EVERY == 0 && newest > 1 {
            newest += 1;
            drop(
                owner
                    .decide(manifest(owner.attempt(), newest))
                    .await
                    .unwrap(),
            );
            owner.collect_garbage(1).await.unwrap();
        }
    }
    assert!(owner.holds().await.unwrap());
    assert!(
        decisions > 0 && fences > 0,
        "{decisions} decisions, {fences} fences"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_and_a_claim_never_both_win_a_slot_in_files() {
    let (folder, one) = directory();
    let other = Storage::directory(folder.path().join("checkpoints"));
    race(one, other, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_and_a_claim_never_both_win_a_slot_in_s3() {
    let minio = Minio::start();
    let mut options = options(minio.endpoint());
    // A busy machine lets the server answer 503 for a while.
    options.s3.attempts = 10;
    race(open(&options).await, open(&options).await, 100).await;
}
