//! Writers and committers together: what is visible when, and what survives whom.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_connect::{CommitOutcome, Lingering, Standing};
use millstream_tests::kafka::topics::Isolation;
use millstream_tests::wait::wait_until;
use millstream_tests::{BrokerOptions, KafkaVersion};
use millstream_types::{Attempt, CheckpointId, ErrorCode, ErrorKind, Timestamp};
use serde_json::json;

use crate::fixture::{Bench, PATIENCE, batch};

#[test]
fn records_are_invisible_until_their_checkpoint_is_committed_by_somebody_else() {
    for version in KafkaVersion::ALL {
        let bench = Bench::with(BrokerOptions::version(version));
        bench.broker.create_topic("out", 2);
        let sink = bench.sink("out", json!({}));
        let mut writer = sink.writer(1, 0);
        writer.write(&batch(0..100)).unwrap();
        writer.write(&batch(100..200)).unwrap();
        let prepared = writer.prepare(CheckpointId(1)).unwrap();
        assert_eq!(prepared.len(), 1);
        assert_eq!(prepared[0].records, 200);
        drop(writer);
        assert_eq!(bench.visible("out"), Vec::<i64>::new());

        let committer = sink.committer();
        for _ in 0..2 {
            let outcomes = bench.commit(&*committer, &prepared);
            assert_eq!(outcomes, [CommitOutcome::Committed]);
        }
        bench.wait_visible("out", 0..200);
        assert_eq!(bench.broker.open_transactions(), Vec::new());
    }
}

/// Finding 59.
#[test]
fn batches_are_fitted_to_what_the_topic_takes() {
    let bench = Bench::shared();
    for guarantee in ["ExactlyOnce", "AtLeastOnce"] {
        let topic = format!("fitted-{guarantee}");
        let limit = [("max.message.bytes", "20000")];
        bench.broker.create_topic_with(&topic, 1, &limit);
        let sink = bench.sink(&topic, json!({"deliveryGuarantee": guarantee}));
        let mut writer = sink.writer(1, 0);
        for part in 0..5 {
            writer
                .write(&batch(part * 4_000..(part + 1) * 4_000))
                .unwrap();
        }
        let prepared = writer.prepare(CheckpointId(1)).unwrap();
        let outcomes = bench.commit(&*sink.committer(), &prepared);
        assert_eq!(outcomes, vec![CommitOutcome::Committed; prepared.len()]);
        bench.wait_visible(&topic, 0..20_000);
    }
}

#[test]
fn a_checkpoint_without_records_has_no_transaction() {
    let bench = Bench::shared();
    bench.broker.create_topic("empty", 1);
    let sink = bench.sink("empty", json!({}));
    let mut writer = sink.writer(1, 0);
    writer.write(&batch(0..0)).unwrap();
    for checkpoint in 1..5 {
        assert_eq!(writer.prepare(CheckpointId(checkpoint)).unwrap(), []);
    }
    writer.write(&batch(0..1)).unwrap();
    let prepared = writer.prepare(CheckpointId(5)).unwrap();
    let outcomes = bench.commit(&*sink.committer(), &prepared);
    assert_eq!(outcomes, [CommitOutcome::Committed]);
    bench.wait_visible("empty", 0..1);
}

#[test]
fn transactional_ids_are_few_and_every_checkpoint_has_its_own_incarnation() {
    let bench = Bench::shared();
    bench.broker.create_topic("few", 3);
    let sink = bench.sink("few", json!({}));
    let committer = sink.committer();
    let mut writer = sink.writer(1, 0);
    let mut incarnations = BTreeSet::new();
    for checkpoint in 1..=12_u32 {
        let first = i64::from(checkpoint - 1) * 10;
        writer.write(&batch(first..first + 10)).unwrap();
        let prepared = writer.prepare(CheckpointId(checkpoint.into())).unwrap();
        let outcomes = bench.commit(&*committer, &prepared);
        assert_eq!(outcomes, [CommitOutcome::Committed]);
        incarnations.insert(prepared[0].transaction.0.clone());
        writer.committed(&prepared);
    }
    bench.wait_visible("few", 0..120);
    assert_eq!(incarnations.len(), 12);
    let ids = bench.transactions("few");
    assert!(ids.len() <= 4, "{ids:?}");
}

