//! A sink into a directory from which somebody else takes files: `pending/` are those of transactions that
//! are prepared, `ready/` those that are committed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use millstream::arrow::array::cast::AsArray as _;
use millstream::arrow::array::{Array as _, types::Int64Type};
use millstream::sinks::{
    CommitOutcome, Result, SinkContext, TransactionId, TwoPhaseCommit, refused, retryable,
};
use millstream::types::Batch;
use serde::{Deserialize, Serialize};

/// What the job file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    directory: PathBuf,
}

/// The sink.
#[derive(Debug)]
pub(crate) struct Spool {
    directory: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    name: String,
    file: File,
}

/// A file that is complete. Its name is all it takes to find it, for any process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Prepared {
    name: String,
}

impl Spool {
    /// One value for every writer, and one in the coordinator.
    pub(crate) fn open(_: &SinkContext, options: &Options) -> Result<Self> {
        Ok(Self {
            directory: options.directory.clone(),
            open: None,
        })
    }

    fn pending(&self, name: &str) -> PathBuf {
        self.directory.join("pending").join(name)
    }

    fn ready(&self, name: &str) -> PathBuf {
        self.directory.join("ready").join(name)
    }
}

/// The file system may be back in a moment.
fn failed(path: &Path) -> impl Fn(io::Error) -> millstream::types::Failure {
    let path = path.display().to_string();
    move |error| retryable(format!("{path}: {error}"))
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

impl TwoPhaseCommit for Spool {
    type Transaction = Prepared;

    fn name(transaction: &Prepared) -> &str {
        &transaction.name
    }

    fn set_up(&mut self, _has_run: bool) -> Result<()> {
        for part in ["pending", "ready"] {
            let path = self.directory.join(part);
            fs::create_dir_all(&path).map_err(failed(&path))?;
        }
        Ok(())
    }

    fn begin(&mut self, id: &TransactionId) -> Result<()> {
        let name = id.to_string();
        let path = self.pending(&name);
        let file = File::create_new(&path).map_err(failed(&path))?;
        self.open = Some(Open { name, file });
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<u64> {
        let Some(open) = &mut self.open else {
            return Err(refused("nothing was begun"));
        };
        let records = batch.records();
        let column = |name| records.column_by_name(name);
        let (Some(ids), Some(quantities)) = (column("order_id"), column("quantity")) else {
            return Err(refused("the spool wants columns `order_id` and `quantity`"));
        };
        let (Some(ids), Some(quantities)) = (
            ids.as_string_opt::<i32>(),
            quantities.as_primitive_opt::<Int64Type>(),
        ) else {
            return Err(refused("`order_id` is a string and `quantity` an int64"));
        };
        let mut lines = String::new();
        for row in (0..batch.rows()).filter(|row| !ids.is_null(*row)) {
            writeln!(lines, "{} {}", ids.value(row), quantities.value(row))
                .map_err(|error| refused(error.to_string()))?;
        }
        let written = open.file.write_all(lines.as_bytes());
        written.map_err(|error| retryable(error.to_string()))?;
        Ok(lines.len() as u64)
    }

    fn prepare(&mut self) -> Result<Option<Prepared>> {
        let Some(Open { name, file }) = self.open.take() else {
            return Ok(None);
        };
        let pending = self.directory.join("pending");
        let durable = file.sync_all().and_then(|()| sync(&pending));
        durable.map_err(failed(&pending))?;
        Ok(Some(Prepared { name }))
    }

    fn commit(&mut self, transaction: &Prepared) -> CommitOutcome {
        let (from, to) = (
            self.pending(&transaction.name),
            self.ready(&transaction.name),
        );
        let moved = fs::rename(&from, &to).and_then(|()| sync(&self.directory.join("ready")));
        match moved {
            Ok(()) => CommitOutcome::Committed,
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                CommitOutcome::Retry(failed(&from)(error))
            }
            // It was committed before, or aborted.
            Err(error) => match to.try_exists() {
                Ok(true) => CommitOutcome::Committed,
                Ok(false) => CommitOutcome::Aborted(failed(&from)(error)),
                Err(error) => CommitOutcome::Retry(failed(&to)(error)),
            },
        }
    }

    fn abort(&mut self, transaction: &Prepared) -> Result<()> {
        let path = self.pending(&transaction.name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path)(error)),
            _ => Ok(()),
        }
    }

    fn orphans(&mut self, prefix: &str) -> Result<Vec<Prepared>> {
        let path = self.directory.join("pending");
        let mut found = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed(&path))? {
            let name = entry.map_err(failed(&path))?.file_name();
            if let Some(name) = name.to_str().filter(|name| name.starts_with(prefix)) {
                found.push(Prepared {
                    name: name.to_owned(),
                });
            }
        }
        Ok(found)
    }
}
