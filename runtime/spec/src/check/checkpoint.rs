//! Checkpoint settings that cannot work, or contradict each other.

use millstream_types::duration::KubeDuration;

use super::Report;
use crate::CheckpointSpec;

const SHORTEST: KubeDuration = KubeDuration::from_millis(10);
const LONGEST: KubeDuration = KubeDuration::from_secs(24 * 3_600);

pub(super) fn check(spec: &CheckpointSpec, report: &mut Report<'_>) {
    between(
        spec.interval,
        SHORTEST,
        LONGEST,
        "spec.checkpoint.interval",
        report,
    );
    between(
        spec.timeout,
        SHORTEST,
        LONGEST,
        "spec.checkpoint.timeout",
        report,
    );
    between(
        spec.min_pause,
        KubeDuration::default(),
        LONGEST,
        "spec.checkpoint.minPause",
        report,
    );
    check_aligned_timeout(spec, report);
    if spec.min_pause > KubeDuration::default() && spec.max_concurrent > 1 {
        report.add(
            "spec.checkpoint.minPause",
            format!(
                "is {}, so a checkpoint never begins before the last one has ended, but \
                 maxConcurrent is {}. Set minPause to 0s or maxConcurrent to 1",
                spec.min_pause, spec.max_concurrent
            ),
        );
    }
}

fn check_aligned_timeout(spec: &CheckpointSpec, report: &mut Report<'_>) {
    const PATH: &str = "spec.checkpoint.alignedTimeout";
    let Some(aligned) = spec.aligned_timeout else {
        return;
    };
    if spec.max_concurrent > 1 {
        report.add(
            PATH,
            format!(
                "lets a barrier overtake records, but not other barriers, and maxConcurrent is {}. Set \
                 maxConcurrent to 1 or remove alignedTimeout",
                spec.max_concurrent
            ),
        );
    }
    if aligned >= spec.timeout {
        report.add(
            PATH,
            format!(
                "is {aligned}, and checkpoints are given up after {} (`timeout`): none would ever overtake. \
                 Make it shorter",
                spec.timeout
            ),
        );
    }
}

/// Reports a duration out of bounds.
pub(super) fn between(
    value: KubeDuration,
    least: KubeDuration,
    most: KubeDuration,
    path: &str,
    report: &mut Report<'_>,
) {
    if value < least || value > most {
        report.add(
            path,
            format!("is {value}, and must be from {least} to {most}"),
        );
    }
}