#[test]
fn transactions_of_failed_checkpoints_are_committed_with_the_next_one() {
    let bench = Bench::shared();
    bench.broker.create_topic("failed", 1);
    let sink = bench.sink("failed", json!({}));
    let mut writer = sink.writer(1, 0);
    let mut listed = Vec::new();
    for checkpoint in 1..=3_u32 {
        let first = i64::from(checkpoint - 1) * 10;
        writer.write(&batch(first..first + 10)).unwrap();
        listed.extend(writer.prepare(CheckpointId(checkpoint.into())).unwrap());
    }
    assert_eq!(bench.visible("failed"), Vec::<i64>::new());
    let outcomes = bench.commit(&*sink.committer(), &listed);
    assert_eq!(outcomes, vec![CommitOutcome::Committed; 3]);
    bench.wait_visible("failed", 0..30);
}

#[test]
fn a_transaction_that_timed_out_is_lost_and_says_everything_about_itself() {
    let bench = Bench::shared();
    bench.broker.create_topic("late", 1);
    let sink = bench.sink("late", json!({"transactionTimeout": "1500ms"}));
    let mut writer = sink.writer(7, 1);
    writer.write(&batch(0..10)).unwrap();
    let prepared = writer.prepare(CheckpointId(3)).unwrap();
    wait_until("the broker aborts the transaction", PATIENCE, || {
        bench.open_transactions("late").is_empty()
    });
    let outcomes = bench.commit(&*sink.committer(), &prepared);
    let [CommitOutcome::Aborted(failure)] = outcomes.as_slice() else {
        panic!("{outcomes:?}");
    };
    assert_eq!(failure.code, ErrorCode::KafkaTransactionLost);
    assert_eq!(failure.kind, ErrorKind::DataLoss);
    for part in [
        "checkpoint 3",
        "10 records",
        "`late`",
        "late-out-7-1-",
        "1500 ms",
    ] {
        assert!(failure.message.contains(part), "{part}: {failure}");
    }
}

#[test]
fn a_topic_that_is_made_again_under_a_prepared_transaction_is_no_silent_loss() {
    let bench = Bench::shared();
    bench.broker.create_topic("again", 1);
    let sink = bench.sink("again", json!({"connectTimeout": "2s"}));
    let committer = sink.committer();
    let mut writer = sink.writer(1, 0);
    let mut prepare = |checkpoint: u32| {
        let first = i64::from(checkpoint) * 10;
        writer.write(&batch(first..first + 10)).unwrap();
        writer.prepare(CheckpointId(checkpoint.into())).unwrap()
    };
    let [before, open] = [prepare(0), prepare(1)];
    assert_eq!(
        bench.commit(&*committer, &before),
        [CommitOutcome::Committed]
    );
    bench.broker.delete_topic("again");
    assert_gone(&bench.commit(&*committer, &open), "was deleted");
    bench.broker.create_topic("again", 1);
    assert_gone(&bench.commit(&*committer, &open), "made again");
    let standings = bench.wait(committer.look_up(&open));
    assert!(
        matches!(standings[0], Standing::Aborted(_)),
        "{standings:?}"
    );
    // What was committed before that was not lost in between.
    assert_eq!(
        bench.commit(&*committer, &before),
        [CommitOutcome::Committed]
    );
    bench.wait_visible("again", 0..0);
}

#[track_caller]
fn assert_gone(outcomes: &[CommitOutcome], reason: &str) {
    let [CommitOutcome::Aborted(failure)] = outcomes else {
        panic!("{outcomes:?}");
    };
    assert_eq!(failure.code, ErrorCode::KafkaTransactionLost);
    assert!(failure.message.contains(reason), "{failure}");
}

