//! Chains of jobs that an operator deploys.

use millstream_checkpoint::{Admission, EarlierAttempt, Error, Holder, Release, ReleaseReason};
use millstream_types::{Attempt, Deployment, ErrorCode, ErrorKind, Failure};

use crate::sample::{NOW, chain, directory, holder, manifest};

fn deployed(name: &str, deployment: u64) -> Holder {
    Holder {
        deployment: Some(Deployment(deployment)),
        ..holder(name)
    }
}

#[tokio::test]
async fn a_restart_of_a_deployment_resumes_and_a_newer_one_begins() {
    let (_folder, storage) = directory();
    let chain = chain(&storage);
    let (mut first, state) = chain.claim(deployed("a", 5), NOW).await.unwrap();
    assert_eq!(state.admits(Some(Deployment(5))), Admission::Begin);
    // Dead before anything is decided: its start counts again.
    let (mut again, state) = chain.claim(deployed("b", 5), NOW).await.unwrap();
    assert_eq!(state.admits(Some(Deployment(5))), Admission::Begin);
    let late = first.decide(manifest(Attempt(1), 1)).await;
    assert!(matches!(late, Err(Error::Fenced { .. })), "{late:?}");
    let permit = again.decide(manifest(Attempt(2), 1)).await.unwrap();
    again.committed(permit).await.unwrap();

    let (_resumed, state) = chain.claim(deployed("c", 5), NOW).await.unwrap();
    assert_eq!(state.admits(Some(Deployment(5))), Admission::Resume);
    let (_newer, state) = chain.claim(deployed("d", 6), NOW).await.unwrap();
    assert_eq!(state.admits(Some(Deployment(6))), Admission::Begin);
    assert_eq!(state.deployment, Some(Deployment(5)));
}

