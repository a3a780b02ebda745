//! `server.properties` of a broker.

use std::fmt::Write as _;
use std::path::Path;

use super::{Broker, BrokerOptions, Ports};
use crate::link::Link;

/// A broker among others.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) id: usize,
    /// Ports of all controllers, in the order of their nodes' ids from 1.
    pub(super) controllers: Vec<u16>,
    /// Where clients may begin.
    pub(super) seeds: String,
}

impl Node {
    /// The only one.
    pub(super) fn alone(controller: u16, seeds: String) -> Self {
        Self {
            id: 1,
            controllers: vec![controller],
            seeds,
        }
    }

    /// How many brokers keep each record.
    pub(super) fn replicas(&self) -> usize {
        self.controllers.len()
    }

    fn voters(&self) -> String {
        let voters = self.controllers.iter().zip(1..);
        let voters = voters.map(|(port, id)| format!("{id}@127.0.0.1:{port}"));
        voters.collect::<Vec<String>>().join(",")
    }
}

/// What holds for every broker. Few internal partitions: fifty make the first use slow.
const ALWAYS: &str = "\
process.roles=broker,controller
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,LINKED:PLAINTEXT
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
controlled.shutdown.enable=false
log.retention.ms=-1
num.network.threads=2
num.io.threads=4
";

pub(super) fn server_properties(
    options: &BrokerOptions,
    ports: Ports,
    node: &Node,
    link: Option<&Link>,
    directory: &Path,
) -> String {
    let Ports {
        plain,
        controller,
        sasl_ssl,
        linked,
    } = ports;
    let mut text = ALWAYS.to_owned();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name}={value}").expect("writing to a string");
    };
    let replicas = node.replicas();
    let in_sync = replicas.div_ceil(2).to_string();
    line("node.id", &node.id.to_string());
    line("controller.quorum.voters", &node.voters());
    for name in [
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
    ] {
        line(name, &replicas.to_string());
    }
    for name in ["transaction.state.log.min.isr", "min.insync.replicas"] {
        line(name, &in_sync);
    }
    line("log.dirs", &directory.join("data").to_string_lossy());
    let mut advertised = format!("PLAINTEXT://{}:{plain}", options.host());
    if options.sasl_ssl {
        write!(advertised, ",SASL_SSL://localhost:{sasl_ssl}").expect("writing to a string");
        for (name, value) in sasl_ssl_properties(directory) {
            line(name, &value);
        }
    }
    let mut listeners = format!("{advertised},CONTROLLER://127.0.0.1:{controller}");
    if let Some(link) = link {
        write!(listeners, ",LINKED://127.0.0.1:{linked}").expect("writing to a string");
        write!(advertised, ",LINKED://{}", link.address()).expect("writing to a string");
    }
    line("advertised.listeners", &advertised);
    line("listeners", &listeners);
    for (name, value) in &options.properties {
        line(name, value);
    }
    text
}

fn sasl_ssl_properties(directory: &Path) -> Vec<(&'static str, String)> {
    let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let modules = "org.apache.kafka.common.security";
    let scram = format!("{modules}.scram.ScramLoginModule required;");
    vec![
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.location", file("server.pem")),
        ("ssl.truststore.type", "PEM".to_owned()),
        ("ssl.truststore.location", file("ca.pem")),
        (
            "sasl.enabled.mechanisms",
            "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".to_owned(),
        ),
        (
            "listener.name.sasl_ssl.plain.sasl.jaas.config",
            format!(
                "{modules}.plain.PlainLoginModule required user_{}=\"{}\";",
                Broker::USERNAME,
                Broker::PASSWORD
            ),
        ),
        (
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config",
            scram.clone(),
        ),
        (
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config",
            scram,
        ),
    ]
}
