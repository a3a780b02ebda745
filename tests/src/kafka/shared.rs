//! One broker of each version for all tests of a process.

use std::sync::OnceLock;

use super::{Broker, BrokerOptions, KafkaVersion};
use crate::server::Janitor;

#[derive(Debug)]
struct Shared {
    broker: Broker,
    _janitor: Janitor,
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
                _janitor: broker.janitor(),
                broker,
            }
        };
        &place.get_or_init(start).broker
    }

    /// Removes its data after the end of this process, where it is never dropped.
    pub(crate) fn janitor(&self) -> Janitor {
        Janitor::of(&self.server, self.scratch.path())
    }
}