#[test]
fn how_a_prepared_transaction_stands_is_told_and_only_old_ones_are_at_risk() {
    let bench = Bench::shared();
    bench.broker.create_topic("stands", 1);
    let sink = bench.sink("stands", json!({"transactionTimeout": "3s"}));
    let committer = sink.committer();
    let mut writer = sink.writer(1, 0);
    let mut prepare = |checkpoint: u32| {
        let first = i64::from(checkpoint) * 10;
        writer.write(&batch(first..first + 10)).unwrap();
        writer.prepare(CheckpointId(checkpoint.into())).unwrap()
    };
    let [first, second] = [prepare(0), prepare(1)];
    let both = [first.clone(), second].concat();
    let began: serde_json::Value = serde_json::from_str(&first[0].transaction.0).unwrap();
    let began = began["startedAt"].as_u64().unwrap();
    let at_risk = |after: i64| {
        let now = Timestamp(began.checked_add_signed(after).unwrap());
        committer.at_risk(&first, now).len()
    };
    assert_eq!((at_risk(0), at_risk(1_499), at_risk(1_500)), (0, 0, 1));
    assert_eq!(at_risk(-1), 1, "clocks differ");

    assert_eq!(
        bench.commit(&*committer, &first),
        [CommitOutcome::Committed]
    );
    let standings = bench.wait(committer.look_up(&both));
    assert_eq!(standings, [Standing::Committed, Standing::Open]);
    wait_until("the broker aborts the other", PATIENCE, || {
        bench.open_transactions("stands").is_empty()
    });
    let standings = bench.wait(committer.look_up(&both));
    assert_eq!(standings[0], Standing::Committed);
    assert!(
        matches!(standings[1], Standing::Aborted(_)),
        "{standings:?}"
    );
}

#[test]
fn what_was_prepared_in_another_cluster_is_refused_and_not_lost() {
    let bench = Bench::shared();
    bench.broker.create_topic("here", 1);
    let sink = bench.sink("here", json!({}));
    let mut writer = sink.writer(1, 0);
    writer.write(&batch(0..10)).unwrap();
    let prepared = writer.prepare(CheckpointId(1)).unwrap();

    let there = Bench::with(BrokerOptions {
        cluster_id: Some("YW5vdGhlcmNsdXN0ZXIxMg"),
        ..BrokerOptions::default()
    });
    there.broker.create_topic("here", 1);
    let other = there.sink("here", json!({}));
    let outcomes = there.commit(&*other.committer(), &prepared);
    let [CommitOutcome::Refused(failure)] = outcomes.as_slice() else {
        panic!("{outcomes:?}");
    };
    assert_eq!(failure.code, ErrorCode::KafkaIdentityChanged);
    assert_eq!(failure.kind, ErrorKind::InvalidJob);
    let standings = there.wait(other.committer().look_up(&prepared));
    assert!(
        matches!(standings[0], Standing::Unknown(_)),
        "{standings:?}"
    );
    let family = bench.wait(sink.committer().family()).unwrap().unwrap();
    assert_eq!(there.wait(other.committer().reaches(&family)), Ok(false));
    assert_eq!(bench.wait(sink.committer().reaches(&family)), Ok(true));

    let outcomes = bench.commit(&*sink.committer(), &prepared);
    assert_eq!(outcomes, [CommitOutcome::Committed]);
}

#[test]
fn a_newer_incarnation_of_an_id_that_is_kept_is_not_spared() {
    let bench = Bench::shared();
    bench.broker.create_topic("kept", 1);
    let sink = bench.sink("kept", json!({}));
    let committer = sink.committer();
    let mut writer = sink.writer(1, 0);
    let mut listed = Vec::new();
    // Until the id of the first transaction is used again.
    let first = loop {
        writer.write(&batch(0..1)).unwrap();
        let prepared = writer.prepare(CheckpointId(1)).unwrap();
        let id = |one: &millstream_types::Committable| -> String {
            let text: serde_json::Value = serde_json::from_str(&one.transaction.0).unwrap();
            text["transactionalId"].as_str().unwrap().to_owned()
        };
        if let Some(first) = listed.iter().find(|first| id(first) == id(&prepared[0])) {
            break millstream_types::Committable::clone(first);
        }
        assert_eq!(
            bench.commit(&*committer, &prepared),
            [CommitOutcome::Committed]
        );
        writer.committed(&prepared);
        listed.extend(prepared);
    };
    // As after a start from the checkpoint that lists the first one.
    let lingering = Lingering {
        attempts: vec![(Attempt(1), 1)],
        lineage: None,
        family: None,
        keep: vec![first],
        only_open: false,
    };
    assert_eq!(bench.wait(committer.abort_lingering(&lingering)), Ok(1));
    assert_eq!(bench.open_transactions("kept"), Vec::<String>::new());
}