#[tokio::test]
async fn an_older_deployment_is_refused_and_fences_nobody() {
    let (_folder, storage) = directory();
    let chain = chain(&storage);
    let (newer, _) = chain.claim(deployed("new", 6), NOW).await.unwrap();
    let refused = chain.claim(deployed("zombie", 5), NOW).await;
    let error = refused.map(drop).unwrap_err();
    assert!(matches!(error, Error::Superseded { .. }));
    for part in ["deployment 5", "deployment 6", "default/orders"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(Failure::from(error).kind, ErrorKind::Fenced);
    assert!(newer.holds().await.unwrap());
}

#[tokio::test]
async fn a_person_may_take_a_job_over_and_the_older_deployment_stays_out() {
    let (_folder, storage) = directory();
    let chain = chain(&storage);
    chain.claim(deployed("operator", 6), NOW).await.unwrap();
    let refused = chain.claim(holder("person"), NOW).await;
    let error = refused.map(drop).unwrap_err();
    assert!(matches!(error, Error::PathTaken { .. }));
    for part in ["deployment 6", "operator", "--take-over"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let (mut person, _) = chain.take_over(holder("person"), NOW).await.unwrap();
    let decided = person.decide(manifest(Attempt(2), 1)).await;
    decided.map(drop).unwrap();
    assert_eq!(
        chain.observe().await.unwrap().deployment,
        Some(Deployment(6))
    );
    let refused = chain.claim(deployed("zombie", 5), NOW).await;
    assert!(matches!(refused, Err(Error::Superseded { .. })));
}

#[tokio::test]
async fn a_deployment_that_has_ended_says_how_and_is_not_claimed_again() {
    let (_folder, storage) = directory();
    let chain = chain(&storage);
    let (mut claimed, _) = chain.claim(deployed("a", 5), NOW).await.unwrap();
    let decided = claimed.decide(manifest(Attempt(1), 1)).await;
    decided.map(drop).unwrap();
    let failure = Failure::new(
        ErrorCode::KafkaTransactionLost,
        ErrorKind::DataLoss,
        "the broker has aborted it",
    );
    let release = Release {
        savepoint: Some("file:///savepoints/last".to_owned()),
        restored_from: Some("file:///savepoints/first".to_owned()),
        time: Some(NOW),
        ..ReleaseReason::Failed.into()
    };
    let release = release.with_failure(Some(&failure));
    claimed.release(release.clone()).await.unwrap();

    let refused = chain.claim(deployed("again", 5), NOW).await;
    assert!(matches!(refused, Err(Error::Over { .. })));
    let state = chain.observe().await.unwrap();
    assert_eq!(state.admits(Some(Deployment(5))), Admission::Over);
    assert_eq!(state.release, Some(release));
    assert_eq!(state.claims.len(), 1, "nothing was claimed");

    let (_next, state) = chain.claim(deployed("next", 6), NOW).await.unwrap();
    assert_eq!(state.admits(Some(Deployment(6))), Admission::Begin);
    assert!(state.newest.is_some());
}

#[tokio::test]
async fn a_person_who_releases_a_chain_ends_no_deployment() {
    let (_folder, storage) = directory();
    let chain = chain(&storage);
    let (mut claimed, _) = chain.claim(deployed("a", 5), NOW).await.unwrap();
    let decided = claimed.decide(manifest(Attempt(1), 1)).await;
    decided.map(drop).unwrap();
    let (mut person, _) = chain.take_over(holder("person"), NOW).await.unwrap();
    person.release(ReleaseReason::Failed).await.unwrap();
    let state = chain.observe().await.unwrap();
    assert_eq!(state.admits(Some(Deployment(5))), Admission::Resume);
    chain.claim(deployed("a", 5), NOW).await.unwrap();
    // A chain that a person holds, or has released, is free for persons.
    chain.take_over(holder("person"), NOW).await.unwrap();
    chain.claim(holder("another person"), NOW).await.unwrap();
}

#[tokio::test]
async fn a_deployment_that_has_ended_stays_so_while_a_person_runs_the_job() {
    let (_folder, storage) = directory();
    let chain = chain(&storage);
    let (mut claimed, _) = chain.claim(deployed("a", 5), NOW).await.unwrap();
    let decided = claimed.decide(manifest(Attempt(1), 1)).await;
    decided.map(drop).unwrap();
    claimed.release(ReleaseReason::Stopped).await.unwrap();
    for _ in 0..2 {
        let (mut person, _) = chain.claim(holder("person"), NOW).await.unwrap();
        let refused = chain.claim(deployed("a", 5), NOW).await;
        assert!(matches!(refused, Err(Error::Over { .. })));
        person.release(ReleaseReason::Stopped).await.unwrap();
        let refused = chain.claim(deployed("a", 5), NOW).await;
        assert!(matches!(refused, Err(Error::Over { .. })));
    }
    let (_, state) = chain.claim(deployed("b", 6), NOW).await.unwrap();
    assert_eq!(state.admits(Some(Deployment(6))), Admission::Begin);
}

#[tokio::test]
async fn a_claim_remembers_the_places_that_it_replaces() {
    let (_folder, storage) = directory();
    let chain = chain(&storage);
    let at = |host: &str, deployment| Holder {
        host: Some(host.to_owned()),
        ..deployed(host, deployment)
    };
    for (holder, replaced) in [
        (at("pod-a", 5), vec![]),
        (at("pod-a", 5), vec![]),
        (at("pod-b", 5), vec!["pod-a"]),
        (at("pod-c", 5), vec!["pod-a", "pod-b"]),
        (at("pod-a", 5), vec!["pod-b", "pod-c"]),
        // What another deployment's pods have held is no concern of this one's.
        (at("pod-d", 6), vec![]),
    ] {
        let (claimed, _) = chain.claim(holder.clone(), NOW).await.unwrap();
        let claims = chain.observe().await.unwrap().claims;
        let last = claims.last().unwrap();
        assert_eq!(last.attempt, claimed.attempt());
        assert_eq!(last.replaced, replaced, "{holder:?}");
    }
}

#[tokio::test]
async fn a_claim_remembers_the_parallelism_of_attempts_before_it() {
    let (_folder, storage) = directory();
    let chain = chain(&storage);
    for parallelism in 1..=20 {
        let holder = Holder {
            parallelism,
            ..deployed("pod-a", 5)
        };
        chain.claim(holder, NOW).await.unwrap();
    }
    let claims = chain.observe().await.unwrap().claims;
    let earlier = &claims.last().unwrap().earlier;
    let expected = (4..=19).map(|attempt| EarlierAttempt {
        attempt: Attempt(attempt),
        parallelism: u32::try_from(attempt).unwrap(),
    });
    assert_eq!(*earlier, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_chain_that_was_written_before_there_were_deployments_is_taken_on() {
    let (folder, storage) = directory();
    let chain = chain(&storage);
    let (mut old, _) = chain.claim(holder("old"), NOW).await.unwrap();
    let decided = old.decide(manifest(Attempt(1), 1)).await;
    decided.map(drop).unwrap();
    old.release(ReleaseReason::Stopped).await.unwrap();
    let slots = std::fs::read_dir(folder.path().join("checkpoints/default/orders/chain")).unwrap();
    for slot in slots {
        let text = std::fs::read_to_string(slot.unwrap().path()).unwrap();
        assert!(
            !text.contains("deployment"),
            "it reads as it did before: {text}"
        );
    }
    let (_claimed, state) = chain.claim(deployed("new", 5), NOW).await.unwrap();
    assert_eq!(state.released(), Some(ReleaseReason::Stopped));
    assert_eq!(state.admits(Some(Deployment(5))), Admission::Begin);
    assert!(state.newest.is_some());
}
