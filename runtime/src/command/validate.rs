//! `millstream validate`.

mod report;

use std::path::Path;

use millstream_checkpoint::{
    Chain, ChainState, Error, Kinship, Manifest, Place, Storage, StorageOptions, read_savepoint,
};
use millstream_coordinator::opened::Committers;
use millstream_coordinator::preflight::{self, Reach};
use millstream_coordinator::{Restore, fitting};
use millstream_plan::Incompatibility;
use millstream_types::{ErrorCode, ErrorKind, Failure};

use super::print;
use crate::cli::{Logging, Output, ValidateOptions};
use crate::exit::Exit;
use crate::job::{LoadError, LoadedJob};
use crate::registry::Connectors;
use report::{Fault, Report};

/// Checks every file; all of them are looked at, whatever the first one says.
pub(crate) fn main(options: &ValidateOptions, logging: &Logging) -> Exit {
    try_main(options, logging).unwrap_or_else(|failure| Exit::failed(&failure))
}

fn try_main(options: &ValidateOptions, logging: &Logging) -> Result<Exit, Failure> {
    crate::telemetry::start(logging, "warn", std::io::stderr)?;
    if options.files.len() > 1 && (options.restore.is_some() || options.summary.is_some()) {
        return Err(Failure::new(
            ErrorCode::InvalidJob,
            ErrorKind::InvalidJob,
            "--restore and --summary are for one job file",
        ));
    }
    let mut exit = Exit::Done;
    for file in &options.files {
        let report = check(file, options)?;
        if let Some(path) = &options.summary {
            write_summary(path, &report)?;
        }
        exit = exit.max(show(file, options.output, &report));
    }
    Ok(exit)
}

/// Checks one file. What is wrong with it is in the report.
///
/// # Errors
/// The check itself cannot be made.
fn check(file: &Path, options: &ValidateOptions) -> Result<Report, Failure> {
    let mut loaded = match LoadedJob::read(file) {
        Ok(loaded) => loaded,
        Err(error) => return Ok(Report::refused(&error)),
    };
    if let Some(parallelism) = options.parallelism {
        loaded = loaded.rescaled(parallelism)?;
    }
    let connectors = match Connectors::of(&loaded.graph) {
        Ok(connectors) => connectors,
        Err(failure) => return Ok(Report::failed(Some(&loaded), failure)),
    };
    let latest = options.live.then_some(Restore::Latest);
    let Some(restore) = options.restore.clone().or(latest) else {
        return Ok(Report::valid(&loaded));
    };
    super::runtime()?.block_on(check_start(&loaded, &connectors, &restore, options))
}

/// Checks a start from a restore point, as the start does it.
async fn check_start(
    loaded: &LoadedJob,
    connectors: &Connectors,
    restore: &Restore,
    options: &ValidateOptions,
) -> Result<Report, Failure> {
    let mut report = Report::valid(loaded);
    let (point, mut failures) = match restore_point(loaded, restore, options).await {
        Ok(point) => (point, Vec::new()),
        Err(failure) => (None, vec![failure]),
    };
    let state = point.map(|(path, manifest)| {
        compare(&mut report, loaded, path, &manifest, options);
        manifest
    });
    if report.failure.is_none() {
        let is_store_known = !failures.is_empty();
        failures.extend(ask(loaded, connectors, state.as_ref(), options).await?);
        if options.live && !is_store_known {
            failures.extend(ask_store(loaded).await.err());
        }
        report.refusals(&failures);
    }
    Ok(report)
}

/// What sources and sinks say to such a start.
async fn ask(
    loaded: &LoadedJob,
    connectors: &Connectors,
    state: Option<&Manifest>,
    options: &ValidateOptions,
) -> Result<Vec<Failure>, Failure> {
    let (graph, sources) = (&loaded.graph, &connectors.sources);
    if !options.live {
        let nobody = Committers::new();
        return Ok(preflight::connectors(graph, sources, &nobody, state, Reach::Local).await);
    }
    let mut committers = Committers::new();
    for (uid, sink) in &connectors.sinks {
        if let Some(committer) = sink.committer(&loaded.job.id, uid)? {
            committers.insert(uid.clone(), committer);
        }
    }
    Ok(preflight::connectors(graph, sources, &committers, state, Reach::Live).await)
}

/// What the checkpoint storage says to such a start.
async fn ask_store(loaded: &LoadedJob) -> Result<(), Failure> {
    let uri = &loaded.job.checkpoint.storage;
    let storage = Storage::open(uri, &StorageOptions::from_env()).await?;
    preflight::store(&storage).await
}

