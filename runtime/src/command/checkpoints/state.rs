//! `millstream checkpoints state`: what operators keep by key, as a checkpoint or savepoint holds it.

mod fetched;
mod key;
mod written;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;

use millstream_checkpoint::StorageOptions;
use millstream_checkpoint::inspect::{self, Point};
use millstream_state::reader::StateKey;
use millstream_types::text::{bytes, number};
use millstream_types::{
    CheckpointId, ErrorCode, ErrorKind, Failure, OperatorUid, Run, StateSnapshot,
};
use serde::Serialize;

use crate::cli::{StateFormat, StateOptions};
use crate::command::answer;
use crate::exit::Exit;
use crate::text::table;
use written::{Writer, Written};

pub(super) async fn main(options: &StateOptions) -> Result<Exit, Failure> {
    let id = options.checkpoint.map(CheckpointId);
    let point = inspect::point(&options.storage, id, &StorageOptions::from_env()).await?;
    let done = match &options.operator {
        Some(operator) => {
            let mut writer = Writer::new(options.format);
            let uid = operator.as_str().into();
            match rows(options, &point, &uid, &mut writer).await {
                Ok(found) => finished(options, &point, found, writer),
                Err(failure) => Err(failure),
            }
        }
        None => list(options, &point).await,
    };
    match done {
        Err(failure) if failure.code == ErrorCode::CorruptObject => {
            Err(explained(options, &point, failure).await)
        }
        done => done,
    }
}

/// A job that runs deletes what it does not retain any more, also while somebody reads it.
async fn explained(options: &StateOptions, point: &Point, failure: Failure) -> Failure {
    let id = point.manifest.checkpoint;
    let again = inspect::show(&options.storage, Some(id), &StorageOptions::from_env()).await;
    let is_gone = match again.map_err(Failure::from) {
        Ok(again) => again.taken() != point.manifest.taken(),
        // Of a savepoint nobody asks by number.
        Err(missing) => {
            options.checkpoint.is_some() && missing.code == ErrorCode::CheckpointMissing
        }
    };
    if !is_gone {
        return failure;
    }
    Failure::new(
        ErrorCode::CheckpointMissing,
        ErrorKind::Retryable,
        format!(
            "checkpoint {id} of {} was deleted while it was read, because the job has gone on: ask \
             again, or take a savepoint and read that",
            point.manifest.job
        ),
    )
}

/// One state of an operator, in short.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    operator: String,
    state: String,
    #[serde(rename = "type")]
    data_type: String,
    subtasks: usize,
    keys: u64,
    runs: usize,
    bytes: u64,
}

async fn list(options: &StateOptions, point: &Point) -> Result<Exit, Failure> {
    let summaries = summaries(point).await?;
    answer(options.output, &summaries, |summaries| {
        listing(point, summaries)
    })?;
    Ok(Exit::Done)
}

async fn summaries(point: &Point) -> Result<Vec<Summary>, Failure> {
    let mut summaries = Vec::new();
    for uid in point.manifest.operators.keys() {
        for (name, data_type) in declared(point, uid) {
            let mut summary = Summary {
                operator: uid.to_string(),
                state: name.clone(),
                data_type,
                ..Summary::default()
            };
            let mut files: BTreeMap<&str, u64> = BTreeMap::new();
            for snapshot in snapshots(point, uid) {
                let groups = snapshot.key_groups.first..snapshot.key_groups.end;
                let runs = runs_of(snapshot, &name, &groups);
                summary.subtasks += 1;
                if let Some(mut reader) = fetched::reader(point, &groups, runs).await? {
                    while let Some(part) = reader.next_part()? {
                        summary.keys += u64::try_from(part.rows.num_rows()).unwrap_or(u64::MAX);
                    }
                }
                let named = snapshot.runs.iter().filter(|run| run.state == name);
                files.extend(named.map(|run| (run.file.path.as_str(), run.file.bytes)));
            }
            summary.runs = files.len();
            summary.bytes = files.values().sum();
            summaries.push(summary);
        }
    }
    Ok(summaries)
}

