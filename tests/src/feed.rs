//! Orders that flow until somebody has seen enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::kafka::Broker;
use crate::kafka::topics::produce;
use crate::wait::pause;
use crate::workload::Workload;

const SEED: u64 = 20_260_101;
/// Few, so that every one of them has orders before and after a crash.
const CUSTOMERS: u64 = 500;
/// Records between two pauses.
const CHUNK: u64 = 100;
const PAUSE: Duration = Duration::from_millis(25);

fn workload(records: u64) -> Workload {
    Workload {
        customers: CUSTOMERS,
        ..Workload::new(SEED, records)
    }
}

/// A thread that writes orders at an even pace.
#[derive(Debug)]
pub struct Feed {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Feed {
    /// Begins to write four thousand records per second to a topic.
    pub fn start(broker: &Broker, topic: &str) -> Self {
        Self::start_with_pause(broker, topic, PAUSE)
    }

    /// As [`start`](Self::start), a hundred records at a time.
    pub fn start_with_pause(broker: &Broker, topic: &str, between: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (stop, client, topic) = (Arc::clone(&stop), broker.client(), topic.to_owned());
            move || {
                let is_wanted =
                    |number: &u64| !number.is_multiple_of(CHUNK) || !stop.load(Ordering::Relaxed);
                let records = (0..).take_while(is_wanted).map(|number| {
                    if number % CHUNK == 0 {
                        pause(between);
                    }
                    workload(number + 1).record(number)
                });
                produce(&client, &topic, records)
            }
        });
        Self { stop, thread }
    }

    /// Ends it. Everything that was written is acknowledged.
    #[track_caller]
    pub fn end(self) -> Workload {
        self.stop.store(true, Ordering::Relaxed);
        workload(self.thread.join().expect("everything is acknowledged"))
    }
}
