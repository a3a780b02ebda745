//! Writes whose outcome the writer does not see.

use std::sync::Arc;

use millstream_checkpoint::{Chain, ClaimedChain, Error, StorageOptions};
use millstream_tests::Minio;
use millstream_types::{Attempt, CheckpointId};
use tokio::sync::Notify;

use crate::proxy::{Fault, Proxy};
use crate::s3::{open, options};
use crate::sample::{NOW, chain, holder, manifest};

/// A store, a way to it that fails on request, and one that does not.
struct Setting {
    _minio: Minio,
    proxy: Proxy,
    /// The chain through the proxy.
    shaky: Chain,
    /// The chain directly.
    direct: Chain,
}

impl Setting {
    /// `attempts` is how often the client itself repeats a request that failed.
    async fn new(attempts: u32) -> Self {
        let minio = Minio::start();
        let upstream = minio.endpoint().replace("http://", "");
        let proxy = Proxy::before(upstream).await;
        let through = |endpoint: String| {
            let mut options: StorageOptions = options(endpoint);
            options.s3.attempts = attempts;
            options
        };
        let shaky = chain(&open(&through(proxy.endpoint())).await);
        let direct = chain(&open(&through(minio.endpoint())).await);
        Self {
            _minio: minio,
            proxy,
            shaky,
            direct,
        }
    }

    async fn ids(&self) -> Vec<u64> {
        let state = self.direct.observe().await.unwrap();
        state.checkpoints.iter().map(|entry| entry.id.0).collect()
    }
}

const SLOT: &str = "/chain/";

async fn claimed(chain: &Chain, name: &str) -> ClaimedChain {
    chain.claim(holder(name), NOW).await.unwrap().0
}

async fn decide(claimed: &mut ClaimedChain, id: u64) -> Result<(), Error> {
    let attempt = claimed.attempt();
    claimed.decide(manifest(attempt, id)).await.map(drop)
}

#[tokio::test]
async fn a_write_whose_reply_is_lost_is_found_to_be_done() {
    // With attempts, the client repeats the write by itself and meets its own object.
    for attempts in [1, 4] {
        let setting = Setting::new(attempts).await;
        setting.proxy.next("PUT", SLOT, vec![Fault::ReplyLost]);
        let mut claimed = claimed(&setting.shaky, "a").await;
        assert_eq!(setting.proxy.heal(), 1);
        for (id, fault) in [(1, Fault::ReplyLost), (2, Fault::AppliedConflict)] {
            setting.proxy.next("PUT", SLOT, vec![fault]);
            decide(&mut claimed, id).await.unwrap();
            assert_eq!(setting.proxy.heal(), 1);
        }
        assert_eq!(claimed.attempt(), Attempt(1));
        assert_eq!(setting.ids().await, [1, 2]);
        let state = setting.direct.observe().await.unwrap();
        assert_eq!(state.claims.len(), 1);
        assert_eq!(state.checkpoints[1].slot.0, 3, "no slot is wasted");
    }
}

#[tokio::test]
async fn a_write_that_did_not_arrive_is_repeated() {
    let setting = Setting::new(1).await;
    let mut claimed = claimed(&setting.shaky, "a").await;
    let faults = [Fault::Dropped, Fault::Conflict, Fault::SlowDown];
    for (id, fault) in (1..).zip(faults) {
        setting.proxy.next("PUT", SLOT, vec![fault.clone(), fault]);
        decide(&mut claimed, id).await.unwrap();
        assert_eq!(setting.proxy.heal(), 2);
    }
    assert_eq!(setting.ids().await, [1, 2, 3]);
}

