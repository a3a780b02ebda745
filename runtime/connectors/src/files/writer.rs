//! Writes the rows of one subtask into hidden files, one per checkpoint.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use millstream_connect::{Result, SinkWriter};
use millstream_formats::{EncodedRows, Encoder};
use millstream_types::{
    Attempt, Batch, CheckpointId, Committable, ErrorCode, ErrorKind, Failure, Opaque, SubtaskIndex,
};

use super::commit::remove_if_there;
use super::failure::{access, unusable};
use super::kept::Kept;
use super::layout::{FileId, Layout, Prepared, committed_name};

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 256 * 1_024;

/// Writes one file per checkpoint, if there are rows for it.
#[derive(Debug)]
pub(super) struct Writer {
    sink: String,
    layout: Layout,
    encoder: Encoder,
    attempt: Attempt,
    subtask: SubtaskIndex,
    /// Number of the next file.
    next: u64,
    open: Option<Open>,
    bytes: u64,
    /// Files that are prepared, or committed and kept.
    kept: Kept,
    /// Sticky.
    failed: Option<Failure>,
}

/// The file that is being written.
#[derive(Debug)]
struct Open {
    id: FileId,
    path: PathBuf,
    file: File,
    /// Rows that are not in the file yet.
    buffer: Vec<u8>,
    /// Of everything that is in the file.
    length: u64,
    crc32c: u32,
    records: u64,
}

impl Writer {
    pub(super) fn new(
        sink: &str,
        layout: Layout,
        encoder: Encoder,
        (attempt, subtask): (Attempt, SubtaskIndex),
    ) -> Self {
        Self {
            sink: sink.to_owned(),
            layout,
            encoder,
            attempt,
            subtask,
            next: 0,
            open: None,
            bytes: 0,
            kept: Kept::default(),
            failed: None,
        }
    }

    /// Runs what must not be tried again after it has failed once.
    fn once<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let outcome = run(self);
        if let Err(failure) = &outcome {
            self.failed = Some(failure.clone());
        }
        outcome
    }

    fn write_rows(&mut self, batch: &Batch) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open_next()?,
        };
        let raw = matches!(self.encoder, Encoder::Raw(_));
        let rows = self.encoder.encode(batch.records());
        let rows = rows.map_err(|error| crate::encoding::failed(&self.sink, &error))?;
        if raw {
            one_line_each(&self.sink, rows)?;
        }
        let before = open.written();
        let pushed = open.push(rows);
        pushed.map_err(|error| access(&self.sink, "write", &open.path, &error))?;
        self.bytes += open.written() - before;
        self.open = Some(open);
        Ok(())
    }

    fn open_next(&mut self) -> Result<Open> {
        let id = FileId {
            attempt: self.attempt,
            subtask: self.subtask,
            number: self.next,
        };
        self.next += 1;
        let visible = self.layout.directory().join(self.layout.visible_name(id));
        let taken = visible.try_exists();
        if taken.map_err(|error| access(&self.sink, "look for", &visible, &error))? {
            return Err(unusable(&self.sink, &visible, TAKEN));
        }
        // It was made when the job began: where it is missing, a file system is not mounted.
        let path = self.layout.hidden().join(id.temporary_name());
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => unusable(&self.sink, &path, TAKEN),
            _ => access(&self.sink, "create", &path, &error),
        })?;
        Ok(Open {
            id,
            path,
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            length: 0,
            crc32c: 0,
            records: 0,
        })
    }

    fn prepare_open(&mut self, checkpoint: CheckpointId) -> Result<Vec<Committable>> {
        let Some(mut open) = self.open.take() else {
            self.kept.snapshot(None);
            return Ok(Vec::new());
        };
        let hidden = self.layout.hidden();
        let durable = open
            .flush()
            .and_then(|()| open.file.sync_all())
            .and_then(|()| File::open(hidden)?.sync_all());
        durable.map_err(|error| access(&self.sink, "write", &open.path, &error))?;
        fail::fail_point!("files-sink::prepared", |_| std::process::abort());
        let prepared = Prepared {
            temporary: open.id.temporary_name(),
            visible: self.layout.visible_name(open.id),
            length: open.length,
            crc32c: open.crc32c,
        };
        self.kept.snapshot(Some(prepared.temporary.clone()));
        let transaction = serde_json::to_string(&prepared).map_err(|error| {
            let message = format!("sink `{}`: a file cannot be described: {error}", self.sink);
            Failure::new(ErrorCode::FileAccess, ErrorKind::Internal, message)
        })?;
        Ok(vec![Committable {
            checkpoint,
            transaction: Opaque(transaction),
            records: open.records,
        }])
    }
}

const TAKEN: &str = "a file of this name is there already, although this attempt of the job has \
    just begun: another job, or this one with another checkpoint storage, has written here. Use \
    another directory, or move its files away";

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<u64> {
        if batch.rows() == 0 {
            return Ok(0);
        }
        self.once(|writer| writer.write_rows(batch))?;
        Ok(u64::try_from(batch.rows()).unwrap_or(u64::MAX))
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<Committable>> {
        self.once(|writer| writer.prepare_open(checkpoint))
    }

    fn committed(&mut self, committables: &[Committable]) {
        let names = committables
            .iter()
            .filter_map(|one| serde_json::from_str::<Prepared>(&one.transaction.0).ok());
        let names: Vec<String> = names.map(|prepared| prepared.temporary).collect();
        for freed in self.kept.committed(&names) {
            let Some(name) = committed_name(&freed) else {
                continue;
            };
            let path = self.layout.hidden().join(name);
            // It takes room until a later attempt removes it.
            if let Err(error) = remove_if_there(&path) {
                tracing::warn!(sink = self.sink, path = %path.display(), %error, "not removed");
            }
        }
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Open {
    fn push(&mut self, rows: &EncodedRows) -> io::Result<()> {
        for row in rows.iter() {
            self.buffer.extend_from_slice(row);
            self.buffer.push(b'\n');
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
        }
        self.records += as_u64(rows.len());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &self.buffer);
        self.length += as_u64(self.buffer.len());
        self.buffer.clear();
        Ok(())
    }

    /// Bytes that were pushed.
    fn written(&self) -> u64 {
        self.length + as_u64(self.buffer.len())
    }
}

/// A text with a newline would be read back as two.
fn one_line_each(sink: &str, rows: &EncodedRows) -> Result<()> {
    if memchr::memchr(b'\n', rows.bytes()).is_none() {
        return Ok(());
    }
    let message = format!(
        "sink `{sink}`: a value contains a newline, which format raw cannot write into lines; \
         replace it in SQL, or use format json"
    );
    Err(Failure::new(
        ErrorCode::ExpressionFailed,
        ErrorKind::InvalidJob,
        message,
    ))
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
