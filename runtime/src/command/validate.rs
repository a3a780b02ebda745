//! `millstream validate`.

mod report;

use std::path::Path;

use millstream_checkpoint::Manifest;
use millstream_coordinator::preflight::Reach;
use millstream_coordinator::{DEFAULT_HEARTBEAT, Rehearsal, Restore, fitting, rehearse};
use millstream_plan::advice::{CheckpointTimes, of_duration};
use millstream_plan::{Incompatibility, PlanError};
use millstream_spec::JobFileError;
use millstream_types::duration::KubeDuration;
use millstream_types::{ErrorCode, ErrorKind, Failure};

use super::print;
use crate::cli::{Logging, Output, StartOptions, ValidateOptions};
use crate::exit::Exit;
use crate::job::{LoadError, LoadedJob};
use crate::registry::Connectors;
use crate::role::{clock, coordinator_options};
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
        if options.strict && !report.warnings.is_empty() {
            exit = exit.max(Exit::Final);
        }
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
        Err(error) => return Ok(Report::refused(error)),
    };
    if let Some(parallelism) = options.parallelism {
        loaded = loaded.rescaled(parallelism)?;
    }
    let connectors = match Connectors::of(&loaded, loaded.job.parallelism) {
        Ok(connectors) => connectors,
        Err(failure) => return Ok(Report::failed(Some(&loaded), failure)),
    };
    if options.restore.is_none() && !options.live {
        return Ok(Report::valid(&loaded));
    }
    super::runtime()?.block_on(check_start(&loaded, &connectors, options))
}

/// Checks a start, as the start does it.
async fn check_start(
    loaded: &LoadedJob,
    connectors: &Connectors,
    options: &ValidateOptions,
) -> Result<Report, Failure> {
    let reach = if options.live {
        Reach::Live
    } else {
        Reach::Local
    };
    let start = StartOptions {
        restore: options.restore.clone().unwrap_or(Restore::Latest),
        unless_advanced: options.unless_advanced,
        expect_state: options.expect_state,
        fork: options.fork,
        take_over: options.take_over,
        allow_dropped_state: options.allow_dropped_state,
        accept_lost_output: options.accept_lost_output,
        resource_uid: options.resource_uid.clone(),
    };
    let start = coordinator_options(
        loaded.clone(),
        connectors.clone(),
        start,
        options.deployment,
        DEFAULT_HEARTBEAT,
        clock(),
    );
    let Rehearsal { point, failures } = rehearse(&start, reach).await?;
    let mut report = Report::valid(loaded);
    if let Some((path, manifest)) = point {
        let took = manifest.decided_at.millis_since(manifest.triggered_at);
        let times = CheckpointTimes::from(&loaded.job.checkpoint);
        let of_newest = of_duration(times, KubeDuration::from_millis(took));
        report.warnings.extend(of_newest);
        compare(&mut report, loaded, path, &manifest, options);
    }
    report.refusals(&failures);
    Ok(report)
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
    fn refused(error: LoadError) -> Self {
        let of_file = |error: &JobFileError| -> Vec<Fault> {
            let faults = error.faults().iter();
            faults
                .map(|fault| Fault {
                    path: fault.path.clone(),
                    message: format!("{} ({})", fault.message, fault.place),
                    code: error.code().code().to_owned(),
                })
                .collect()
        };
        let of_plan = |error: &PlanError| {
            let faults = error.with_lines();
            faults.map(|(fault, line)| Fault::of(fault, line)).collect()
        };
        let faults = match &error {
            LoadError::Io { .. } => Vec::new(),
            LoadError::File(error) => of_file(error),
            LoadError::Plan(error) => of_plan(error),
            LoadError::Both(first, second) => [of_file(first), of_plan(second)].concat(),
        };
        let failure = Failure::from(error);
        let mut report = Self::failed(None, failure);
        if !faults.is_empty() {
            report.faults = faults;
        }
        report
    }
}
