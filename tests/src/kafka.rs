//! A Kafka broker (KRaft, one node) in a scratch directory; [`brokers`] makes three of one cluster.
//!
//! ```text
//! let broker = Broker::start(BrokerOptions::default());
//! broker.create_topic("orders", 4);
//! println!("{}", broker.bootstrap());
//! ```

mod acls;
pub mod brokers;
mod java;
mod settings;
mod shared;
pub mod topics;
pub mod transactions;
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::certificates::Authority;
use crate::link::Link;
use crate::ports::free_port;
use crate::scratch::Scratch;
use crate::server::{Launch, Server};
use crate::tools;
use crate::wait::poll_until;
use settings::Node;

const LOOPBACK: &str = "127.0.0.1";
const STARTS: u32 = 3;
const READY: Duration = Duration::from_mins(2);

/// Versions that the suites run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum KafkaVersion {
    /// The last 3.x.
    V3_9,
    /// The newest 4.x.
    #[default]
    V4_4,
}

impl KafkaVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 2] = [Self::V3_9, Self::V4_4];

    /// As in `4.4.0`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::V3_9 => "3.9.2",
            Self::V4_4 => "4.4.0",
        }
    }
}

/// How a broker is to be started.
#[derive(Debug, Clone, Default)]
pub struct BrokerOptions {
    /// Which broker.
    pub version: KafkaVersion,
    /// Feature level `transaction.version` (0, 1 or 2) to format with; the version's default if
    /// not given.
    pub transaction_version: Option<u8>,
    /// Also listen with TLS and SASL (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512).
    pub sasl_ssl: bool,
    /// Also be reached over a [`Link`].
    pub link: bool,
    /// Address of this machine that clients use; 127.0.0.1 if not given.
    pub host: Option<&'static str>,
    /// Id of the cluster, 16 bytes in base64; the same one for all if not given.
    pub cluster_id: Option<&'static str>,
    /// More lines of `server.properties`; later ones win.
    pub properties: Vec<(String, String)>,
}

impl BrokerOptions {
    /// The default options for another version.
    pub fn version(version: KafkaVersion) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }

    fn host(&self) -> &'static str {
        self.host.unwrap_or(LOOPBACK)
    }

    /// Adds a line of `server.properties`.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Ports of a broker's listeners.
#[derive(Debug, Clone, Copy)]
struct Ports {
    plain: u16,
    controller: u16,
    sasl_ssl: u16,
    linked: u16,
}

impl Ports {
    fn free() -> Self {
        Self {
            plain: free_port(),
            controller: free_port(),
            sasl_ssl: free_port(),
            linked: free_port(),
        }
    }
}

/// A running broker. It is killed and its data removed when dropped.
#[derive(Debug)]
pub struct Broker {
    options: BrokerOptions,
    scratch: Scratch,
    ports: Ports,
    authority: Option<PathBuf>,
    link: Option<Link>,
    /// Which brokers there are beside it.
    node: Node,
    server: Server,
}

/// What a client needs to use the listener with TLS and SASL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslEndpoint {
    /// `localhost:<port>`
    pub bootstrap: String,
    /// PEM file with the authority of the broker's certificate.
    pub ca_file: PathBuf,
    /// User name, for every mechanism.
    pub username: &'static str,
    /// File with the password.
    pub password_file: PathBuf,
}

impl Broker {
    /// User of the listener with SASL.
    pub const USERNAME: &'static str = "alice";
    /// Password of that user.
    pub const PASSWORD: &'static str = "alice-secret";

