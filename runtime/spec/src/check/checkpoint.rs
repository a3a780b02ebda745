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
