//! Deleting old checkpoints, against a model that only counts.

use std::collections::BTreeSet;
use std::path::Path;

use millstream_checkpoint::{Chain, ClaimedChain, StorageOptions, read_savepoint};
use proptest::prelude::*;

use crate::sample::{NOW, chain, directory, holder, manifest};

/// What may happen to a chain.
#[derive(Debug, Clone)]
enum Step {
    /// A new attempt begins.
    Claim,
    /// The next checkpoint is decided.
    Decide { large: bool },
    /// The newest own decision is confirmed.
    Confirm,
    /// A savepoint is written.
    Savepoint { large: bool },
    /// Old checkpoints are deleted.
    Collect { retained: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let large = || prop::bool::weighted(0.1);
    prop_oneof![
        2 => Just(Step::Claim),
        8 => large().prop_map(|large| Step::Decide { large }),
        5 => Just(Step::Confirm),
        1 => large().prop_map(|large| Step::Savepoint { large }),
        3 => (1_u32..4).prop_map(|retained| Step::Collect { retained }),
    ]
}

/// Larger than what lies in a slot.
const LARGE: usize = 5 * 1024 * 1024;

/// A job whose past is also kept in the simplest way.
struct Job {
    chain: Chain,
    claimed: ClaimedChain,
    claims: usize,
    next: u64,
    checkpoints: Vec<u64>,
    large: BTreeSet<u64>,
    savepoints: Vec<(String, u64)>,
    permit: Option<millstream_checkpoint::CommitPermit>,
}

impl Job {
    async fn new(chain: Chain) -> Self {
        let (claimed, _) = chain.claim(holder("a"), NOW).await.unwrap();
        Self {
            chain,
            claimed,
            claims: 1,
            next: 1,
            checkpoints: Vec::new(),
            large: BTreeSet::new(),
            savepoints: Vec::new(),
            permit: None,
        }
    }

    fn manifest(&mut self, large: bool) -> millstream_checkpoint::Manifest {
        let mut manifest = manifest(self.claimed.attempt(), self.next);
        if large {
            manifest.fingerprint = "x".repeat(LARGE);
        }
        self.next += 1;
        manifest
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Claim => {
                self.permit = None;
                self.claimed = self.chain.claim(holder("a"), NOW).await.unwrap().0;
                self.claims += 1;
            }
            Step::Decide { large } => {
                let manifest = self.manifest(*large);
                let id = manifest.checkpoint.0;
                self.permit = Some(self.claimed.decide(manifest).await.unwrap());
                self.checkpoints.push(id);
                if *large {
                    self.large.insert(id);
                }
            }
            Step::Confirm => {
                if let Some(permit) = self.permit.take() {
                    self.claimed.committed(permit).await.unwrap();
                }
            }
            Step::Savepoint { large } => {
                let manifest = self.manifest(*large);
                let name = format!("s{}", manifest.checkpoint);
                let id = manifest.checkpoint.0;
                let saved = self.claimed.savepoint(&name, manifest).await.unwrap();
                self.savepoints.push((saved.path, id));
            }
            Step::Collect { retained } => {
                self.claimed.collect_garbage(*retained).await.unwrap();
                let retained = usize::try_from(*retained).unwrap();
                let surplus = self.checkpoints.len().saturating_sub(retained);
                self.checkpoints.drain(..surplus);
            }
        }
    }

    async fn check(&self, folder: &Path) {
        let state = self.chain.observe().await.unwrap();
        let ids: Vec<u64> = state.checkpoints.iter().map(|entry| entry.id.0).collect();
        assert_eq!(ids, self.checkpoints);
        let newest = state.newest.map(|manifest| manifest.checkpoint.0);
        assert_eq!(newest, self.checkpoints.last().copied());
        let options = StorageOptions::default();
        for entry in &state.checkpoints {
            let read = read_savepoint(&entry.path, &options).await.unwrap();
            assert_eq!(read.checkpoint, entry.id);
        }
        for (address, id) in &self.savepoints {
            let read = read_savepoint(address, &options).await.unwrap();
            assert_eq!(read.checkpoint.0, *id);
        }
        let kept: BTreeSet<u64> = self.checkpoints.iter().copied().collect();
        let large = self.large.intersection(&kept).count();
        assert_eq!(
            files(&folder.join("data")),
            large,
            "objects without a checkpoint"
        );
        assert!(files(&folder.join("chain")) >= self.claims + kept.len());
    }
}

fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            if entry.file_type().unwrap().is_dir() {
                files(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn exactly_the_newest_checkpoints_and_what_they_name_stay(
        steps in prop::collection::vec(step(), 1..30)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (folder, storage) = directory();
            let mut job = Job::new(chain(&storage)).await;
            for step in &steps {
                job.take(step).await;
            }
            job.check(&folder.path().join("checkpoints/default/orders")).await;
        });
    }
}

#[tokio::test]
async fn what_older_attempts_left_goes_and_what_the_live_one_writes_stays() {
    let (folder, storage) = directory();
    let job = folder.path().join("checkpoints/default/orders");
    let put = |path: &str| {
        let path = job.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    };
    let (mut first, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    drop(first.decide(manifest(first.attempt(), 1)).await.unwrap());
    let (mut second, _) = chain(&storage).claim(holder("b"), NOW).await.unwrap();
    put("data/1/7/never-decided.json");
    put("data/2/7/not-decided-yet.json");
    put("chain/.00000000000000000002.json.abc.tmp");
    put("chain/.00000000000000000009.json.abc.tmp");
    let collected = second.collect_garbage(1).await.unwrap();
    assert_eq!(
        (collected.slots, collected.objects, collected.unfinished),
        (0, 1, 1)
    );
    for (path, there) in [
        ("data/1/7/never-decided.json", false),
        ("data/2/7/not-decided-yet.json", true),
        ("chain/.00000000000000000002.json.abc.tmp", false),
        ("chain/.00000000000000000009.json.abc.tmp", true),
    ] {
        assert_eq!(job.join(path).try_exists().unwrap(), there, "{path}");
    }
}

#[tokio::test]
async fn a_long_chain_is_listed_from_where_it_still_matters() {
    let (folder, storage) = directory();
    let start = folder
        .path()
        .join("checkpoints/default/orders/chain-start.json");
    for id in 1..=5 {
        let (mut claimed, state) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
        claimed
            .restate_commit(
                claimed.recovery_permit(),
                state
                    .lingering()
                    .last()
                    .map_or(millstream_types::Attempt(0), |last| last.0),
            )
            .await
            .unwrap();
        drop(
            claimed
                .decide(manifest(claimed.attempt(), id))
                .await
                .unwrap(),
        );
        claimed.collect_garbage(1).await.unwrap();
    }
    let state = chain(&storage).observe().await.unwrap();
    let attempts: Vec<u64> = state.claims.iter().map(|claim| claim.attempt.0).collect();
    assert_eq!(attempts, [5], "older claims are not even read");

    // A hint that is wrong or damaged costs time, nothing else.
    std::fs::write(&start, "nonsense").unwrap();
    let everything = chain(&storage).observe().await.unwrap();
    assert_eq!(everything.claims.len(), 5);
    assert_eq!(everything.newest, state.newest);
}
