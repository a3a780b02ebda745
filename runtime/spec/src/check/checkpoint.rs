//! Checkpoint settings that cannot work, or contradict each other.

use millstream_types::duration::KubeDuration;

use super::Report;
use crate::{CheckpointMode, CheckpointSpec};

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
    check_unaligned(spec, report);
}

fn check_unaligned(spec: &CheckpointSpec, report: &mut Report<'_>) {
    let path = "spec.checkpoint.unaligned.alignedTimeout";
    let (aligned, timeout) = (spec.unaligned.aligned_timeout, spec.timeout);
    between(aligned, KubeDuration::default(), LONGEST, path, report);
    if !spec.unaligned.enabled {
        return;
    }
    if aligned >= timeout {
        report.add(
            path,
            format!(
                "is {aligned}, but a checkpoint is given up after timeout {timeout}, so it would \
                 never become unaligned. Choose less than {timeout}"
            ),
        );
    }
    if spec.mode == CheckpointMode::AtLeastOnce {
        report.add(
            "spec.checkpoint.unaligned.enabled",
            "is true, but with mode AtLeastOnce no barrier waits, so there is nothing to overtake. \
             Set it to false, or mode to ExactlyOnce",
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
