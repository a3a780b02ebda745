//! A job that is started again with other topics.

use millstream_tests::cluster::Cluster;
use millstream_tests::kafka::topics::Isolation;
use millstream_tests::server::Server;
use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, KafkaVersion};

use crate::job::DEADLINE;

/// A job that copies topics to `<name>-out`.
struct Copies<'a> {
    broker: &'a Broker,
    name: &'static str,
    cluster: Cluster,
}

impl<'a> Copies<'a> {
    #[track_caller]
    fn new(broker: &'a Broker, name: &'static str, topics: &[&str]) -> Self {
        for topic in topics.iter().copied().chain(["out"]) {
            broker.create_topic(&format!("{name}-{topic}"), 1);
        }
        let copies = Self {
            broker,
            name,
            cluster: Cluster::new(name, ""),
        };
        copies.read(topics);
        copies
    }

    /// What the job reads from its next start on.
    fn read(&self, topics: &[&str]) {
        let name = self.name;
        let topics: Vec<String> = topics
            .iter()
            .map(|topic| format!("{name}-{topic}"))
            .collect();
        self.cluster.rewrite_job(&format!(
            "apiVersion: millstream.dev/v1alpha1\n\
             kind: StreamJob\n\
             metadata: {{name: {name}}}\n\
             spec:\n  \
             checkpoint: {{storage: \"file://{directory}/checkpoints\", interval: 300ms}}\n  \
             dataflow:\n    \
             sources:\n    \
             - name: in\n      \
             kafka: {{bootstrapServers: \"{servers}\", topics: [{topics}]}}\n      \
             format: {{raw: {{}}}}\n    \
             sinks:\n    \
             - name: out\n      \
             input: in\n      \
             kafka: {{bootstrapServers: \"{servers}\", topic: {name}-out}}\n      \
             format: {{raw: {{}}}}\n",
            directory = self.cluster.directory().display(),
            servers = self.broker.bootstrap(),
            topics = topics.join(", "),
        ));
    }

    fn start(&mut self, command: &str, arguments: &[&str]) -> Server {
        let launch = self.cluster.millstream(command);
        let launch = launch.arg("streamjob.yaml").args(arguments);
        self.cluster.start(command, &launch)
    }

    fn produce(&self, topic: &str, values: &[&str]) {
        let records = values
            .iter()
            .map(|value| (Vec::new(), value.as_bytes().to_vec()));
        self.broker
            .produce(&format!("{}-{topic}", self.name), records);
    }

    /// What a `read_committed` reader of the output sees, sorted.
    fn output(&self) -> Vec<String> {
        let topic = format!("{}-out", self.name);
        let records = self.broker.read_to_end(&topic, Isolation::Committed);
        let values = records.into_iter().map(|record| record.value);
        let mut values: Vec<String> = values
            .map(|value| String::from_utf8(value).expect("the values are text"))
            .collect();
        values.sort_unstable();
        values
    }

    /// Runs the job until its output is this, and stops it with a last checkpoint.
    #[track_caller]
    fn run_until(&mut self, arguments: &[&str], expected: &[&str]) {
        let mut run = self.start("run", arguments);
        wait_until("the output is complete", DEADLINE, || {
            assert!(run.is_running(), "it has ended:\n{}", run.output());
            self.output() == expected
        });
        assert!(run.terminate(DEADLINE).success(), "{}", run.output());
    }
}

#[test]
fn a_topic_that_is_read_and_written_is_seen_whatever_its_cluster_is_called() {
    let broker = Broker::shared(KafkaVersion::V4_4);
    let mut job = Copies::new(broker, "looped-topic", &["in"]);
    let file = job.cluster.directory().join("streamjob.yaml");
    let text = std::fs::read_to_string(&file).expect("the job file");
    let elsewhere = broker.bootstrap().replace("127.0.0.1", "localhost");
    let sink = format!("kafka: {{bootstrapServers: \"{elsewhere}\", topic: looped-topic-in}}");
    let (sources, _) = text.split_once("    sinks:").expect("the sinks");
    job.cluster.rewrite_job(&format!(
        "{sources}    sinks:\n    - name: out\n      input: in\n      {sink}\n      format: {{raw: {{}}}}\n"
    ));
    let mut plain = job.start("validate", &[]);
    assert!(plain.wait(DEADLINE).success(), "{}", plain.output());
    for (command, arguments) in [("validate", ["--live"]), ("run", ["--progress=none"])] {
        let mut refused = job.start(command, &arguments);
        let status = refused.wait(DEADLINE);
        let says = refused.output();
        assert_eq!(status.code(), Some(2), "{command}: {says}");
        for part in [
            "MS0002",
            "sink `out`",
            "topic `looped-topic-in`",
            "source `in`",
        ] {
            assert!(says.contains(part), "{command}: no {part} in {says}");
        }
    }
}

#[test]
fn positions_of_a_topic_that_is_no_longer_read_are_refused_by_validate_and_run_until_they_may_go() {
    let broker = Broker::shared(KafkaVersion::V4_4);
    let mut job = Copies::new(broker, "dropped-topic", &["a", "b"]);
    job.produce("a", &["a1", "a2"]);
    job.produce("b", &["b1", "b2"]);
    job.run_until(&[], &["a1", "a2", "b1", "b2"]);

    job.produce("a", &["a3"]);
    job.produce("b", &["b3"]);
    job.read(&["b"]);
    for (command, arguments) in [
        ("validate", ["--restore", "latest"]),
        ("run", ["--progress", "none"]),
    ] {
        let mut refused = job.start(command, &arguments);
        let status = refused.wait(DEADLINE);
        let says = refused.output();
        assert_eq!(status.code(), Some(2), "{command}: {says}");
        for part in [
            "MS0104",
            "`in`",
            "topic `dropped-topic-a` (1 partition)",
            "--allow-dropped-state",
        ] {
            assert!(says.contains(part), "{command}: no {part} in {says}");
        }
    }
    let allowed = ["--allow-dropped-state", "--restore", "latest"];
    let mut validate = job.start("validate", &allowed);
    assert!(validate.wait(DEADLINE).success(), "{}", validate.output());
    let says = validate.output();
    assert!(
        says.contains("does not read dropped-topic-a/0 any more"),
        "{says}"
    );
    job.run_until(&["--allow-dropped-state"], &["a1", "a2", "b1", "b2", "b3"]);

    // The checkpoint has forgotten the topic: nothing is to be dropped any more, and nothing of it
    // is read.
    job.produce("b", &["b4"]);
    job.run_until(&[], &["a1", "a2", "b1", "b2", "b3", "b4"]);
}
