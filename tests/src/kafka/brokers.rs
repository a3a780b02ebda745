//! Three brokers as one cluster. Each is broker and controller, and everything is kept by all three.
//!
//! ```no_run
//! use millstream_tests::BrokerOptions;
//! use millstream_tests::kafka::brokers::Brokers;
//!
//! let mut brokers = Brokers::start(BrokerOptions::default());
//! brokers.any().create_topic("orders", 4);
//! let coordinator = brokers.coordinator_of("some-transactional-id");
//! brokers.node(coordinator).server().pause();
//! ```

use std::path::Path;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::settings::{Node, server_properties};
use super::transactions::coordinator_of;
use super::{
    Broker, BrokerOptions, Ports, STARTS, bootstrap, certificate, format, is_ready, launch,
};
use crate::link::Link;
use crate::scratch::Scratch;
use crate::tools;
use crate::wait::wait_for;

/// How many there are.
const COUNT: usize = 3;
const PATIENCE: Duration = Duration::from_mins(1);

/// Three running brokers, or one that is alone. They are killed and their data removed when dropped.
#[derive(Debug)]
pub struct Brokers {
    nodes: Vec<Broker>,
}

impl Brokers {
    /// Formats and starts them on free ports and waits until each sees all.
    #[expect(clippy::needless_pass_by_value, reason = "as for one broker")]
    #[track_caller]
    pub fn start(options: BrokerOptions) -> Self {
        tools::install("kafka.sh", &[options.version.text()]);
        for _ in 0..STARTS {
            let mut nodes = launch_all(&options);
            let are_ready = nodes.iter_mut().all(|node| {
                let address = node.bootstrap();
                is_ready(&mut node.server, &address, COUNT)
            });
            if are_ready {
                return Self { nodes };
            }
            for node in &nodes {
                eprintln!("a broker does not start:\n{}", node.server.output());
            }
        }
        panic!(
            "three brokers of Kafka {} do not start",
            options.version.text()
        );
    }

    /// Addresses of all.
    pub fn bootstrap(&self) -> String {
        self.nodes[0].node.seeds.clone()
    }

    /// One of them, from 0: to kill, pause, resume or restart.
    pub fn node(&mut self, number: usize) -> &mut Broker {
        &mut self.nodes[number]
    }

    /// All of them.
    pub fn nodes(&self) -> &[Broker] {
        &self.nodes
    }

    /// For what a client asks of the cluster, whichever broker answers.
    pub fn any(&self) -> &Broker {
        &self.nodes[0]
    }

    /// Number of the broker that coordinates a transactional id, while all of them run.
    #[track_caller]
    pub fn coordinator_of(&self, id: &str) -> usize {
        self.coordinator_seen_by(id, 0)
    }

    /// The same, as broker `number` sees it, which must run and may be behind.
    #[track_caller]
    pub fn coordinator_seen_by(&self, id: &str, number: usize) -> usize {
        let broker = self.nodes[number].bootstrap();
        let id = wait_for("the id has a coordinator", PATIENCE, || {
            coordinator_of(id, &broker)
        });
        number_of(id)
    }

    /// Number of the broker that leads a partition.
    #[track_caller]
    pub fn leader_of(&self, topic: &str, partition: i32) -> usize {
        let consumer: BaseConsumer = self.any().client().create().expect("valid settings");
        let leader = wait_for("the partition has a leader", PATIENCE, || {
            let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).ok()?;
            let partitions = metadata.topics().first()?.partitions();
            let found = partitions.iter().find(|found| found.id() == partition)?;
            (found.leader() >= 0).then(|| found.leader())
        });
        number_of(leader)
    }
}

/// One that is alone.
impl From<Broker> for Brokers {
    fn from(broker: Broker) -> Self {
        Self {
            nodes: vec![broker],
        }
    }
}

fn number_of(node_id: i32) -> usize {
    usize::try_from(node_id - 1).expect("ids of nodes begin with 1")
}

