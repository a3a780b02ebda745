//! A decision that comes so late that its transactions are gone.

use std::time::Duration;

use millstream_tests::order_job::OrderJobFile;
use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, KafkaVersion};
use millstream_types::Attempt;

use crate::job::{Armed, Job};

/// The coordinator stands still between the last acknowledgement and the decision, for longer than
/// transactions may stay open. It does not decide what is gone, and goes on by itself.
#[test]
fn a_decision_that_comes_after_its_transactions_are_gone_is_not_made() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let held = format!(
        "coordinator::before-decide=4*off->1*{}(60000)->off",
        "sleep"
    );
    let armed = Armed::Coordinator(&held);
    let mut job = Job::start_with(broker, "late", "300ms", armed, short_timeout);
    wait_until("the first attempt is over", Duration::from_mins(3), || {
        assert!(
            job.coordinator.server.is_running(),
            "the coordinator goes on"
        );
        job.attempt() > Attempt(1)
    });
    job.wait_until_beyond(Attempt(1));
    job.finish(broker);
}

/// The shortest transaction timeout that goes with these checkpoints.
fn short_timeout(file: OrderJobFile) -> OrderJobFile {
    file.replace("timeout: 60s", "timeout: 4s")
        .replace("tolerableFailures: 3", "tolerableFailures: 1")
        .replace("transactionTimeout: 15m", "transactionTimeout: 52s")
}