    /// Formats and starts a broker on free ports and waits until it answers.
    #[track_caller]
    pub fn start(options: BrokerOptions) -> Self {
        tools::install("kafka.sh", &[options.version.text()]);
        let scratch = Scratch::new("kafka");
        let authority = options.sasl_ssl.then(|| certificate(scratch.path()));
        let link = options.link.then(|| Link::to_kafka(""));
        for _ in 0..STARTS {
            let ports = Ports::free();
            if let Some(link) = &link {
                link.lead_to(&bootstrap(options.host(), ports.linked));
            }
            let own = bootstrap(options.host(), ports.plain);
            let node = Node::alone(ports.controller, own.clone());
            let link_to = link.as_ref();
            let text = settings::server_properties(&options, ports, &node, link_to, scratch.path());
            std::fs::write(scratch.join("server.properties"), text)
                .expect("a file in the scratch directory");
            if !format(&options, scratch.path()) {
                continue;
            }
            let mut server = launch(&options, scratch.path());
            if is_ready(&mut server, &own, 1) {
                return Self {
                    options,
                    scratch,
                    ports,
                    authority,
                    link,
                    node,
                    server,
                };
            }
        }
        let log = std::fs::read_to_string(scratch.join("log")).unwrap_or_default();
        panic!("Kafka {} does not start:\n{log}", options.version.text());
    }

    /// `<host>:<port>` of the listener without TLS.
    pub fn bootstrap(&self) -> String {
        bootstrap(self.options.host(), self.ports.plain)
    }

    /// The listener with TLS and SASL.
    ///
    /// # Panics
    /// The broker was started without it.
    pub fn sasl_ssl(&self) -> SaslEndpoint {
        let authority = self
            .authority
            .clone()
            .expect("the broker was started with `sasl_ssl: true`");
        let password_file = self.scratch.join("password");
        std::fs::write(&password_file, Self::PASSWORD).expect("a file in the scratch directory");
        SaslEndpoint {
            bootstrap: format!("localhost:{}", self.ports.sasl_ssl),
            ca_file: authority,
            username: Self::USERNAME,
            password_file,
        }
    }

    /// A link to it. Whoever begins at the address of the link is led back to it, and everybody
    /// else is not.
    ///
    /// # Panics
    /// It was started without one.
    #[track_caller]
    pub fn link(&self) -> &Link {
        let link = self.link.as_ref();
        link.expect("the broker was started with `link: true`")
    }

    /// The process: to kill, pause or resume.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Starts it again, on the same ports with the same data, after it was killed or not.
    #[track_caller]
    pub fn restart(&mut self) {
        self.server.kill();
        self.server = launch(&self.options, self.scratch.path());
        let bootstrap = self.bootstrap();
        assert!(
            is_ready(&mut self.server, &bootstrap, 1),
            "Kafka does not start again:\n{}",
            self.server.output()
        );
    }

    /// Settings of a client that reaches this broker, or another one of its cluster.
    pub fn client(&self) -> ClientConfig {
        client(&self.node.seeds)
    }
}

/// Settings of a client that reaches the broker at `bootstrap`.
pub fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("broker.address.family", "v4")
        .set("log_level", "3");
    config
}

/// Makes `server.pem` (key and certificate, for `localhost` and 127.0.0.1): PEM file of its authority.
fn certificate(directory: &Path) -> PathBuf {
    let authority = Authority::make(directory);
    let (certificate, key) = authority.sign("DNS:localhost,IP:127.0.0.1");
    let read = |file| std::fs::read_to_string(file).expect("it was written");
    std::fs::write(directory.join("server.pem"), read(key) + &read(certificate))
        .expect("a file in the scratch directory");
    authority.file()
}