fn launch_all(options: &BrokerOptions) -> Vec<Broker> {
    let ports: Vec<Ports> = (0..COUNT).map(|_| Ports::free()).collect();
    let addresses = ports
        .iter()
        .map(|ports| bootstrap(options.host(), ports.plain));
    let seeds = addresses.collect::<Vec<String>>().join(",");
    let controllers: Vec<u16> = ports.iter().map(|ports| ports.controller).collect();
    let scratches: Vec<Scratch> = ports.iter().map(|_| Scratch::new("kafka")).collect();
    let nodes = ports.iter().zip(scratches).zip(1..);
    let mut first: Option<std::path::PathBuf> = None;
    nodes
        .map(|((ports, scratch), id)| {
            let authority = options.sasl_ssl.then(|| certificate(scratch.path()));
            let node = Node {
                id,
                controllers: controllers.clone(),
                seeds: seeds.clone(),
            };
            let link = options.link.then(|| {
                let link = Link::to_kafka("");
                link.lead_to(&bootstrap(options.host(), ports.linked));
                link
            });
            let text = server_properties(options, *ports, &node, link.as_ref(), scratch.path());
            std::fs::write(scratch.join("server.properties"), text)
                .expect("a file in the scratch directory");
            match &first {
                None => assert!(
                    format(options, scratch.path()),
                    "a broker's directory is formatted"
                ),
                Some(first) => copy_format(first, scratch.path(), id),
            }
            first.get_or_insert_with(|| scratch.path().to_owned());
            let server = launch(options, scratch.path());
            Broker {
                options: options.clone(),
                scratch,
                ports: *ports,
                authority,
                node,
                link,
                server,
            }
        })
        .collect()
}

/// What formatting leaves differs from node to node in two lines. A copy saves starting Java.
fn copy_format(from: &Path, to: &Path, id: usize) {
    let (from, to) = (from.join("data"), to.join("data"));
    std::fs::create_dir_all(&to).expect("a directory in the scratch directory");
    let formatted = ["meta.properties", "bootstrap.checkpoint"];
    for name in formatted {
        // Not every version leaves the second one.
        let Ok(bytes) = std::fs::read(from.join(name)) else {
            continue;
        };
        let bytes = if name == "meta.properties" {
            let text = String::from_utf8(bytes).expect("properties are text");
            let lines = text.lines().map(|line| match line.split_once('=') {
                Some(("node.id", _)) => format!("node.id={id}\n"),
                Some(("directory.id", directory)) => {
                    format!("directory.id={id}{}\n", &directory[1..])
                }
                _ => format!("{line}\n"),
            });
            lines.collect::<String>().into_bytes()
        } else {
            bytes
        };
        std::fs::write(to.join(name), bytes).expect("a file in the scratch directory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KafkaVersion;
    use crate::kafka::topics::Isolation;

    #[test]
    fn the_coordinator_of_a_frozen_broker_moves_and_no_record_is_lost() {
        for version in KafkaVersion::ALL {
            let mut brokers = Brokers::start(BrokerOptions::version(version));
            brokers.any().create_topic("orders", 3);
            let orders = || (0..100_u32).map(|n| (n.to_be_bytes().to_vec(), b"order".to_vec()));
            brokers.any().produce("orders", orders());
            brokers.any().take_transactional_id("some-id");
            let before = brokers.coordinator_of("some-id");
            assert!(brokers.node(before).server().pause());
            let other = (before + 1) % COUNT;
            wait_for("another broker coordinates the id", PATIENCE, || {
                (brokers.coordinator_seen_by("some-id", other) != before).then_some(())
            });
            brokers.any().produce("orders", orders());
            assert!(brokers.node(before).server().resume());
            // A broker that has just woken up still believes that it leads its partitions.
            let what = format!("Kafka {} shows every record once", version.text());
            wait_for(&what, PATIENCE, || {
                let records = brokers.any().read_to_end("orders", Isolation::Committed);
                assert!(records.len() <= 200, "{} records", records.len());
                (records.len() == 200).then_some(())
            });
            assert_eq!(brokers.any().open_transactions(), Vec::new());
        }
    }
}
