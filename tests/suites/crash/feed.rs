//! Orders that flow until somebody has seen enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use millstream_tests::Broker;
use millstream_tests::kafka::topics::produce;
use millstream_tests::wait::pause;
use millstream_tests::workload::Workload;

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
pub(crate) struct Feed {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Feed {
    /// Begins to write to a topic.
    pub(crate) fn start(broker: &Broker, topic: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (stop, client, topic) = (Arc::clone(&stop), broker.client(), topic.to_owned());
            move || {
                let is_wanted =
                    |number: &u64| !number.is_multiple_of(CHUNK) || !stop.load(Ordering::Relaxed);
                let records = (0..).take_while(is_wanted).map(|number| {
                    if number % CHUNK == 0 {
                        pause(PAUSE);
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
    pub(crate) fn end(self) -> Workload {
        self.stop.store(true, Ordering::Relaxed);
        workload(self.thread.join().expect("everything is acknowledged"))
    }
}
