//! One broker of each version for all tests of a process.

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::{Broker, BrokerOptions, KafkaVersion};

/// What is never dropped cannot remove its directory. This waits for the end of the process that
/// holds its standard input open, and removes it then.
const JANITOR: &str = r#"read -r _; kill -9 "$1"; rm -rf "$2" || rm -rf "$2""#;

#[derive(Debug)]
struct Shared {
    broker: Broker,
    _janitor: Child,
}

impl Broker {
    /// The broker of this version that all tests of the process share, with default options. It
    /// ends with the process. Topics and transactional ids are for its users to keep apart.
    #[track_caller]
    pub fn shared(version: KafkaVersion) -> &'static Self {
        static OLD: OnceLock<Shared> = OnceLock::new();
        static NEW: OnceLock<Shared> = OnceLock::new();
        let place = match version {
            KafkaVersion::V3_9 => &OLD,
            KafkaVersion::V4_4 => &NEW,
        };
        let start = || {
            let broker = Self::start(BrokerOptions::version(version));
            Shared {
                _janitor: clean_up_after(&broker),
                broker,
            }
        };
        &place.get_or_init(start).broker
    }
}

fn clean_up_after(broker: &Broker) -> Child {
    Command::new("/bin/sh")
        .args(["-c", JANITOR, "janitor"])
        .arg(broker.server.pid().to_string())
        .arg(broker.scratch.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("/bin/sh starts")
}
