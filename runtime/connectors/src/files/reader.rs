//! Reads the files of a source, one after the other.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_schema::SchemaRef;
use millstream_connect::{Polled, Result, SourceReader};
use millstream_spec::ValidSource;
use millstream_types::batch::{MAX_BATCH_BYTES, MAX_BATCH_ROWS};
use millstream_types::snapshot::Counters;
use millstream_types::{ErrorCode, ErrorKind, Failure, SplitState};

use super::failure::{access, unusable};
use super::identity::Identity;
use super::lines::{Line, Lines, MAX_LINE_BYTES};
use super::listing::{Position, file_of};
use crate::decoding::{Beside, Place, RecordDecoder};

/// What files begin with that have no lines, and what they are.
const MAGIC: [(&[u8], &str); 4] = [
    (&[0x1f, 0x8b], "compressed with gzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "compressed with zstd"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PAR1", "a Parquet file"),
];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One file.
#[derive(Debug)]
struct Split {
    name: String,
    position: Position,
    records: u64,
    finished: bool,
    path: PathBuf,
    /// The file's path, as dead letters and messages have it.
    shown: String,
}

/// Decodes the lines of files.
#[derive(Debug)]
pub(super) struct Reader {
    node: String,
    path: PathBuf,
    decoder: RecordDecoder,
    splits: Vec<Split>,
    /// The split that is being read.
    open: Option<(usize, Lines)>,
}

impl Reader {
    /// # Errors
    /// The source's format cannot hold a column.
    pub(super) fn new(spec: &ValidSource, path: &Path, schema: &SchemaRef) -> Result<Self> {
        Ok(Self {
            node: spec.name.clone(),
            path: path.to_owned(),
            decoder: RecordDecoder::new(spec, schema)?,
            splits: Vec::new(),
            open: None,
        })
    }

    fn take_over(&self, split: SplitState) -> Result<Split> {
        let position = Position::read(&self.node, &split.position)?;
        let path = file_of(&self.node, &self.path, &split.split)?;
        if position.offset > position.file.length {
            let reason = "the checkpoint's position lies behind the file's end";
            return Err(unusable(&self.node, &path, reason));
        }
        let split = Split {
            name: split.split,
            position,
            records: split.records,
            finished: split.finished,
            shown: path.display().to_string(),
            path,
        };
        if !split.finished {
            self.open_unchanged(&split)?;
        }
        Ok(split)
    }

    /// Opens a split's file, if it is still the one that the job first saw.
    fn open_unchanged(&self, split: &Split) -> Result<File> {
        let failed = |error| access(&self.node, "read", &split.path, &error);
        let mut file = File::open(&split.path).map_err(failed)?;
        self.check_unchanged(split, &mut file)?;
        Ok(file)
    }

    fn check_unchanged(&self, split: &Split, file: &mut File) -> Result<()> {
        let now = Identity::of(file);
        let now = now.map_err(|error| access(&self.node, "read", &split.path, &error))?;
        match split.position.file.change(&now) {
            None => Ok(()),
            Some(change) => Err(changed(&self.node, &split.path, &change)),
        }
    }

    /// The split to read from, opened; `None` if all are finished.
    fn current(&mut self) -> Result<Option<usize>> {
        if let Some((index, _)) = &self.open {
            return Ok(Some(*index));
        }
        let Some(index) = self.splits.iter().position(|split| !split.finished) else {
            return Ok(None);
        };
        if let Some(split) = self.splits.get(index) {
            let file = self.open_unchanged(split)?;
            refuse_compressed(&self.node, &split.path, &file)?;
            let (offset, length) = (split.position.offset, split.position.file.length);
            let lines = Lines::new(file, offset, length);
            let lines = lines.map_err(|error| access(&self.node, "read", &split.path, &error))?;
            self.open = Some((index, lines));
        }
        Ok(Some(index))
    }