/// What the job would start from.
async fn restore_point(
    loaded: &LoadedJob,
    restore: &Restore,
    asked: &ValidateOptions,
) -> Result<Option<(String, Manifest)>, Failure> {
    let options = StorageOptions::from_env();
    match restore {
        Restore::Fresh => Ok(None),
        Restore::Path(path) if asked.unless_advanced => believed(loaded, path, &options).await,
        Restore::Path(path) => {
            let manifest = read_savepoint(path, &options).await?;
            Ok(Some((path.clone(), manifest)))
        }
        Restore::Latest => {
            let (chain, state) = observe(loaded, &options).await?;
            let newest = newest(state);
            if newest.is_none() && asked.expect_state {
                return Err(chain.state_missing().into());
            }
            Ok(newest)
        }
    }
}

async fn observe(
    loaded: &LoadedJob,
    options: &StorageOptions,
) -> Result<(Chain, ChainState), Failure> {
    let storage = Storage::open(&loaded.job.checkpoint.storage, options).await?;
    let chain = Chain::new(storage, loaded.job.id.clone());
    let state = chain.observe().await?;
    Ok((chain, state))
}

/// The newest checkpoint of a chain, with what of it is still to be committed.
fn newest(state: ChainState) -> Option<(String, Manifest)> {
    let is_committed = state.newest_is_committed();
    let newest = state.newest.map(|newest| {
        if is_committed {
            newest.without_committables()
        } else {
            newest
        }
    });
    state.newest_path.zip(newest)
}

/// What the job would go on from that is told what is believed to be its newest state.
async fn believed(
    loaded: &LoadedJob,
    path: &str,
    options: &StorageOptions,
) -> Result<Option<(String, Manifest)>, Failure> {
    let (chain, state) = observe(loaded, options).await?;
    let place = chain.place(path);
    let is_known = match (&state.newest, place) {
        (Some(newest), None | Some(Place::Beside)) => newest.imported_from.as_deref() == Some(path),
        (newest, _) => newest.is_some(),
    };
    if is_known {
        return Ok(newest(state));
    }
    let point = read_savepoint(path, options).await?;
    let kinship = state
        .newest
        .as_ref()
        .map(|newest| newest.kinship_of(&point, place.is_some()));
    match (kinship, &state.newest) {
        (Some(Kinship::Ancestor), _) => Ok(newest(state)),
        (Some(Kinship::None), Some(newest)) => Err(Error::Unrelated {
            path: path.to_owned(),
            checkpoint: point.checkpoint,
            job: point.job,
            chain: chain.path(),
            newest: newest.checkpoint,
        }
        .into()),
        _ => Ok(Some((path.to_owned(), point))),
    }
}

fn compare(
    report: &mut Report,
    loaded: &LoadedJob,
    path: String,
    manifest: &Manifest,
    options: &ValidateOptions,
) {
    report.restore_point = Some(path);
    report.changes = fitting::changes(&loaded.graph, loaded.job.parallelism, manifest);
    if !options.allow_dropped_state {
        let misfits = fitting::misfits(&loaded.graph, manifest);
        report.misfits(&misfits, Incompatibility::failure(&misfits));
    }
}

/// Says what came out.
fn show(file: &Path, output: Output, report: &Report) -> Exit {
    let exit = match &report.failure {
        None => Exit::Done,
        Some(failure) => Exit::failed(failure),
    };
    match output {
        Output::Json => print(&format!("{}\n", report.json())),
        Output::Text if report.failure.is_none() => {
            print(&report.text(&file.display().to_string()));
        }
        Output::Text => {}
    }
    exit
}

fn write_summary(path: &Path, report: &Report) -> Result<(), Failure> {
    std::fs::write(path, report.summary()).map_err(|error| {
        let message = format!("--summary {}: {error}", path.display());
        Failure::new(ErrorCode::OperatingSystem, ErrorKind::Internal, message)
    })
}

impl Report {
    /// The report of a file that cannot run.
    fn refused(error: &LoadError) -> Self {
        let faults = match error {
            LoadError::Io { .. } => Vec::new(),
            LoadError::File(error) => error
                .faults()
                .iter()
                .map(|fault| Fault {
                    path: fault.path.clone(),
                    message: format!("{} ({})", fault.message, fault.place),
                    code: error.code().code().to_owned(),
                })
                .collect(),
            LoadError::Plan(error) => error.faults().iter().map(Fault::from).collect(),
        };
        let failure = match error {
            LoadError::Io { .. } => Failure::new(
                ErrorCode::UnreadableJobFile,
                ErrorKind::InvalidJob,
                error.to_string(),
            ),
            LoadError::File(error) => error.clone().into(),
            LoadError::Plan(error) => error.clone().into(),
        };
        let mut report = Self::failed(None, failure);
        if !faults.is_empty() {
            report.faults = faults;
        }
        report
    }
}
