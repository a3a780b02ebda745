//! A sink that prints rows to standard output; those of a stream that updates with what each does. At least once: a row is printed as soon as it
//! comes, and again after a restart that goes back behind it.

use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::UInt8Array;
use millstream_connect::{Result, SinkCommitter, SinkConnector, SinkWriter, WriterContext};
use millstream_formats::{EncodeError, EncodedRows, Encoder};
use millstream_spec::ValidSink;
use millstream_spec::connector::PrintSink;
use millstream_types::change::{Change, changes};
use millstream_types::{
    Batch, CheckpointId, Committable, ErrorCode, ErrorKind, Failure, JobId, OperatorUid,
};

use crate::encoding;

/// The `print` sink.
pub fn sink(spec: &Arc<ValidSink>, options: &PrintSink) -> Arc<dyn SinkConnector> {
    Arc::new(Print {
        spec: Arc::clone(spec),
        limit: options.limit,
    })
}

#[derive(Debug)]
struct Print {
    spec: Arc<ValidSink>,
    limit: Option<u64>,
}

impl SinkConnector for Print {
    fn writer(&self, cx: WriterContext) -> Result<Box<dyn SinkWriter>> {
        let encoder = encoding::encoder(&self.spec, &cx.columns())?;
        Ok(Box::new(PrintWriter {
            sink: self.spec.name.clone(),
            encoder,
            left: self.limit.unwrap_or(u64::MAX),
            bytes: 0,
            out: io::stdout(),
        }))
    }

    fn committer(&self, _: &JobId, _: &OperatorUid) -> Result<Option<Arc<dyn SinkCommitter>>> {
        Ok(None)
    }
}

/// Prints one line per row.
#[derive(Debug)]
struct PrintWriter<W> {
    sink: String,
    encoder: Encoder,
    /// Rows that may still be printed.
    left: u64,
    bytes: u64,
    out: W,
}

impl<W: Write + Send> SinkWriter for PrintWriter<W> {
    fn write(&mut self, batch: &Batch) -> Result<u64> {
        let records = batch.records();
        let changes = changes(records);
        let columns = match changes {
            None => Ok(records.clone()),
            Some(_) => records.project(&(0..records.num_columns() - 1).collect::<Vec<_>>()),
        };
        let columns = columns.map_err(|error| EncodeError::OtherSchema(error.to_string()));
        let rows = columns.and_then(|columns| self.encoder.encode(&columns));
        let rows = rows.map_err(|error| encoding::failed(&self.sink, &error))?;
        let rows_to_print =
            usize::try_from(self.left).map_or(rows.len(), |left| left.min(rows.len()));
        // One call per batch, so that the lines of several subtasks do not run into each other.
        let text = lines(rows, changes, rows_to_print);
        let printed = self.out.write_all(&text).and_then(|()| self.out.flush());
        printed.map_err(|error| {
            let message = format!("sink `{}`: standard output: {error}", self.sink);
            Failure::new(ErrorCode::FileAccess, ErrorKind::InvalidJob, message)
        })?;
        self.left -= u64::try_from(rows_to_print).unwrap_or(self.left);
        self.bytes += u64::try_from(text.len()).unwrap_or_default();
        Ok(u64::try_from(batch.rows()).unwrap_or(u64::MAX))
    }

    fn prepare(&mut self, _: CheckpointId) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The first rows, each with a newline, and before it what it does if it has that.
fn lines(rows: &EncodedRows, changes: Option<&UInt8Array>, count: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(rows.bytes().len() + count * 4);
    for (index, row) in rows.iter().take(count).enumerate() {
        let change = changes.and_then(|changes| Change::of(changes.value(index)));
        if let Some(change) = change {
            text.extend_from_slice(change.symbol().as_bytes());
            text.push(b' ');
        }
        text.extend_from_slice(row);
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    use millstream_formats::JsonEncoder;
    use millstream_types::change::with_changes;

    use super::*;

    fn batch(values: &[i64]) -> Batch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("id", column)]).unwrap().into()
    }

    fn writer<W>(limit: u64, out: W) -> PrintWriter<W> {
        PrintWriter {
            sink: "out".to_owned(),
            encoder: JsonEncoder::new(&batch(&[]).schema()).unwrap().into(),
            left: limit,
            bytes: 0,
            out,
        }
    }

    #[test]
    fn each_row_is_a_line_up_to_the_limit() {
        let mut writer = writer(3, Vec::new());
        assert_eq!(writer.write(&batch(&[1, 2])), Ok(2));
        writer.write(&batch(&[3, 4])).unwrap();
        writer.write(&batch(&[5])).unwrap();
        assert_eq!(writer.out, b"{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n");
        assert_eq!(writer.bytes(), 27);
        assert_eq!(writer.prepare(CheckpointId(1)).unwrap(), []);
    }

    #[test]
    fn rows_that_update_say_what_they_do() {
        let rows = batch(&[1, 1, 2, 3]);
        let ops: ArrayRef = Arc::new(UInt8Array::from(vec![1, 2, 0, 3]));
        let columns = vec![Arc::clone(rows.records().column(0)), ops];
        let schema = with_changes(&rows.schema());
        let updates = RecordBatch::try_new(schema, columns).unwrap();
        let mut writer = writer(100, Vec::new());
        assert_eq!(writer.write(&updates.into()), Ok(4));
        let expected = "-U {\"id\":1}\n+U {\"id\":1}\n+I {\"id\":2}\n-D {\"id\":3}\n";
        assert_eq!(String::from_utf8(writer.out).unwrap(), expected);
    }

    #[test]
    fn a_closed_output_fails_the_job() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let failure = writer(3, Closed).write(&batch(&[1])).unwrap_err();
        assert_eq!(failure.code, ErrorCode::FileAccess);
        assert!(failure.message.contains("standard output"), "{failure}");
    }
}
