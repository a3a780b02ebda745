//! `millstream drill`: runs a job and is bad to it, and says whether that cost anything.
//!
//! Reading order: [`faults`] is what is done and how long the job needs, [`processes`] what runs,
//! [`records`] counts what sinks show, [`report`] says what came of it.

mod faults;
mod processes;
mod records;
mod report;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use millstream_types::{ErrorCode, ErrorKind, Failure};

use super::answer;
use crate::cli::{DrillOptions, Logging};
use crate::exit::Exit;
use crate::job::LoadedJob;
use crate::signals::Signals;
use faults::Patience;
use processes::Processes;
use records::Records;
use report::Report;

/// Runs the drill.
pub(crate) fn main(options: &DrillOptions, logging: &Logging) -> Exit {
    try_main(options, logging).unwrap_or_else(|failure| Exit::failed(&failure))
}

fn try_main(options: &DrillOptions, logging: &Logging) -> Result<Exit, Failure> {
    crate::telemetry::start(logging, "warn", std::io::stderr)?;
    let loaded = LoadedJob::read(&options.file)?;
    confirm(options, &loaded)?;
    let runtime = super::runtime()?;
    let report = runtime.block_on(async {
        let mut signals = Signals::catch().map_err(|error| system("signals", &error))?;
        tokio::select! {
            report = Box::pin(drill(options, &loaded)) => report.map(Some),
            () = signals.next() => Ok(None),
        }
    })?;
    let Some(report) = report else {
        say(
            "interrupted: what the drill has started is ended; run the job to go on from its newest checkpoint",
        );
        return Ok(Exit::Interrupted);
    };
    answer(options.output, &report, Report::text)?;
    Ok(if report.passed {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// Nothing is done to a job that nobody has named.
fn confirm(options: &DrillOptions, loaded: &LoadedJob) -> Result<(), Failure> {
    let name = &loaded.job.id.name;
    if options.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(refused(format!(
            "nobody has confirmed the drill of `{name}`: give --yes"
        )));
    }
    say(&format!(
        "This runs job {} of {} for real, reading and writing what it names, and kills its processes.\n\
         Type the name of the job to go on:",
        loaded.job.id,
        options.file.display()
    ));
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    match read {
        Ok(_) if line.trim() == name => Ok(()),
        _ => Err(refused(format!("the drill of `{name}` was not confirmed"))),
    }
}

async fn drill(options: &DrillOptions, loaded: &LoadedJob) -> Result<Report, Failure> {
    let patience = Patience {
        recovery: options.deadline,
        pause: options.pause,
        delay: options.storage_delay,
    };
    let directory = directory(options)?;
    say(&format!("logs of all processes: {}", directory.display()));
    let mut processes = Processes::new(options, loaded, directory);
    // So that nothing of an earlier run is still to be committed when records are first counted.
    say("the job runs undisturbed until a checkpoint, and stops");
    processes.start().await?;
    faults::wait_until_running(&mut processes, options.deadline).await?;
    processes.stop(options.deadline).await?;
    let mut records = Records::before(loaded).await?;
    processes.start().await?;
    faults::wait_until_running(&mut processes, options.deadline).await?;
    let mut suffered = Vec::new();
    for round in 1..=options.rounds {
        for fault in options.faults() {
            say(&format!("round {round}: {}", fault.describe(&patience)));
            suffered.push(faults::suffer(fault, &mut processes, &patience).await?);
        }
    }
    let audit = processes.audit()?;
    processes.stop(options.deadline).await?;
    say("counting what the sinks show");
    let sinks = records.after(loaded, options.deadline).await?;
    Ok(Report::new(&loaded.job.id, suffered, sinks, audit.gaps))
}

/// Where logs go.
fn directory(options: &DrillOptions) -> Result<PathBuf, Failure> {
    let directory = options.logs.clone().unwrap_or_else(|| {
        let name = format!("millstream-drill-{}", std::process::id());
        std::env::temp_dir().join(name)
    });
    std::fs::create_dir_all(&directory)
        .map_err(|error| system(&directory.display().to_string(), &error))?;
    Ok(directory)
}

/// Tells a person what goes on, on standard error.
fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

fn refused(message: String) -> Failure {
    Failure::new(ErrorCode::DrillRefused, ErrorKind::InvalidJob, message)
}

fn failed(message: String) -> Failure {
    Failure::new(ErrorCode::DrillFailed, ErrorKind::Retryable, message)
}

fn system(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(
        ErrorCode::OperatingSystem,
        ErrorKind::Internal,
        format!("{what}: {error}"),
    )
}

/// Lets time pass between two looks.
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
