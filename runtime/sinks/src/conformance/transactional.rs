//! Sinks whose output becomes visible with its checkpoint.

use std::time::Duration;

use millstream_connect::CommitOutcome;

use super::child::Step;
use super::rig::{Rig, at, outcome};
use super::{Check, Report, Subject, checked};
use crate::client::block_on;

/// When a process that commits is killed.
const KILLS: [u64; 6] = [0, 1, 2, 4, 8, 16];

/// Each uses attempts and ids of its own, higher ones than those before.
const CHECKS: [(&str, Check); 9] = [
    (
        "a prepared transaction is not visible before its commit",
        not_before_its_commit,
    ),
    (
        "another process commits what a dead one has prepared",
        by_another_process,
    ),
    ("committing again makes no difference", again),
    (
        "transactions of several checkpoints are committed together",
        together,
    ),
    ("nothing is prepared where nothing was written", nothing),
    (
        "what was written and not prepared disappears with its process",
        unprepared,
    ),
    (
        "orphans are found and aborted, and nothing that is listed",
        orphans,
    ),
    ("a writer whose attempt is over changes nothing", zombie),
    ("a commit that is cut off is finished by the next", cut_off),
];

/// Checks a sink with two-phase commit. `place` says where it writes to, and may start that: it is called
/// once. `subject` makes the sink, in this process and in those that it starts.
pub fn transactional(
    place: impl FnOnce() -> String,
    subject: impl Fn(&str) -> Box<dyn Subject>,
) -> Report {
    checked(place, subject, &CHECKS)
}

fn not_before_its_commit(rig: &Rig, place: &str) -> Result<(), String> {
    let prepared = rig.prepared(place, 1, &[100, 101, 102])?;
    if prepared.is_empty() {
        return Err("rows were written, and there is nothing to commit".to_owned());
    }
    rig.sees(&[], &[100, 101, 102])?;
    rig.sweep(1, &[]).map(|_| ())
}

fn by_another_process(rig: &Rig, place: &str) -> Result<(), String> {
    let prepared = rig.prepared(place, 2, &[200, 201])?;
    rig.commits(&prepared)?;
    rig.sees(&[200, 201], &[100])
}

fn again(rig: &Rig, place: &str) -> Result<(), String> {
    let prepared = rig.prepared(place, 3, &[300, 301])?;
    for _ in 0..3 {
        rig.commits(&prepared)?;
        rig.sees(&[300, 301], &[])?;
    }
    // Also after everything else of that attempt was undone.
    rig.sweep(3, &prepared)?;
    rig.commits(&prepared)?;
    rig.sees(&[300, 301], &[])
}

fn together(rig: &Rig, _: &str) -> Result<(), String> {
    let mut writer = rig.writer(4)?;
    let mut listed = Vec::new();
    for (checkpoint, ids) in [(40, [400, 401]), (41, [402, 403]), (42, [404, 405])] {
        outcome(writer.write(&rig.batch(&ids)))?;
        let prepared = outcome(writer.prepare(millstream_types::CheckpointId(checkpoint)))?;
        listed.extend(prepared);
    }
    rig.sees(&[], &[400, 402, 404])?;
    // The first checkpoint's commit has failed, say: the next one lists its transactions as well.
    listed.reverse();
    rig.commits(&listed)?;
    rig.sees(&[400, 401, 402, 403, 404, 405], &[])
}

fn nothing(rig: &Rig, _: &str) -> Result<(), String> {
    let mut writer = rig.writer(5)?;
    let prepared = outcome(writer.prepare(at(5)))?;
    if prepared.is_empty() {
        return Ok(());
    }
    Err(format!("there is something to commit: {prepared:?}"))
}

fn unprepared(rig: &Rig, place: &str) -> Result<(), String> {
    let mut process = rig.start(place, Step::Write, 6, &[600, 601])?;
    let said = process.said();
    process.kill()?;
    if said? != "written" {
        return Err("rows cannot be written".to_owned());
    }
    rig.sweep(6, &[])?;
    // The next attempt writes the same rows.
    let prepared = rig.prepared(place, 7, &[600, 601])?;
    rig.sees(&[], &[600, 601])?;
    rig.commits(&prepared)?;
    rig.sees(&[600, 601], &[])
}

fn orphans(rig: &Rig, place: &str) -> Result<(), String> {
    let orphan = rig.prepared(place, 8, &[800, 801])?;
    let listed = rig.prepared(place, 9, &[900, 901])?;
    let aborted = rig.sweep(9, &listed)?;
    if aborted == 0 {
        return Err("a prepared transaction that nothing lists was not found".to_owned());
    }
    // Undoing it again makes no difference.
    rig.sweep(9, &listed)?;
    rig.commits(&listed)?;
    rig.sees(&[900, 901], &[800, 801])?;
    let outcomes = rig.commit(&orphan)?;
    if outcomes.contains(&CommitOutcome::Committed) {
        return Err("a transaction that was aborted is said to be committed".to_owned());
    }
    rig.sees(&[900, 901], &[800, 801])
}

fn zombie(rig: &Rig, place: &str) -> Result<(), String> {
    let mut old = rig.start(place, Step::PrepareLate, 10, &[1_000, 1_001])?;
    old.said()?;
    // Its successor takes over while it is frozen, and writes the same rows and more.
    rig.sweep(10, &[])?;
    let listed = rig.prepared(place, 11, &[1_000, 1_001, 1_100])?;
    rig.commits(&listed)?;
    rig.sees(&[1_000, 1_001, 1_100], &[])?;
    old.go_on()?;
    // It may succeed or fail: nobody hears of it.
    drop(old.prepared());
    old.kill()?;
    rig.sees(&[1_000, 1_001, 1_100], &[])?;
    rig.sweep(10, &listed)?;
    let left = rig.sweep(10, &listed)?;
    if left > 0 {
        return Err(format!(
            "{left} transactions stay open after they were aborted"
        ));
    }
    rig.commits(&listed)?;
    rig.sees(&[1_000, 1_001, 1_100], &[])
}

fn cut_off(rig: &Rig, place: &str) -> Result<(), String> {
    for (number, millis) in KILLS.into_iter().enumerate() {
        let number = i64::try_from(number).unwrap_or_default();
        let attempt = 12 + number.unsigned_abs();
        let ids = [1_200 + 10 * number, 1_201 + 10 * number];
        let prepared = rig.prepared(place, attempt, &ids)?;
        let mut process = rig.start_commit(place, &prepared)?;
        process.said()?;
        outcome(block_on(async {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(())
        }))?;
        process.kill()?;
        rig.commits(&prepared)?;
        rig.sees(&ids, &[])?;
    }
    Ok(())
}
