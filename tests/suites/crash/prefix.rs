//! Two jobs with the same transactional ids.

use millstream_tests::cluster::Cluster;
use millstream_tests::{Broker, KafkaVersion};
use millstream_types::Attempt;

use crate::job::{Armed, DEADLINE, Job};

/// Exit code for a job that cannot work as it is written.
const INVALID: i32 = 2;

/// Point 20: the second job is refused before it touches anything of the first.
#[test]
fn point_20_a_second_job_with_the_same_transactional_id_prefix_is_refused() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let job = Job::start(broker, "point-20", "300ms", Armed::Nobody);
    job.wait_until_beyond(Attempt(0));
    let attempt = job.attempt();
    let mut second = Cluster::new("double", &job.file_of_double("point-20-double"));
    let launch = second
        .millstream("coordinator")
        .args(["--job", "streamjob.yaml"])
        .args(["--listen", "127.0.0.1:0"]);
    let mut refused = second.start("coordinator", &launch);
    let status = refused.wait(DEADLINE);
    let output = refused.output();
    assert_eq!(status.code(), Some(INVALID), "{output}");
    for part in ["MS0305", "default/point-20 ", "default/point-20-double"] {
        assert!(output.contains(part), "no `{part}` in:\n{output}");
    }
    job.wait_until_beyond(Attempt(attempt.0 - 1));
    assert_eq!(job.attempt(), attempt, "the first job was not disturbed");
    job.finish(broker);
}