fn bootstrap(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

fn class_path(version: KafkaVersion) -> PathBuf {
    tools::cache()
        .join("kafka")
        .join(version.text())
        .join("lib/*")
}

/// Whether the directory is ready; what went wrong is printed.
fn format(options: &BrokerOptions, directory: &Path) -> bool {
    // A second try formats anew.
    let data = directory.join("data");
    if std::fs::exists(&data).unwrap_or(false) {
        std::fs::remove_dir_all(&data).expect("a directory in the scratch directory");
    }
    let mut command = Command::new("java");
    command
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(class_path(options.version))
        .args(["kafka.tools.StorageTool", "format", "-t"])
        .arg(options.cluster_id.unwrap_or(CLUSTER_ID))
        .arg("-c")
        .arg(directory.join("server.properties"));
    if let Some(version) = options.transaction_version {
        command.args(["--feature", &format!("transaction.version={version}")]);
    }
    if options.sasl_ssl {
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            command.arg("--add-scram").arg(format!(
                "{mechanism}=[name={},password={}]",
                Broker::USERNAME,
                Broker::PASSWORD
            ));
        }
    }
    let output = command.output().expect("java starts");
    if !output.status.success() {
        eprintln!(
            "cannot format the broker's directory ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    output.status.success()
}

/// Any 16 bytes in base64 will do.
const CLUSTER_ID: &str = "bWlsbHN0cmVhbXRlc3RzMQ";

fn launch(options: &BrokerOptions, directory: &Path) -> Server {
    let logging = tools::root()
        .join("tools/kafka")
        .join(options.version.text())
        .join("logging.properties");
    let logging_option = match options.version {
        KafkaVersion::V3_9 => "log4j.configuration",
        KafkaVersion::V4_4 => "log4j2.configurationFile",
    };
    Launch::new("java")
        .args(["-Xms256m", "-Xmx512m", "-XX:+UseG1GC"])
        .arg("-Djava.net.preferIPv4Stack=true")
        .arg(format!("-D{logging_option}=file:{}", logging.display()))
        .arg("-cp")
        .arg(class_path(options.version))
        .arg("kafka.Kafka")
        .arg(directory.join("server.properties"))
        .directory(directory)
        .start(&directory.join("log"))
}

/// Whether a broker answers before its process ends, and knows so many brokers.
fn is_ready(server: &mut Server, bootstrap: &str, brokers: usize) -> bool {
    let consumer: BaseConsumer = client(bootstrap)
        .create()
        .expect("the client settings are valid");
    poll_until(READY, || {
        match consumer.fetch_metadata(None, Duration::from_secs(1)) {
            Ok(metadata) if metadata.brokers().len() >= brokers => Some(true),
            _ => (!server.is_running()).then_some(false),
        }
    })
    .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::topics::Isolation;

    #[test]
    fn every_version_starts_keeps_records_over_a_crash_and_shows_transactions() {
        for version in KafkaVersion::ALL {
            let mut broker = Broker::start(BrokerOptions::version(version));
            broker.create_topic("orders", 2);
            broker.produce(
                "orders",
                (0..100_u32).map(|n| (n.to_be_bytes().to_vec(), b"order".to_vec())),
            );
            broker.server().kill();
            broker.restart();
            let records = broker.read_to_end("orders", Isolation::Committed);
            assert_eq!(records.len(), 100, "Kafka {}", version.text());
            assert_eq!(broker.open_transactions(), Vec::new());
        }
    }

    #[test]
    fn a_client_logs_in_over_tls_with_every_mechanism_and_not_with_a_wrong_password() {
        let broker = Broker::start(BrokerOptions {
            sasl_ssl: true,
            ..BrokerOptions::default()
        });
        let endpoint = broker.sasl_ssl();
        let login = |mechanism: &str, password: &str| {
            let consumer: BaseConsumer = client(&endpoint.bootstrap)
                .set("security.protocol", "SASL_SSL")
                .set("ssl.ca.location", endpoint.ca_file.to_string_lossy())
                .set("sasl.mechanism", mechanism)
                .set("sasl.username", endpoint.username)
                .set("sasl.password", password)
                .create()
                .unwrap();
            consumer.fetch_metadata(None, Duration::from_secs(5))
        };
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let answer = login(mechanism, Broker::PASSWORD);
            assert!(answer.is_ok(), "{mechanism}: {:?}", answer.err());
        }
        assert!(login("SCRAM-SHA-512", "wrong").is_err());
    }
}
