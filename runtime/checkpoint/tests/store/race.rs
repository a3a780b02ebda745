//! Two coordinators at one chain.

use std::sync::Arc;

use millstream_checkpoint::{Chain, ChainState, ClaimedChain, Error, Storage};
use millstream_tests::Minio;
use tokio::sync::Barrier;

use crate::proxy::{Fault, Proxy};
use crate::s3::{open, options};
use crate::sample::{NOW, chain, directory, holder, manifest};

/// Races between two collections of garbage.
const COLLECTED_EVERY: u64 = 10;

/// Two coordinators that claim the chain by turns.
pub(crate) struct Race {
    chains: [Chain; 2],
    owner: ClaimedChain,
    newest: u64,
    decisions: u64,
    fences: u64,
}

impl Race {
    pub(crate) async fn new(one: Storage, other: Storage) -> Self {
        let chains = [chain(&one), chain(&other)];
        let (owner, _) = chains[0].claim(holder("0"), NOW).await.unwrap();
        Self {
            chains,
            owner,
            newest: 0,
            decisions: 0,
            fences: 0,
        }
    }

    /// The owner tries some decisions while the other one claims: both want the same slots. What
    /// the owner believes to be decided must be exactly what the other restores.
    pub(crate) async fn round(&mut self, round: u64, tries: u64) {
        let claimant = self.chains[usize::try_from(round % 2).unwrap()].clone();
        let claim = claimant.claim(holder("x"), NOW);
        let (fenced, claimed) = tokio::join!(self.decide(tries), claim);
        let (next, state): (ClaimedChain, ChainState) = claimed.unwrap();
        let restored = state.newest.map_or(0, |manifest| manifest.checkpoint.0);
        assert_eq!(restored, self.newest, "round {round}");
        assert_eq!(next.attempt().0, round + 1);
        self.fences += u64::from(fenced);
        self.owner = next;
        if round.is_multiple_of(COLLECTED_EVERY) {
            self.decide(1).await;
            self.owner.collect_garbage(1).await.unwrap();
        }
    }

    /// Decides up to so many checkpoints; whether it was fenced.
    async fn decide(&mut self, tries: u64) -> bool {
        for _ in 0..tries {
            let next = manifest(self.owner.attempt(), self.newest + 1);
            match self.owner.decide(next).await {
                Ok(permit) => {
                    self.newest = permit.decided().id.0;
                    self.decisions += 1;
                }
                Err(Error::Fenced { .. }) => return true,
                Err(error) => panic!("{error}"),
            }
        }
        false
    }

    pub(crate) async fn end(self) {
        assert!(self.owner.holds().await.unwrap());
        assert!(
            self.decisions > 0 && self.fences > 0,
            "{} decisions, {} fences",
            self.decisions,
            self.fences
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_owner_decides_while_it_is_deposed_is_what_is_restored_in_files() {
    let (folder, one) = directory();
    let other = Storage::directory(folder.path().join("checkpoints"));
    let mut race = Race::new(one, other).await;
    for round in 1..=300 {
        // The claim meets a first, a middle and no decision.
        race.round(round, round % 20).await;
    }
    race.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_owner_decides_while_it_is_deposed_is_what_is_restored_in_s3() {
    let minio = Minio::start();
    let proxy = Proxy::before(minio.endpoint().replace("http://", "")).await;
    let mut options = options(proxy.endpoint());
    // A busy machine lets the server answer 503 for a while.
    options.s3.attempts = 10;
    let mut race = Race::new(open(&options).await, open(&options).await).await;
    for round in 1..=100 {
        // The claim and the decision arrive at the store at the same moment.
        let both = Fault::Meet(Arc::new(Barrier::new(2)));
        proxy.next("PUT", "/chain/", vec![both.clone(), both]);
        race.round(round, 1).await;
        assert_eq!(proxy.heal(), 2);
    }
    race.end().await;
}
