//! `millstream checkpoints delete`.

use std::collections::BTreeMap;

use millstream_checkpoint::disposal::{Disposed, JobDisposal, delete_job, delete_savepoint};
use millstream_checkpoint::{Error, Holder, Storage, StorageOptions};
use millstream_types::clock::SystemClock;
use millstream_types::{Clock, ErrorCode, ErrorKind, Failure, JobId};

use crate::cli::DeleteOptions;
use crate::command::print;
use crate::command::transactions::Leftovers;
use crate::exit::Exit;

/// Deletes a savepoint, or all of a job.
pub(super) async fn main(options: &DeleteOptions) -> Result<Exit, Failure> {
    let storage_options = StorageOptions::from_env();
    if let Some(path) = &options.path {
        let disposed = delete_savepoint(path, &storage_options).await?;
        print(&if disposed.is_nothing() {
            format!("{path}: already gone\n")
        } else {
            format!("{path}: savepoint deleted\n")
        });
        return Ok(Exit::Done);
    }
    // Nothing else than these three can have been typed.
    let [storage, namespace, name] = options.job.as_deref().unwrap_or_default() else {
        return Ok(Exit::Final);
    };
    for (what, text) in [("NAMESPACE", namespace), ("NAME", name)] {
        if !is_name(text) {
            Exit::failed(&no_name(what, text));
            return Ok(Exit::Final);
        }
    }
    let job = JobId {
        namespace: namespace.clone(),
        name: name.clone(),
    };
    let disposal = JobDisposal {
        holder: holder(options),
        job: job.clone(),
        keep_savepoints: options.keep_savepoints,
    };
    // Which attempts there were is known only before they are deleted.
    let leftovers = match &options.job_file {
        Some(file) => Some(Leftovers::of(file).await?),
        None => None,
    };
    if let Some(other) = leftovers.as_ref().filter(|found| *found.job() != job) {
        Exit::failed(&another_job(&job, other.job()));
        return Ok(Exit::Final);
    }
    let storage = Storage::open(storage, &storage_options).await?;
    let now = SystemClock::default().now();
    let disposed = match delete_job(&storage, &disposal, now).await {
        Ok(disposed) => disposed,
        Err(error @ Error::Superseded { .. }) => {
            Exit::failed(&error.into());
            return Ok(Exit::Final);
        }
        Err(error) => return Err(error.into()),
    };
    if disposed.uncommitted > 0 {
        tracing::warn!(
            %job,
            transactions = disposed.uncommitted,
            "output that was prepared and not known to be committed is lost: the job was not stopped before"
        );
    }
    print(&said(&job, &disposed));
    // Whoever still ran is fenced by now.
    if let Some(leftovers) = leftovers {
        let aborted = leftovers.abort_everything().await?;
        print(&format!("{job}: aborted {aborted} open transactions\n"));
    }
    Ok(Exit::Done)
}

/// Whether a job or namespace may be called so.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_end = |c: char| c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(fits)
        && !text.starts_with(is_end)
        && !text.ends_with(is_end)
}

fn no_name(what: &str, text: &str) -> Failure {
    Failure::new(
        ErrorCode::InvalidJob,
        ErrorKind::InvalidJob,
        format!(
            "--job: `{}` cannot be the {what} of a job, which has lower-case letters, digits and `-`, not \
             at the ends; nothing was deleted",
            text.escape_debug()
        ),
    )
}

fn another_job(job: &JobId, file: &JobId) -> Failure {
    Failure::new(
        ErrorCode::InvalidJob,
        ErrorKind::InvalidJob,
        format!("--job names {job}, and --job-file is the file of {file}; nothing was deleted"),
    )
}

fn holder(options: &DeleteOptions) -> Holder {
    Holder {
        name: format!("deletion by process {}", std::process::id()),
        build: crate::BUILD.to_owned(),
        identity: options.identity.clone(),
        parallelism: 1,
        deployment: options.deployment,
        host: None,
        sinks: BTreeMap::new(),
    }
}

fn said(job: &JobId, disposed: &Disposed) -> String {
    if disposed.is_nothing() {
        return format!("{job}: already gone\n");
    }
    format!(
        "{job}: deleted {} checkpoints, {} savepoints and {} reserved names\n",
        disposed.checkpoints, disposed.savepoints, disposed.reservations
    )
}
