//! Three brokers, of which one freezes: what it says when it wakes up, and who waits for it.

use std::time::{Duration, Instant};

use millstream_connect::{CommitOutcome, SinkCommitter, SinkWriter};
use millstream_tests::BrokerOptions;
use millstream_tests::kafka::brokers::Brokers;
use millstream_tests::kafka::topics::Isolation;
use millstream_tests::wait::{pause, wait_for};
use millstream_types::{CheckpointId, Committable};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::fixture::{PATIENCE, TestSink, batch, id_of};

/// Others have taken over from a broker that is frozen, and it has not noticed that it was away for
/// longer: when it wakes up, it answers as if nothing had happened.
const FROZEN: Duration = Duration::from_secs(35);
/// As long as others need to take over.
const SESSION: Duration = Duration::from_secs(12);
const ROUNDS: usize = 3;

struct Job {
    brokers: Brokers,
    runtime: Runtime,
    writer: Box<dyn SinkWriter>,
    committer: std::sync::Arc<dyn SinkCommitter>,
    checkpoint: u32,
}

impl Job {
    fn start(topic: &str) -> Self {
        let brokers = Brokers::start(BrokerOptions::default());
        brokers.any().create_topic(topic, 3);
        let sink = TestSink::new(json!({
            "bootstrapServers": brokers.bootstrap(),
            "topic": topic,
            "transactionalIdPrefix": topic,
        }));
        Self {
            brokers,
            runtime: Runtime::new().unwrap(),
            writer: sink.writer(1, 0),
            committer: sink.committer(),
            checkpoint: 0,
        }
    }

    /// Ten more records, prepared.
    fn prepare(&mut self) -> Vec<Committable> {
        let first = i64::from(self.checkpoint) * 10;
        self.checkpoint += 1;
        self.writer.write(&batch(first..first + 10)).unwrap();
        let checkpoint = CheckpointId(self.checkpoint.into());
        self.writer.prepare(checkpoint).unwrap()
    }

    #[track_caller]
    fn commit(&mut self, prepared: &[Committable]) {
        // As the coordinator does: what is unknown is tried again.
        let committed = || {
            let outcomes = self.runtime.block_on(self.committer.commit(prepared));
            for outcome in &outcomes {
                let is_bad = matches!(
                    outcome,
                    CommitOutcome::Lost(_) | CommitOutcome::Aborted(_) | CommitOutcome::Refused(_)
                );
                assert!(!is_bad, "nothing is lost: {outcome:?}");
            }
            let all = outcomes.iter().all(|one| *one == CommitOutcome::Committed);
            all.then_some(())
        };
        wait_for("all is committed", PATIENCE * 2, committed);
        self.writer.committed(prepared);
    }

    fn checkpoint(&mut self) {
        let prepared = self.prepare();
        self.commit(&prepared);
    }

    /// Number of the broker that coordinates the id of a prepared transaction.
    fn coordinator(&self, prepared: &[Committable]) -> usize {
        let text: serde_json::Value = serde_json::from_str(&prepared[0].transaction.0).unwrap();
        let id = text["transactionalId"].as_str().unwrap();
        self.brokers.coordinator_of(id)
    }

    #[track_caller]
    fn check_output(&self, topic: &str) {
        let expected: Vec<i64> = (0..i64::from(self.checkpoint) * 10).collect();
        wait_for("all records are visible, once", PATIENCE, || {
            let read = self.brokers.any().read_to_end(topic, Isolation::Committed);
            let mut ids: Vec<i64> = read.iter().map(|record| id_of(&record.value)).collect();
            ids.sort_unstable();
            (ids == expected).then_some(())
        });
    }
}

/// What the coordinator of a transaction says right after it was frozen is older than the
/// transaction.
#[test]
fn a_coordinator_that_was_frozen_does_not_make_anybody_believe_in_a_loss() {
    let mut job = Job::start("stale");
    for _ in 0..ROUNDS {
        let mut last = Vec::new();
        for _ in 0..6 {
            last = job.prepare();
            job.commit(&last);
        }
        let frozen = job.coordinator(&last);
        let since = Instant::now();
        assert!(job.brokers.node(frozen).server().pause());
        // Every id is used again, also those that the frozen broker has coordinated.
        let mut prepared = Vec::new();
        for _ in 0..4 {
            prepared.extend(job.prepare());
        }
        pause(FROZEN.saturating_sub(since.elapsed()));
        assert!(job.brokers.node(frozen).server().resume());
        job.commit(&prepared);
    }
    job.check_output("stale");
}

#[test]
fn one_broker_that_hangs_holds_up_nobody_once_others_have_taken_over() {
    let mut job = Job::start("hangs");
    job.checkpoint();
    let prepared = job.prepare();
    job.commit(&prepared);
    let frozen = job.coordinator(&prepared);
    assert!(job.brokers.node(frozen).server().pause());
    // Its transactions and partitions move.
    job.checkpoint();
    pause(SESSION);
    job.checkpoint();
    let mut longest = Duration::ZERO;
    for _ in 0..6 {
        let began = Instant::now();
        job.checkpoint();
        longest = longest.max(began.elapsed());
    }
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    assert!(job.brokers.node(frozen).server().resume());
    job.check_output("hangs");
}
