use std::collections::BTreeSet;

use millstream_connect::Discovery;
use millstream_types::api::SplitLag;

use super::*;

#[test]
fn an_attempt_is_prepared_before_anything_else() {
    let rig = Rig::new();
    assert_eq!(rig.commands, [Command::Chain(Operation::Prepare)]);
    assert_eq!(rig.job.state(), JobState::Restoring);
}

#[test]
fn a_job_without_enough_slots_waits_and_says_what_for() {
    let mut rig = Rig::new();
    rig.join("a", 1);
    rig.prepared(1);
    assert_eq!(rig.job.state(), JobState::WaitingForWorkers);
    let message = rig.job.snapshot().job.message;
    assert!(message.contains("MS0505"), "{message}");
    assert!(
        message.contains("2 slots are needed and 1 are offered"),
        "{message}"
    );
    assert!(rig.deploys().is_empty());
    rig.join("b", 1);
    assert_eq!(rig.job.state(), JobState::Deploying);
    assert_eq!(rig.deploys().len(), 2);
}

#[test]
fn a_job_that_waits_looks_at_its_claim_and_ends_when_it_is_not_the_newest() {
    let looks = |rig: &Rig| rig.count(|c| *c == Command::Chain(Operation::EnsureHeld));
    let mut rig = Rig::new();
    rig.join("a", 1);
    rig.prepared(1);
    rig.pass(4_999);
    assert_eq!(looks(&rig), 0);
    rig.pass(60_000);
    assert_eq!(looks(&rig), 1, "one at a time");
    rig.tell(Event::Held(Ok(())));
    rig.pass(5_000);
    assert_eq!(looks(&rig), 2);
    // A store that does not answer deposes nobody.
    rig.tell(Event::Held(Err(failure(ErrorKind::Retryable))));
    assert_eq!(rig.job.state(), JobState::WaitingForWorkers);
    rig.pass(5_000);
    assert_eq!(looks(&rig), 3);
    let fenced = failure(ErrorKind::Fenced);
    rig.tell(Event::Held(Err(fenced.clone())));
    assert_eq!(rig.outcome(), Some(&Outcome::Fenced(fenced)));
    let attempt = Attempt(1);
    let told: Vec<_> = rig.sent().collect();
    assert_eq!(told, [(&worker("a"), &ToWorker::Cancel { attempt })]);
}

#[test]
fn a_job_that_runs_does_not_look_at_its_claim_and_hears_an_answer_that_comes_late() {
    let looks = |rig: &Rig| rig.count(|c| *c == Command::Chain(Operation::EnsureHeld));
    let mut rig = Rig::new();
    rig.prepared(1);
    rig.pass(5_000);
    assert_eq!(looks(&rig), 1);
    rig.join("a", 2);
    rig.all_run();
    rig.tell(Event::Held(Ok(())));
    rig.complete(11);
    assert_eq!((rig.job.state(), looks(&rig)), (JobState::Running, 1));
    let fenced = failure(ErrorKind::Fenced);
    rig.tell(Event::Held(Err(fenced.clone())));
    assert_eq!(rig.outcome(), Some(&Outcome::Fenced(fenced)));
}

#[test]
fn every_task_is_deployed_once_with_its_share_of_the_splits() {
    let mut rig = Rig::new();
    rig.join("a", 1);
    rig.join("b", 1);
    rig.prepared(7);
    let tasks: Vec<TaskId> = rig.hosts().into_iter().map(|(_, task)| task).collect();
    let topology = topology();
    let expected: BTreeSet<TaskId> = topology.tasks().map(|(task, ..)| task).collect();
    assert_eq!(tasks.len(), expected.len());
    assert_eq!(tasks.into_iter().collect::<BTreeSet<_>>(), expected);
    for (_, deploy) in rig.deploys() {
        assert_eq!(deploy.attempt, Attempt(7));
        assert_eq!(
            (deploy.job.as_str(), deploy.parallelism),
            ("the job file", 2)
        );
        for deployment in &deploy.tasks {
            let source = &deployment.restore[0];
            if source.0.as_str() == "orders" {
                let names: Vec<&str> = source.1.splits.iter().map(|s| s.split.as_str()).collect();
                assert_eq!(names, splits_of(deployment.task.subtask.0));
            }
        }
    }
}

#[test]
fn subtasks_of_one_index_lie_in_one_worker() {
    let mut rig = Rig::new();
    rig.join("a", 1);
    rig.join("b", 1);
    rig.prepared(1);
    let mut hosts: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for (host, task) in rig.hosts() {
        hosts.entry(task.subtask.0).or_default().insert(host);
    }
    assert!(hosts.values().all(|workers| workers.len() == 1));
}

#[test]
fn the_first_checkpoint_begins_when_the_last_task_runs() {
    let mut rig = Rig::new();
    rig.join("a", 2);
    rig.prepared(1);
    let hosts = rig.hosts();
    let attempt = rig.attempt();
    for (host, task) in &hosts[..3] {
        let task = *task;
        rig.say(host, ToCoordinator::TaskRunning { attempt, task });
    }
    assert_eq!(
        (rig.job.state(), rig.barriers()),
        (JobState::Deploying, vec![])
    );
    let (host, task) = hosts[3].clone();
    rig.say(&host, ToCoordinator::TaskRunning { attempt, task });
    assert_eq!(
        (rig.job.state(), rig.barriers()),
        (JobState::Running, vec![11])
    );
}

