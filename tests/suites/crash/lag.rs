//! How far a job's source is behind, and whose transaction holds it back, as people and Prometheus see
//! it.

use std::time::Duration;

use millstream_tests::cluster::Cluster;
use millstream_tests::kafka::topics::{Isolation, WholeRecord};
use millstream_tests::wait::{wait_for, wait_until};
use millstream_tests::{Broker, KafkaVersion};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::job::DEADLINE;

const NAME: &str = "lag";
const TIMEOUT: Duration = Duration::from_secs(30);

/// A job that copies `lag-in` to `lag-out`; nothing runs yet.
#[track_caller]
fn job(broker: &Broker) -> Cluster {
    broker.create_topic("lag-in", 1);
    broker.create_topic("lag-out", 1);
    let cluster = Cluster::new(NAME, "");
    cluster.rewrite_job(&format!(
        "apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {{name: {NAME}}}
spec:
  checkpoint: {{storage: \"file://{directory}/checkpoints\", interval: 500ms}}
  dataflow:
    sources:
    - {{name: in, kafka: {{bootstrapServers: \"{servers}\", topics: [lag-in]}}, format: {{raw: {{}}}}}}
    sinks:
    - {{name: out, input: in, kafka: {{bootstrapServers: \"{servers}\", topic: lag-out}}, format: {{raw: {{}}}}}}
",
        directory = cluster.directory().display(),
        servers = broker.bootstrap(),
    ));
    cluster
}

/// Opens a transaction in `lag-in` with one record.
#[track_caller]
fn open_transaction(broker: &Broker, id: &str) -> BaseProducer {
    let mut client = broker.client();
    client.set("transactional.id", id);
    let producer: BaseProducer = client.create().expect("the settings are valid");
    producer.init_transactions(TIMEOUT).expect("the id is free");
    producer.begin_transaction().expect("it is initialised");
    let open = BaseRecord::<(), str>::to("lag-in").payload("open");
    let sent = producer.send(open).map_err(|(error, _)| error);
    sent.expect("there is room");
    producer.flush(TIMEOUT).expect("the record is written");
    producer
}

#[test]
fn a_source_that_an_open_transaction_holds_back_says_whose_it_is() {
    let broker = Broker::shared(KafkaVersion::V4_4);
    let mut cluster = job(broker);
    let coordinator = cluster.coordinator(None);
    let _worker = cluster.worker("worker", &coordinator.addresses.grpc, 1);
    let record = WholeRecord {
        value: Some(b"before".to_vec()),
        ..WholeRecord::default()
    };
    broker.produce_whole("lag-in", 0, &vec![record.clone(); 3]);
    wait_until("the records before are through", DEADLINE, || {
        broker.read_to_end("lag-out", Isolation::Committed).len() == 3
    });

    let producer = open_transaction(broker, "somebody-else");
    broker.produce_whole("lag-in", 0, &[record.clone(), record]);

    // It may be looked at between the open record and those behind it.
    let held = wait_for("the source is held back before all three", DEADLINE, || {
        let job = coordinator.rest.job().ok()?;
        let lag = job.lags.get(&"in".into())?.first()?.clone();
        let held = lag.held_back.filter(|held| held.records >= 3)?;
        Some((held, lag.pending_records))
    });
    let (held, pending) = held;
    assert_eq!(held.transactional_id.as_deref(), Some("somebody-else"));
    assert_eq!((held.records, pending), (3, 0));
    let metrics = coordinator.rest.get("/metrics").expect("it answers");
    let line = |name: &str| {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("millstream_{name}{{")));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}"))
            .to_owned()
    };
    for part in [
        "operator=\"in\"",
        "split=\"lag-in/0\"",
        "transactional_id=\"somebody-else\"",
        "} 3",
    ] {
        let line = line("source_held_back_records");
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(line("source_pending_records").contains("} 0"));
    assert!(line("source_records_lag_max").contains("} 3"));

    producer.commit_transaction(TIMEOUT).expect("it is open");
    wait_until("everything is through", DEADLINE, || {
        broker.read_to_end("lag-out", Isolation::Committed).len() == 6
    });
    wait_until("nothing is held back any more", DEADLINE, || {
        let job = coordinator.rest.job().ok();
        let lags = job.and_then(|job| job.lags.get(&"in".into()).cloned());
        lags.is_some_and(|lags| lags.iter().all(|lag| lag.held_back.is_none()))
    });
}
