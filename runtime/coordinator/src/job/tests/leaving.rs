use super::*;

fn leave(rig: &mut Rig, name: &str) {
    rig.say(name, ToCoordinator::Leaving);
}

#[test]
fn a_worker_that_leaves_stays_for_one_more_checkpoint_and_the_job_goes_on_from_it() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.pass(100);
    assert_eq!(rig.barriers(), [11], "the next one is not due");
    leave(&mut rig, "b");
    assert_eq!(rig.barriers(), [11, 12], "it is taken at once");
    assert!(!rig.was_sent("b", &ToWorker::Shutdown));
    rig.complete(12);
    let attempt = rig.attempt();
    for name in ["a", "b"] {
        assert!(rig.was_sent(name, &ToWorker::Cancel { attempt }));
    }
    rig.cancelled("b");
    assert!(rig.was_sent("b", &ToWorker::Shutdown));
    assert!(!rig.was_sent("a", &ToWorker::Shutdown));
    rig.cancelled("a");
    assert_eq!(rig.prepares(), 2, "without any delay");
    rig.prepared(2);
    assert_eq!(rig.job.state(), JobState::WaitingForWorkers);
    let status = rig.job.snapshot().job;
    assert!(
        status
            .message
            .contains("2 slots are needed and 1 are offered")
    );
    assert_eq!(status.last_failure, None, "leaving is no failure");
    rig.join("c", 1);
    rig.all_run();
    assert_eq!(rig.job.state(), JobState::Running);
}

#[test]
fn a_checkpoint_that_was_under_way_is_not_enough() {
    let mut rig = Rig::running();
    leave(&mut rig, "b");
    rig.complete(11);
    assert_eq!(rig.job.state(), JobState::Running);
    assert_eq!(rig.barriers(), [11, 12]);
    rig.complete(12);
    assert_eq!(rig.job.state(), JobState::Restarting);
}

#[test]
fn a_checkpoint_that_fails_while_somebody_leaves_is_followed_by_another() {
    let settings = Settings {
        tolerable_failures: 3,
        ..settings()
    };
    let mut rig = Rig::with(settings, strategy()).run();
    rig.complete(11);
    leave(&mut rig, "b");
    let attempt = rig.attempt();
    let (host, task) = rig.hosts().remove(0);
    rig.say(
        &host,
        ToCoordinator::CheckpointDeclined {
            attempt,
            checkpoint: CheckpointId(12),
            task,
            failure: failure(ErrorKind::Retryable),
        },
    );
    assert_eq!(rig.barriers(), [11, 12, 13]);
    rig.complete(13);
    rig.cancelled("b");
    assert!(rig.was_sent("b", &ToWorker::Shutdown));
}

#[test]
fn a_worker_without_tasks_leaves_at_once() {
    let mut rig = Rig::running();
    rig.join("reserve", 1);
    leave(&mut rig, "reserve");
    assert!(rig.was_sent("reserve", &ToWorker::Shutdown));
    assert_eq!(rig.job.state(), JobState::Running);
    let mut rig = Rig::new();
    rig.join("early", 2);
    leave(&mut rig, "early");
    assert!(rig.was_sent("early", &ToWorker::Shutdown));
    rig.prepared(1);
    assert_eq!(rig.job.state(), JobState::WaitingForWorkers);
}

#[test]
fn a_worker_that_did_not_hear_that_it_may_go_is_told_again() {
    let mut rig = Rig::running();
    rig.join("reserve", 1);
    leave(&mut rig, "reserve");
    leave(&mut rig, "reserve");
    let shutdowns = rig.sent().filter(|(_, sent)| **sent == ToWorker::Shutdown);
    assert_eq!(shutdowns.count(), 2);
    assert_eq!(rig.job.state(), JobState::Running);
}

#[test]
fn a_worker_that_leaves_while_tasks_are_started_is_replaced_without_a_checkpoint() {
    let mut rig = Rig::new();
    rig.join("a", 2);
    rig.prepared(1);
    assert_eq!(rig.job.state(), JobState::Deploying);
    rig.join("b", 2);
    leave(&mut rig, "a");
    rig.cancelled("a");
    assert!(rig.was_sent("a", &ToWorker::Shutdown));
    rig.prepared(2);
    assert!(rig.hosts().iter().all(|(host, _)| host == "b"));
}

#[test]
fn a_worker_that_leaves_while_the_job_stops_is_sent_home_with_the_others() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.stop(None).unwrap();
    leave(&mut rig, "b");
    rig.complete(12);
    rig.tell(Event::Released(Ok(())));
    assert_eq!(rig.outcome(), Some(&Outcome::Stopped { savepoint: None }));
    assert!(rig.was_sent("b", &ToWorker::Shutdown));
}

#[test]
fn leaving_costs_no_restart_of_those_that_a_strategy_allows() {
    let none = RestartStrategy::None(millstream_spec::restart::NoRestart {});
    let mut rig = Rig::with(settings(), none).run();
    rig.complete(11);
    leave(&mut rig, "b");
    rig.complete(12);
    for name in ["a", "b"] {
        rig.cancelled(name);
    }
    assert_eq!(rig.prepares(), 2);
}