fn listing(point: &Point, summaries: &[Summary]) -> String {
    if summaries.is_empty() {
        let (id, job) = (point.manifest.checkpoint, &point.manifest.job);
        return format!("checkpoint {id} of {job} holds no keyed state\n");
    }
    let head = [
        "OPERATOR", "STATE", "SUBTASKS", "KEYS", "RUNS", "BYTES", "KEEPS",
    ];
    let row = |summary: &Summary| {
        vec![
            summary.operator.clone(),
            summary.state.clone(),
            summary.subtasks.to_string(),
            number(summary.keys),
            summary.runs.to_string(),
            bytes(summary.bytes),
            summary.data_type.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = summaries.iter().map(row).collect();
    table(&head, &rows)
}

/// Writes the rows of an operator's states, or of one of them. How many there are; `None` if nobody
/// reads them.
async fn rows<W: Write>(
    options: &StateOptions,
    point: &Point,
    uid: &OperatorUid,
    writer: &mut Writer<W>,
) -> Result<Option<usize>, Failure> {
    let states = wanted(options, point, uid)?;
    let mut found = 0;
    for state in &states {
        let search = match &options.key {
            Some(text) => match search(point, uid, state, text).await? {
                Some(search) => Some(search),
                // The state is empty.
                None => continue,
            },
            None => None,
        };
        for snapshot in snapshots(point, uid) {
            let own = snapshot.key_groups.first..snapshot.key_groups.end;
            let groups = match &search {
                Some(search) if own.contains(&search.group) => search.group..search.group + 1,
                Some(_) => continue,
                None => own,
            };
            let runs = runs_of(snapshot, state, &groups);
            let Some(mut reader) = fetched::reader(point, &groups, runs).await? else {
                continue;
            };
            while let Some(mut contents) = reader.next_part()? {
                if let Some(search) = &search {
                    contents = contents.only(&search.key)?;
                }
                found += contents.rows.num_rows();
                if writer.write(state, &contents)? == Written::NobodyReads {
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some(found))
}

fn finished(
    options: &StateOptions,
    point: &Point,
    found: Option<usize>,
    writer: Writer,
) -> Result<Exit, Failure> {
    if found.is_some() {
        writer.finish()?;
    }
    if let (Some(0), Some(key)) = (found, &options.key) {
        let id = point.manifest.checkpoint;
        tracing::warn!(key, checkpoint = %id, "there is no such key");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

/// The states that are asked for, in order of their names.
fn wanted(
    options: &StateOptions,
    point: &Point,
    uid: &OperatorUid,
) -> Result<Vec<String>, Failure> {
    let declared = declared(point, uid);
    let all = || declared.keys().cloned();
    if declared.is_empty() {
        let with_state = point.manifest.operators.keys();
        let with_state = with_state.filter(|uid| snapshots(point, uid).next().is_some());
        let known: Vec<String> = with_state.map(|uid| format!("`{uid}`")).collect();
        return Err(nothing(point, &format!("operator `{uid}`"), &known));
    }
    let Some(state) = &options.state else {
        let states: Vec<String> = all().collect();
        if options.format == StateFormat::Arrow && states.len() > 1 {
            return Err(asked_wrong(format!(
                "operator `{uid}` has the states {}, and an Arrow file has the columns of one: name it \
                 with --state",
                states.join(", ")
            )));
        }
        return Ok(states);
    };
    if declared.contains_key(state) {
        return Ok(vec![state.clone()]);
    }
    let known: Vec<String> = all().map(|name| format!("`{name}`")).collect();
    let what = format!("state `{state}` of operator `{uid}`");
    Err(nothing(point, &what, &known))
}

fn nothing(point: &Point, what: &str, known: &[String]) -> Failure {
    let known = match known {
        [] => "nothing by key".to_owned(),
        known => known.join(", "),
    };
    let (id, job) = (point.manifest.checkpoint, &point.manifest.job);
    let message = format!("checkpoint {id} of {job} does not hold {what}; it holds {known}");
    Failure::new(ErrorCode::CheckpointMissing, ErrorKind::InvalidJob, message)
}

fn asked_wrong(message: String) -> Failure {
    Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message)
}

/// A key that is looked for.
struct Search {
    key: Vec<arrow_array::ArrayRef>,
    group: u32,
}

/// What the text of a key means in a state; `None` if the state is empty.
async fn search(
    point: &Point,
    uid: &OperatorUid,
    state: &str,
    text: &str,
) -> Result<Option<Search>, Failure> {
    let mut runs = snapshots(point, uid).flat_map(|snapshot| &snapshot.runs);
    let Some(run) = runs.find(|run| run.state == state) else {
        return Ok(None);
    };
    let content = point.read(&run.file).await?;
    let of = StateKey::of(&run.file, &content)?;
    let key = key::parse(text, of.grouping()).map_err(asked_wrong)?;
    let group = of.group_of(&key)?;
    Ok(Some(Search { key, group }))
}

/// The declared states of an operator with their types.
fn declared(point: &Point, uid: &OperatorUid) -> BTreeMap<String, String> {
    let declarations = snapshots(point, uid).flat_map(|snapshot| &snapshot.declarations);
    declarations
        .map(|one| (one.name.clone(), one.data_type.clone()))
        .collect()
}

/// The keyed state of an operator's subtasks, in order of their key groups.
fn snapshots<'a>(
    point: &'a Point,
    uid: &OperatorUid,
) -> impl Iterator<Item = &'a StateSnapshot> + use<'a> {
    let subtasks = point.manifest.operators.get(uid);
    let subtasks = subtasks.into_iter().flat_map(BTreeMap::values);
    subtasks.filter_map(|snapshot| snapshot.state.as_ref())
}

/// The runs that hold any of these groups of a state.
fn runs_of(snapshot: &StateSnapshot, state: &str, groups: &Range<u32>) -> Vec<Run> {
    let meets = |run: &&Run| run.range.first < groups.end && groups.start < run.range.end;
    let runs = snapshot.runs.iter().filter(|run| run.state == state);
    runs.filter(meets).cloned().collect()
}

#[cfg(test)]
mod tests;