#[test]
fn what_another_family_has_left_open_is_aborted() {
    let bench = Bench::shared();
    bench.broker.create_topic("family", 1);
    let before = bench.sink("family", json!({"transactionalIdPrefix": "family-before"}));
    let family = bench.wait(before.committer().family()).unwrap();
    let mut writer = before.writer(1, 0);
    writer.write(&batch(0..10)).unwrap();
    writer.prepare(CheckpointId(1)).unwrap();
    let now = bench.sink("family", json!({"transactionalIdPrefix": "family-now"}));
    let mut lingering = Lingering {
        attempts: vec![(Attempt(1), 1)],
        ..Lingering::default()
    };
    let committer = now.committer();
    assert_eq!(bench.wait(committer.abort_lingering(&lingering)), Ok(0));
    lingering.family = family;
    assert_eq!(bench.wait(committer.abort_lingering(&lingering)), Ok(1));
}

/// The same job in two Kubernetes clusters, each with its own checkpoint storage: both count
/// attempts from 1.
#[test]
fn two_chains_of_one_job_name_leave_each_other_alone() {
    let bench = Bench::shared();
    bench.broker.create_topic("chains", 1);
    let sink = bench.sink("chains", json!({}));
    let committer = sink.committer();
    let [here, there] = ["0f3a9c21", "7be20d54"];
    let mut prepared = Vec::new();
    for (chain, ids) in [(here, 0..10), (there, 10..20)] {
        let mut writer = sink.writer_in(Some(chain), 1, 0);
        writer.write(&batch(ids)).unwrap();
        prepared.extend(writer.prepare(CheckpointId(1)).unwrap());
    }
    let lingering = Lingering {
        attempts: vec![(Attempt(1), 1)],
        lineage: Some(there.into()),
        ..Lingering::default()
    };
    assert_eq!(bench.wait(committer.abort_lingering(&lingering)), Ok(1));
    let outcomes = bench.commit(&*committer, &prepared[..1]);
    assert_eq!(outcomes, [CommitOutcome::Committed]);
    bench.wait_visible("chains", 0..10);
    let of_an_older_build = Lingering {
        lineage: None,
        ..lingering
    };
    let aborted = bench.wait(committer.abort_lingering(&of_an_older_build));
    assert_eq!(aborted, Ok(0));
}

#[test]
fn recovery_commits_what_the_checkpoint_lists_and_aborts_the_rest() {
    let bench = Bench::shared();
    bench.broker.create_topic("recovery", 1);
    let sink = bench.sink("recovery", json!({}));
    // Attempt 1: subtask 0 has prepared, subtask 1 has not; both have gone on writing.
    let (mut first, mut second) = (sink.writer(1, 0), sink.writer(1, 1));
    first.write(&batch(0..10)).unwrap();
    let prepared = first.prepare(CheckpointId(1)).unwrap();
    first.write(&batch(1_000..1_010)).unwrap();
    second.write(&batch(2_000..2_010)).unwrap();
    wait_until("all three transactions are open", PATIENCE, || {
        bench.open_transactions("recovery").len() == 3
    });

    // Attempt 2, while the writers of attempt 1 do not know yet.
    let committer = sink.committer();
    let lingering = Lingering {
        attempts: vec![(Attempt(1), 2)],
        lineage: None,
        family: None,
        keep: prepared.clone(),
        only_open: false,
    };
    assert_eq!(bench.wait(committer.abort_lingering(&lingering)), Ok(2));
    assert_eq!(bench.open_transactions("recovery").len(), 1);
    let outcomes = bench.commit(&*committer, &prepared);
    assert_eq!(outcomes, [CommitOutcome::Committed]);
    bench.wait_visible("recovery", 0..10);

    // The old writers are fenced, whatever they try.
    for writer in [&mut first, &mut second] {
        let written = writer.write(&batch(3_000..3_010));
        let failed = written.and_then(|_| writer.prepare(CheckpointId(2)).map(drop));
        assert_eq!(failed.unwrap_err().code, ErrorCode::KafkaDelivery);
        assert!(
            writer.prepare(CheckpointId(3)).is_err(),
            "a failure is kept"
        );
    }
    assert_eq!(bench.wait(committer.abort_lingering(&lingering)), Ok(0));
    bench.wait_visible("recovery", 0..10);
    assert_eq!(bench.open_transactions("recovery"), Vec::<String>::new());
}

