//! Rows of state on standard output.

use std::io::{self, BufWriter, ErrorKind as IoErrorKind, Stdout, Write};

use arrow_array::RecordBatch;
use arrow_ipc::writer::FileWriter;
use arrow_schema::ArrowError;
use millstream_formats::JsonEncoder;
use millstream_state::reader::{Contents, is_time_of_change};
use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::cli::StateFormat;

/// Whether there is still somebody who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Done,
    /// As `head` does when it has seen enough.
    NobodyReads,
}

/// Writes rows in one of the formats.
pub(super) enum Writer<W: Write = BufWriter<Stdout>> {
    Json(W),
    /// Made with the columns of the first rows.
    Arrow(Option<W>, Option<Box<FileWriter<W>>>),
}

impl Writer {
    pub(super) fn new(format: StateFormat) -> Self {
        Self::to(format, BufWriter::new(io::stdout()))
    }
}

impl<W: Write> Writer<W> {
    pub(super) fn to(format: StateFormat, out: W) -> Self {
        match format {
            StateFormat::Json => Self::Json(out),
            StateFormat::Arrow => Self::Arrow(Some(out), None),
        }
    }

    /// Writes the rows of a state.
    ///
    /// # Errors
    /// They cannot be written in this format, or not to where they go.
    pub(super) fn write(&mut self, state: &str, contents: &Contents) -> Result<Written, Failure> {
        match self {
            Self::Json(out) => {
                let lines = json(state, contents)?;
                told(out.write_all(&lines).map_err(ArrowError::from))
            }
            Self::Arrow(out, writer) => {
                if let Some(out) = out.take() {
                    let begun = FileWriter::try_new(out, contents.rows.schema_ref());
                    match begun {
                        Ok(begun) => *writer = Some(Box::new(begun)),
                        Err(error) => return told(Err(error)),
                    }
                }
                let Some(writer) = writer else {
                    return Ok(Written::NobodyReads);
                };
                told(writer.write(&contents.rows))
            }
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(super) fn finish(self) -> Result<Written, Failure> {
        match self {
            Self::Json(mut out) => told(out.flush().map_err(ArrowError::from)),
            Self::Arrow(_, Some(mut writer)) => {
                let finished = writer.finish();
                told(finished.and_then(|()| writer.get_mut().flush().map_err(ArrowError::from)))
            }
            // No run says which columns there are.
            Self::Arrow(..) => Ok(Written::Done),
        }
    }
}

fn told(result: Result<(), ArrowError>) -> Result<Written, Failure> {
    match result {
        Ok(()) => Ok(Written::Done),
        Err(ArrowError::IoError(_, error)) if error.kind() == IoErrorKind::BrokenPipe => {
            Ok(Written::NobodyReads)
        }
        Err(error) => Err(Failure::new(
            ErrorCode::OperatingSystem,
            ErrorKind::Internal,
            format!("the state cannot be written to standard output: {error}"),
        )),
    }
}

/// One line for each row: `{"state":…,"key":{…},"value":{…}}`.
fn json(state: &str, contents: &Contents) -> Result<Vec<u8>, Failure> {
    let rows = &contents.rows;
    let all = rows.num_columns();
    let times = rows.schema_ref().fields().iter();
    let is_time = times.map(|field| is_time_of_change(field.name()));
    let is_time: Vec<bool> = is_time.collect();
    let columns = |wanted: &dyn Fn(usize) -> bool| -> Result<RecordBatch, Failure> {
        let columns: Vec<usize> = (0..all).filter(|column| wanted(*column)).collect();
        rows.project(&columns).map_err(|error| unwritable(&error))
    };
    let time = |column: usize| is_time.get(column).copied().unwrap_or(false);
    let keys = columns(&|column| column < contents.key)?;
    let values = columns(&|column| column >= contents.key && !time(column))?;
    let changed = columns(&time)?;
    let mut parts = Vec::new();
    for part in [&keys, &values, &changed] {
        let encoder = JsonEncoder::new(&part.schema());
        parts.push(encoder.map_err(|error| unwritable(&error))?);
    }
    let mut encoded = Vec::new();
    for (encoder, part) in parts.iter_mut().zip([&keys, &values, &changed]) {
        encoded.push(encoder.encode(part).map_err(|error| unwritable(&error))?);
    }
    let name = serde_json::to_string(state).map_err(|error| unwritable(&error))?;
    let mut lines = Vec::new();
    for row in 0..rows.num_rows() {
        let mut texts = encoded.iter().map(|rows| rows.row(row));
        lines.extend_from_slice(b"{\"state\":");
        lines.extend_from_slice(name.as_bytes());
        for (field, text) in ["key", "value", "changed"].iter().zip(&mut texts) {
            if *field == "changed" && changed.num_columns() == 0 {
                continue;
            }
            lines.extend_from_slice(format!(",\"{field}\":").as_bytes());
            lines.extend_from_slice(text);
        }
        lines.extend_from_slice(b"}\n");
    }
    Ok(lines)
}

fn unwritable(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ErrorCode::OperatingSystem,
        ErrorKind::Internal,
        format!("the state cannot be written as JSON: {error}; `--format arrow` writes every type"),
    )
}
