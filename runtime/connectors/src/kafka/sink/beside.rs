//! The columns that are written beside a record's key and value.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_schema::Schema;
use millstream_connect::Result;
use millstream_spec::{SinkMetadata, WritableMetadata};
use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::kafka::headers::{self, Header};

/// Where headers and timestamps come from.
#[derive(Debug, Clone, Default)]
pub(super) struct BesideColumns {
    sink: String,
    headers: Option<usize>,
    timestamp: Option<usize>,
}

/// What is written beside one record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Beside {
    pub(super) headers: Vec<Header>,
    /// Milliseconds since 1970; the time of writing if `None`.
    pub(super) timestamp_ms: Option<i64>,
}

impl Beside {
    /// Bytes of all headers.
    pub(super) fn bytes(&self) -> usize {
        self.headers.iter().map(Header::bytes).sum()
    }
}

impl BesideColumns {
    /// Finds the columns, which the plan has checked; `None` if there are none.
    ///
    /// # Errors
    /// One is not there.
    pub(super) fn new(
        sink: &str,
        metadata: &[SinkMetadata],
        schema: &Schema,
    ) -> Result<Option<Self>> {
        let mut columns = Self {
            sink: sink.to_owned(),
            ..Self::default()
        };
        for column in metadata {
            let index = schema.index_of(&column.name).map_err(|_| {
                let message = format!("sink `{sink}`: there is no column `{}`", column.name);
                Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message)
            })?;
            match column.to {
                WritableMetadata::Headers => columns.headers = Some(index),
                WritableMetadata::Timestamp => columns.timestamp = Some(index),
            }
        }
        Ok((!metadata.is_empty()).then_some(columns))
    }

    /// What stands beside each record of a batch.
    ///
    /// # Errors
    /// A text is not that of headers, or a timestamp does not lie behind the first millisecond of
    /// 1970: librdkafka takes 0 for now.
    pub(super) fn of(&self, batch: &RecordBatch) -> Result<Vec<Beside>> {
        let mut all = vec![Beside::default(); batch.num_rows()];
        if let Some(index) = self.headers {
            let texts = batch.column(index).as_string::<i32>();
            for (beside, text) in all.iter_mut().zip(texts) {
                let Some(text) = text else { continue };
                beside.headers = headers::read(text)
                    .map_err(|error| self.unfit(batch, index, &error.to_string()))?;
            }
        }
        if let Some(index) = self.timestamp {
            let times = batch
                .column(index)
                .as_primitive::<TimestampMicrosecondType>();
            for (beside, micros) in all.iter_mut().zip(times) {
                let millis = micros.map(|micros| micros.div_euclid(1_000));
                if millis.is_some_and(|millis| millis <= 0) {
                    let reason = "a timestamp is written from 1970-01-01T00:00:00.001Z on";
                    return Err(self.unfit(batch, index, reason));
                }
                beside.timestamp_ms = millis;
            }
        }
        Ok(all)
    }

    #[cold]
    fn unfit(&self, batch: &RecordBatch, column: usize, reason: &str) -> Failure {
        let schema = batch.schema_ref();
        let message = format!(
            "sink `{}`: a value of column `{}` cannot be written beside a record: {reason}; filter \
             or convert such values in SQL",
            self.sink,
            schema.field(column).name()
        );
        Failure::new(ErrorCode::ExpressionFailed, ErrorKind::InvalidJob, message)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, StringArray, TimestampMicrosecondArray};
    use millstream_types::schema::UTC;

    use super::*;

    fn batch(text: Option<&str>, micros: Option<i64>) -> RecordBatch {
        let headers: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let times = TimestampMicrosecondArray::from(vec![micros]).with_timezone(UTC);
        RecordBatch::try_from_iter([("h", headers), ("ts", Arc::new(times) as ArrayRef)]).unwrap()
    }

    fn of(batch: &RecordBatch) -> Result<Vec<Beside>> {
        let metadata = [
            ("h", WritableMetadata::Headers),
            ("ts", WritableMetadata::Timestamp),
        ]
        .map(|(name, to)| SinkMetadata {
            name: name.to_owned(),
            to,
        });
        let columns = BesideColumns::new("out", &metadata, &batch.schema())?;
        columns.map_or_else(|| Ok(Vec::new()), |columns| columns.of(batch))
    }

    #[test]
    fn headers_and_milliseconds_are_read_and_nulls_are_neither() {
        let all = of(&batch(Some(r#"{"a":"b"}"#), Some(1_999))).unwrap();
        assert_eq!(all[0].timestamp_ms, Some(1));
        assert_eq!(all[0].headers[0].name, "a");
        assert_eq!(of(&batch(None, None)).unwrap(), [Beside::default()]);
    }

    #[test]
    fn what_kafka_does_not_hold_is_refused_by_its_column() {
        for (batch, parts) in [
            (batch(Some("[1]"), None), ["`h`", "a JSON object"]),
            (batch(None, Some(-1)), ["`ts`", "from 1970"]),
            (batch(None, Some(999)), ["`ts`", "from 1970"]),
        ] {
            let failure = of(&batch).unwrap_err();
            assert_eq!(failure.code, ErrorCode::ExpressionFailed);
            for part in parts {
                assert!(failure.message.contains(part), "{failure}");
            }
        }
    }
}