#[tokio::test]
async fn whoever_was_overtaken_while_the_outcome_was_unknown_is_fenced() {
    let setting = Setting::new(1).await;
    let mut old = claimed(&setting.shaky, "old").await;
    decide(&mut old, 1).await.unwrap();
    let arrive = Arc::new(Notify::new());
    let late = Fault::Late(Arc::clone(&arrive));
    setting.proxy.next("PUT", SLOT, vec![late, Fault::Dropped]);
    let overtake = async {
        let (new, state) = setting.direct.claim(holder("new"), NOW).await.unwrap();
        arrive.notify_one();
        (new, state.newest.unwrap().checkpoint)
    };
    let (decided, (mut new, restored)) = tokio::join!(decide(&mut old, 2), overtake);
    assert_eq!(setting.proxy.heal(), 2, "the faults were met");
    // Either may be first: the repeated write or the claim.
    match decided {
        Ok(()) => assert_eq!(restored, CheckpointId(2)),
        Err(error) => {
            assert!(matches!(error, Error::Fenced { .. }), "{error:?}");
            assert_eq!(restored, CheckpointId(1));
        }
    }
    assert!(matches!(
        decide(&mut old, 3).await,
        Err(Error::Fenced { .. })
    ));
    decide(&mut new, 3).await.unwrap();
}

#[tokio::test]
async fn a_write_that_arrives_after_a_newer_claim_changes_nothing() {
    let setting = Setting::new(1).await;
    let mut old = claimed(&setting.shaky, "old").await;
    decide(&mut old, 1).await.unwrap();
    let arrive = Arc::new(Notify::new());
    setting
        .proxy
        .next("PUT", SLOT, vec![Fault::Late(Arc::clone(&arrive))]);
    setting.proxy.then_always(Fault::Dropped);
    let unknown = decide(&mut old, 2).await;
    assert!(
        matches!(unknown, Err(Error::Unavailable { .. })),
        "{unknown:?}"
    );

    let (mut new, state) = setting.direct.claim(holder("new"), NOW).await.unwrap();
    assert_eq!(state.newest.unwrap().checkpoint, CheckpointId(1));
    arrive.notify_one();
    setting.proxy.heal();
    assert!(matches!(
        decide(&mut old, 2).await,
        Err(Error::Fenced { .. })
    ));
    decide(&mut new, 2).await.unwrap();
    let newest = setting.direct.observe().await.unwrap().newest.unwrap();
    assert_eq!(newest.attempt, Attempt(2));
}

#[tokio::test]
async fn a_decision_that_stayed_unknown_is_settled_before_the_next() {
    let setting = Setting::new(1).await;
    let mut claimed = claimed(&setting.shaky, "a").await;
    decide(&mut claimed, 1).await.unwrap();
    for (id, fault) in [(2, Fault::Dropped), (4, Fault::ReplyLost)] {
        setting.proxy.always("PUT", SLOT, fault.clone());
        if matches!(fault, Fault::ReplyLost) {
            // The write is there at once; reading it fails, too.
            setting.proxy.always("", SLOT, fault);
        }
        let unknown = decide(&mut claimed, id).await;
        assert!(
            matches!(unknown, Err(Error::Unavailable { .. })),
            "{unknown:?}"
        );
        setting.proxy.heal();
        decide(&mut claimed, id + 1).await.unwrap();
    }
    assert_eq!(setting.ids().await, [1, 2, 3, 4, 5]);
    let state = setting.direct.observe().await.unwrap();
    let slots: Vec<u64> = state.checkpoints.iter().map(|entry| entry.slot.0).collect();
    assert_eq!(slots, [2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_decision_that_stayed_unknown_may_be_asked_for_again() {
    let setting = Setting::new(1).await;
    let mut claimed = claimed(&setting.shaky, "a").await;
    setting.proxy.always("PUT", SLOT, Fault::Dropped);
    let unknown = decide(&mut claimed, 1).await;
    assert!(
        matches!(unknown, Err(Error::Unavailable { .. })),
        "{unknown:?}"
    );
    setting.proxy.heal();
    let permit = claimed.decide(manifest(Attempt(1), 1)).await.unwrap();
    assert_eq!(permit.decided().slot.0, 2);
    claimed.committed(permit).await.unwrap();
    assert_eq!(setting.ids().await, [1]);
}