#[test]
fn a_sweep_of_attempts_that_never_wrote_opens_no_ids() {
    let bench = Bench::shared();
    bench.broker.create_topic("sweep", 1);
    let sink = bench.sink("sweep", json!({}));
    let lingering = Lingering {
        attempts: (1..=20).map(|attempt| (Attempt(attempt), 4)).collect(),
        lineage: None,
        family: None,
        keep: Vec::new(),
        only_open: false,
    };
    assert_eq!(
        bench.wait(sink.committer().abort_lingering(&lingering)),
        Ok(0)
    );
    assert_eq!(bench.transactions("sweep"), Vec::<String>::new());
}

#[test]
fn at_least_once_is_visible_at_the_barrier_and_needs_no_commit() {
    let bench = Bench::shared();
    bench.broker.create_topic("alo", 2);
    let sink = bench.sink("alo", json!({"deliveryGuarantee": "AtLeastOnce"}));
    let mut writer = sink.writer(1, 0);
    for checkpoint in 1..=3_u32 {
        let first = i64::from(checkpoint - 1) * 10;
        writer.write(&batch(first..first + 10)).unwrap();
        assert_eq!(writer.prepare(CheckpointId(checkpoint.into())).unwrap(), []);
        assert_eq!(bench.visible("alo"), (0..first + 10).collect::<Vec<i64>>());
    }
    assert_eq!(bench.transactions("alo"), Vec::<String>::new());
    assert_eq!(bench.wait(sink.committer().preflight(false)), Ok(()));
    assert_eq!(bench.wait(sink.committer().reservations()), Ok(Vec::new()));
}

/// Source of the hashes: Kafka's `UtilsTest.testMurmur2`.
#[test]
fn keys_choose_the_partition_as_the_java_client_does() {
    let hashes: [(&str, i32); 3] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("abc", 479_470_107),
    ];
    let bench = Bench::shared();
    bench.broker.create_topic("keys", 7);
    let sink = bench.sink("keys", json!({"key": "name"}));
    let names = arrow_array::StringArray::from(hashes.map(|(key, _)| key).to_vec());
    let ids = arrow_array::Int64Array::from(vec![0, 1, 2]);
    let columns: Vec<arrow_array::ArrayRef> =
        vec![std::sync::Arc::new(ids), std::sync::Arc::new(names)];
    let rows = arrow_array::RecordBatch::try_new(crate::fixture::schema(), columns).unwrap();
    let mut writer = sink.writer(1, 0);
    writer.write(&rows.into()).unwrap();
    let prepared = writer.prepare(CheckpointId(1)).unwrap();
    bench.commit(&*sink.committer(), &prepared);
    bench.wait_visible("keys", 0..3);
    for record in bench.broker.read_to_end("keys", Isolation::Committed) {
        let key = String::from_utf8(record.key).unwrap();
        let (_, hash) = hashes.iter().find(|(known, _)| *known == key).unwrap();
        assert_eq!(record.partition, (hash & i32::MAX) % 7, "{key}");
    }
}

#[test]
fn records_without_a_key_go_to_every_partition_and_keep_their_order_in_each() {
    let bench = Bench::shared();
    bench.broker.create_topic("sticky", 4);
    for (partitioner, topic) in [("Murmur2", "sticky"), ("Random", "random")] {
        if topic == "random" {
            bench.broker.create_topic(topic, 4);
        }
        let sink = bench.sink(topic, json!({"partitioner": partitioner}));
        let mut writer = sink.writer(1, 0);
        for first in (0..800).step_by(100) {
            writer.write(&batch(first..first + 100)).unwrap();
        }
        let prepared = writer.prepare(CheckpointId(1)).unwrap();
        bench.commit(&*sink.committer(), &prepared);
        bench.wait_visible(topic, 0..800);
        let mut last = [-1_i64; 4];
        for record in bench.broker.read_to_end(topic, Isolation::Committed) {
            let value: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
            let id = value["id"].as_i64().unwrap();
            let last = &mut last[usize::try_from(record.partition).unwrap()];
            assert!(*last < id, "{partitioner}");
            *last = id;
        }
        assert!(
            last.iter().all(|last| *last >= 0),
            "{partitioner}: {last:?}"
        );
    }
}