    /// Reads one line of the open split; returns its length, and `None` at the end of the file.
    fn read_line(&mut self) -> Result<Option<usize>> {
        let Some((index, lines)) = &mut self.open else {
            return Ok(None);
        };
        let Some(split) = self.splits.get_mut(*index) else {
            return Ok(None);
        };
        let line = lines.next();
        match line.map_err(|error| access(&self.node, "read", &split.path, &error))? {
            Line::Text(text, offset) => {
                let place = Place {
                    split: *index,
                    topic: &split.shown,
                    partition: 0,
                    offset: i64::try_from(offset).unwrap_or(i64::MAX),
                };
                let text_of_line = without_mark(text, offset);
                self.decoder
                    .push(Some(text_of_line), place, Beside::default())?;
                let length = text.len();
                split.position.offset = lines.offset();
                split.records += 1;
                Ok(Some(length))
            }
            Line::End => {
                split.finished = true;
                self.close()?;
                Ok(None)
            }
            Line::Truncated => Err(changed(&self.node, &split.path, "it has become shorter")),
            Line::TooLong(offset) => Err(too_long(&self.node, &split.path, offset)),
        }
    }

    /// Checks at the end of a file that nobody wrote to it meanwhile.
    fn close(&mut self) -> Result<()> {
        if let Some((index, lines)) = self.open.take()
            && let Some(split) = self.splits.get(index)
        {
            self.check_unchanged(split, &mut lines.into_file())?;
        }
        Ok(())
    }
}

impl SourceReader for Reader {
    fn add_splits(&mut self, splits: Vec<SplitState>) -> Result<()> {
        for split in splits {
            let split = self.take_over(split)?;
            self.splits.push(split);
        }
        Ok(())
    }

    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        if self.splits.is_empty() {
            crate::pause(timeout);
            return Ok(Polled::Nothing);
        }
        // Also bounded where every line is skipped, so that barriers are not kept waiting.
        let (mut lines, mut bytes) = (0, 0);
        let mut ended = false;
        while lines < MAX_BATCH_ROWS && bytes < MAX_BATCH_BYTES && !self.decoder.is_full() {
            if self.current()?.is_none() {
                ended = true;
                break;
            }
            if let Some(length) = self.read_line()? {
                lines += 1;
                bytes += length;
            }
        }
        match self.decoder.take()? {
            Some(output) => Ok(Polled::Records(output)),
            None if ended => Ok(Polled::End),
            None => Ok(Polled::Nothing),
        }
    }

    fn snapshot(&mut self) -> Vec<SplitState> {
        let state = |split: &Split| SplitState {
            split: split.name.clone(),
            position: split.position.to_opaque(),
            records: split.records,
            finished: split.finished,
        };
        self.splits.iter().map(state).collect()
    }

    fn counters(&self) -> Counters {
        self.decoder.counters()
    }
}

fn changed(node: &str, path: &Path, change: &str) -> Failure {
    let reason = format!(
        "the file has changed since the job first read it: {change}. Put the old file back; new \
         records belong into new files of a new job"
    );
    unusable(node, path, &reason)
}

/// Refuses what is no text, by its first bytes.
fn refuse_compressed(node: &str, path: &Path, file: &File) -> Result<()> {
    let mut first = [0; 4];
    let read = file.read_at(&mut first, 0);
    let read = read.map_err(|error| access(node, "read", path, &error))?;
    let known = MAGIC
        .iter()
        .find(|(magic, _)| first[..read].starts_with(magic));
    let Some((_, what)) = known else {
        return Ok(());
    };
    let reason = format!(
        "the file is {what}, and the files connector reads lines of text: put it there unpacked"
    );
    Err(unusable(node, path, &reason))
}

/// The first line of a file without the byte order mark that editors on Windows write.
fn without_mark(text: &[u8], offset: u64) -> &[u8] {
    let plain = text.strip_prefix(BYTE_ORDER_MARK);
    plain.filter(|_| offset == 0).unwrap_or(text)
}

fn too_long(node: &str, path: &Path, offset: u64) -> Failure {
    let message = format!(
        "`{node}`: {}: the line that begins at byte {offset} is longer than {} MiB",
        path.display(),
        MAX_LINE_BYTES / 1_024 / 1_024
    );
    Failure::new(ErrorCode::CorruptRecord, ErrorKind::CorruptData, message)
}