#[test]
fn tasks_that_do_not_start_in_time_fail_the_attempt() {
    let mut rig = Rig::new();
    rig.join("a", 2);
    rig.prepared(1);
    rig.pass(10_000);
    assert_eq!(rig.job.state(), JobState::Restarting);
    let failure = rig.job.snapshot().job.last_failure.unwrap();
    assert_eq!(failure.code, ErrorCode::WorkerLost);
    assert!(failure.message.contains("0.0, 0.1, 1.0, 1.1"), "{failure}");
}

#[test]
fn a_worker_that_registers_while_an_attempt_runs_is_a_spare() {
    let mut rig = Rig::running();
    let before = rig.deploys().len();
    rig.join("spare", 4);
    assert_eq!(rig.deploys().len(), before);
    rig.lose("spare");
    assert_eq!(rig.job.state(), JobState::Running);
    rig.join("spare", 4);
    rig.lose("a");
    rig.cancelled("b");
    rig.pass(1_000);
    rig.prepared(2);
    let hosts: BTreeSet<String> = rig.hosts().into_iter().map(|(host, _)| host).collect();
    assert_eq!(hosts, ["b".to_owned(), "spare".to_owned()].into());
}

#[test]
fn new_splits_go_to_one_task_ahead_of_the_next_barrier_and_into_its_manifest() {
    let mut rig = Rig::running();
    rig.complete(11);
    let discovery = || Discovery {
        splits: vec![split("p4"), split("p0")],
        identity: Some(Opaque("\"new\"".to_owned())),
    };
    for _ in 0..2 {
        rig.tell(Event::Discovered {
            attempt: Attempt(1),
            uid: "orders".into(),
            discovery: discovery(),
        });
    }
    rig.pass(1_000);
    let messages: Vec<&ToWorker> = rig.sent().map(|(_, message)| message).collect();
    let added: Vec<usize> = (0..messages.len())
        .filter(|index| matches!(messages[*index], ToWorker::AddSplits { .. }))
        .collect();
    assert_eq!(added.len(), 1, "known splits are not given out again");
    let ToWorker::AddSplits { task, splits, .. } = messages[added[0]] else {
        unreachable!()
    };
    assert_eq!((*task, splits.len()), (super::task(0, 0), 1));
    let barrier = messages
        .iter()
        .position(|message| {
            matches!(message, ToWorker::Trigger { barrier, .. } if barrier.checkpoint.0 == 12)
        })
        .unwrap();
    assert!(added[0] < barrier);
    // A snapshot that lacks the new split is refused.
    rig.acknowledge(12);
    assert_eq!(rig.finalizing().len(), 1);
    let failure = rig.job.snapshot().job.last_failure.unwrap();
    assert_eq!(failure.code, ErrorCode::InconsistentSnapshot);
    assert!(failure.message.contains("p4"), "{failure}");
}

#[test]
fn splits_that_an_older_attempt_found_are_dropped() {
    let mut rig = Rig::running();
    rig.tell(Event::Discovered {
        attempt: Attempt(0),
        uid: "orders".into(),
        discovery: Discovery {
            splits: vec![split("p9")],
            identity: None,
        },
    });
    assert!(
        !rig.sent()
            .any(|(_, message)| matches!(message, ToWorker::AddSplits { .. }))
    );
}

#[test]
fn how_far_sources_are_behind_is_told_of_this_attempt_and_of_the_splits_that_are_most() {
    let lag = |number: u64| SplitLag {
        split: format!("orders/{number}"),
        pending_records: number,
        held_back: None,
    };
    let mut rig = Rig::running();
    let mut measured = |attempt, lags| {
        rig.tell(Event::Measured {
            attempt: Attempt(attempt),
            uid: "orders".into(),
            lags,
        });
        rig.job.snapshot().job.lags
    };
    assert!(measured(0, vec![lag(1)]).is_empty(), "an older attempt");
    assert_eq!(
        measured(1, vec![lag(1)])[&OperatorUid::from("orders")],
        [lag(1)]
    );
    let many = measured(1, (0..1_500).map(lag).collect());
    let many = &many[&OperatorUid::from("orders")];
    assert_eq!(many.len(), 1_000);
    assert!(many.iter().all(|lag| lag.pending_records >= 500));
}

#[test]
fn a_source_that_cannot_be_asked_any_more_fails_the_attempt() {
    let mut rig = Rig::running();
    rig.tell(Event::DiscoveryFailed {
        attempt: Attempt(1),
        failure: failure(ErrorKind::InvalidJob),
    });
    rig.cancelled("a");
    rig.cancelled("b");
    rig.tell(Event::Released(Ok(())));
    assert!(matches!(rig.outcome(), Some(Outcome::Failed(_))));
}