#[test]
fn many_small_batches_do_not_wait_for_each_other() {
    let bench = Bench::shared();
    bench.broker.create_topic("batches", 4);
    let sink = bench.sink(
        "batches",
        json!({"properties": {"queue.buffering.max.messages": "500"}}),
    );
    let mut writer = sink.writer(1, 0);
    // Forty times what the queue holds: it fills up and drains while this goes on.
    for first in (0..20_000).step_by(1_000) {
        writer.write(&batch(first..first + 1_000)).unwrap();
    }
    let prepared = writer.prepare(CheckpointId(1)).unwrap();
    assert_eq!(prepared[0].records, 20_000);
    bench.commit(&*sink.committer(), &prepared);
    bench.wait_visible("batches", 0..20_000);
    assert!(writer.bytes() > 20_000 * 10);
}

#[test]
fn a_dropped_writer_ends_quickly_and_leaves_its_transaction_open() {
    let bench = Bench::shared();
    bench.broker.create_topic("dropped", 1);
    let sink = bench.sink("dropped", json!({}));
    let mut writer = sink.writer(1, 0);
    writer.write(&batch(0..10)).unwrap();
    wait_until("the transaction is open", PATIENCE, || {
        bench.open_transactions("dropped").len() == 1
    });
    let started = std::time::Instant::now();
    drop(writer);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(bench.open_transactions("dropped").len(), 1);
}

/// What people are shown, and what they may end.
#[test]
fn transactions_are_listed_for_people_and_one_of_them_is_aborted() {
    let bench = Bench::shared();
    bench.broker.create_topic("shown", 1);
    let sink = bench.sink("shown", json!({}));
    let mut writer = sink.writer(1, 0);
    writer.write(&batch(0..10)).unwrap();
    let prepared = writer.prepare(CheckpointId(7)).unwrap();
    writer.write(&batch(10..20)).unwrap();
    wait_until("both transactions are open", PATIENCE, || {
        bench.open_transactions("shown").len() == 2
    });
    let committer = sink.committer();
    let of = Lingering {
        attempts: vec![(Attempt(1), 1)],
        lineage: None,
        family: None,
        keep: prepared.clone(),
        only_open: true,
    };
    let list = || {
        let mut known = bench.wait(committer.list(&of)).unwrap();
        known.retain(|known| known.is_open);
        known
    };
    let shown = list();
    assert_eq!(shown.len(), 2, "{shown:?}");
    for known in &shown {
        assert_eq!(known.state, "Ongoing");
        assert_eq!(known.partitions, ["shown/0"]);
        assert!(known.began_at.is_some(), "{known:?}");
    }
    let (mut listed, mut others) = (Vec::new(), Vec::new());
    for known in shown {
        match known.listed_by {
            Some(checkpoint) => listed.push(checkpoint),
            None => others.push(known),
        }
    }
    assert_eq!(listed, [CheckpointId(7)]);
    let mut other_epoch = others[0].clone();
    other_epoch.epoch += 1;
    assert_eq!(bench.wait(committer.abort(&other_epoch)), Ok(false));
    assert_eq!(list().len(), 2, "another incarnation is not this one");
    assert_eq!(bench.wait(committer.abort(&others[0])), Ok(true));
    wait_until("its markers are written", PATIENCE, || list().len() == 1);
    assert_eq!(bench.wait(committer.abort(&others[0])), Ok(true), "again");
    let outcomes = bench.commit(&*committer, &prepared);
    assert_eq!(outcomes, [CommitOutcome::Committed]);
    bench.wait_visible("shown", 0..10);
}
