//! Sinks that may write a row again.

use super::child::Step;
use super::rig::Rig;
use super::{Check, Report, Subject, checked};

const CHECKS: [(&str, Check); 4] = [
    ("what was flushed stays when its process is killed", stays),
    ("a row that is written again is there once", again),
    (
        "what was not flushed is written again by the next attempt",
        unflushed,
    ),
    (
        "rows of a dead attempt and of the next one overlap",
        overlap,
    ),
];

/// Checks an idempotent sink whose key is `id`. `place` and `subject` are as in
/// [`transactional`](super::transactional).
pub fn idempotent(
    place: impl FnOnce() -> String,
    subject: impl Fn(&str) -> Box<dyn Subject>,
) -> Report {
    checked(place, subject, &CHECKS)
}

/// Has a process write rows and die, at the barrier or before it.
fn write(rig: &Rig, place: &str, step: Step, attempt: u64, ids: &[i64]) -> Result<(), String> {
    let mut process = rig.start(place, step, attempt, ids)?;
    let said = process.said();
    process.kill()?;
    let expected = if step == Step::Write { "written" } else { "[]" };
    match said? {
        said if said == expected => Ok(()),
        said => Err(said),
    }
}

fn stays(rig: &Rig, place: &str) -> Result<(), String> {
    write(rig, place, Step::Prepare, 1, &[100, 101, 102])?;
    rig.sees(&[100, 101, 102], &[])
}

fn again(rig: &Rig, place: &str) -> Result<(), String> {
    for attempt in 2..5 {
        write(rig, place, Step::Prepare, attempt, &[200, 201])?;
        rig.sees(&[200, 201], &[])?;
    }
    // Also twice in one batch.
    write(rig, place, Step::Prepare, 5, &[202, 202, 203])?;
    rig.sees(&[200, 201, 202, 203], &[])
}

fn unflushed(rig: &Rig, place: &str) -> Result<(), String> {
    write(rig, place, Step::Write, 6, &[600, 601])?;
    write(rig, place, Step::Prepare, 7, &[600, 601])?;
    rig.sees(&[600, 601], &[])
}

fn overlap(rig: &Rig, place: &str) -> Result<(), String> {
    write(rig, place, Step::Write, 8, &[800, 801, 802])?;
    write(rig, place, Step::Prepare, 9, &[802, 803, 800, 801])?;
    rig.sees(&[800, 801, 802, 803], &[])
}
