//! `server.properties` of a broker.

use std::fmt::Write as _;
use std::path::Path;

use super::{Broker, BrokerOptions, Ports};

/// What holds for every broker. Few internal partitions: fifty make the first use slow.
const ALWAYS: &str = "\
process.roles=broker,controller
node.id=1
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
controlled.shutdown.enable=false
log.retention.ms=-1
num.network.threads=2
num.io.threads=4
";

pub(super) fn server_properties(options: &BrokerOptions, ports: Ports, directory: &Path) -> String {
    let Ports {
        plain,
        controller,
        sasl_ssl,
    } = ports;
    let mut text = ALWAYS.to_owned();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name}={value}").expect("writing to a string");
    };
    line(
        "controller.quorum.voters",
        &format!("1@127.0.0.1:{controller}"),
    );
    line("log.dirs", &directory.join("data").to_string_lossy());
    let mut advertised = format!("PLAINTEXT://{}:{plain}", options.host());
    if options.sasl_ssl {
        write!(advertised, ",SASL_SSL://localhost:{sasl_ssl}").expect("writing to a string");
        for (name, value) in sasl_ssl_properties(directory) {
            line(name, &value);
        }
    }
    line("advertised.listeners", &advertised);
    line(
        "listeners",
        &format!("{advertised},CONTROLLER://127.0.0.1:{controller}"),
    );
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
