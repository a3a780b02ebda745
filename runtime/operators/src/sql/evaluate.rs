//! One expression meets records.

use std::ops::Range;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Decimal128Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::DataType;
use arrow_select::concat::concat;
use datafusion_common::{DataFusionError, Result as DataFusionResult};
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;
use millstream_types::schema::in_column_types;
use millstream_types::{ErrorCode, ErrorKind, Failure};

use super::Expression;
use crate::Result;
use crate::shown::shown;

/// Most digits that a decimal has. Arithmetic may give more without noticing.
const MAX_DIGITS: u8 = 38;
/// Most characters of an expression that a message shows.
const SHOWN_EXPRESSION: usize = 300;

/// An expression and what to call it in a message.
#[derive(Debug)]
pub(super) struct Evaluator {
    expression: Expression,
    subject: String,
    data_type: DataType,
}

impl Evaluator {
    pub(super) fn new(expression: Expression, subject: String, data_type: DataType) -> Self {
        Self {
            expression,
            subject,
            data_type,
        }
    }

    /// The value for every record; nothing if it fails for one or more of them, which need not
    /// mean that it fails for any of them alone.
    pub(super) fn try_array(&self, records: &RecordBatch) -> Option<ArrayRef> {
        self.evaluate(records).ok()
    }

    /// The value for every record.
    ///
    /// # Errors
    /// It fails for a record; the message has the first one's values.
    pub(super) fn array(&self, records: &RecordBatch) -> Result<ArrayRef> {
        match self.evaluate(records) {
            Ok(array) => Ok(array),
            Err(_) => self.piecewise(records),
        }
    }

    fn evaluate(&self, records: &RecordBatch) -> DataFusionResult<ArrayRef> {
        let value = self.expression.compute.evaluate(records)?;
        let array = value.into_array(records.num_rows())?;
        if matches!(self.data_type, DataType::Decimal128(MAX_DIGITS, _))
            && let Some(decimals) = array.as_primitive_opt::<Decimal128Type>()
        {
            decimals.validate_decimal_precision(MAX_DIGITS)?;
        }
        Ok(array)
    }

    /// Halves the records until every piece succeeds or a single record fails.
    fn piecewise(&self, records: &RecordBatch) -> Result<ArrayRef> {
        let mut pieces: Vec<ArrayRef> = Vec::new();
        let everything = 0..records.num_rows();
        let mut todo: Vec<Range<usize>> = vec![everything];
        while let Some(range) = todo.pop() {
            match self.evaluate(&records.slice(range.start, range.len())) {
                Ok(array) => pieces.push(array),
                Err(error) if range.len() <= 1 => {
                    return Err(self.failure(&error, records, range.start));
                }
                Err(_) => {
                    let middle = range.start + range.len() / 2;
                    todo.push(middle..range.end);
                    todo.push(range.start..middle);
                }
            }
        }
        let pieces: Vec<_> = pieces.iter().map(AsRef::as_ref).collect();
        concat(&pieces).map_err(|error| self.failure(&error.into(), records, 0))
    }

    fn failure(&self, error: &DataFusionError, records: &RecordBatch, row: usize) -> Failure {
        let message = format!(
            "{}: `{}` failed: {}; {}",
            self.subject,
            shortened(&self.expression.text),
            reason(error),
            self.values(records, row),
        );
        Failure::new(ErrorCode::ExpressionFailed, ErrorKind::InvalidJob, message)
    }

    /// The values of the columns that the expression reads.
    fn values(&self, records: &RecordBatch, row: usize) -> String {
        let mut columns: Vec<_> = collect_columns(&self.expression.compute)
            .into_iter()
            .collect();
        columns.sort_by_key(Column::index);
        let values: Vec<String> = columns
            .iter()
            .filter_map(|column| {
                let array = records.columns().get(column.index())?;
                Some(format!("{} = {}", column.name(), shown(array, row)))
            })
            .collect();
        if values.is_empty() {
            "it reads no column".to_owned()
        } else {
            format!("the first such record has {}", values.join(", "))
        }
    }
}

/// What an error says, without the words of its layers.
fn reason(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        other => other.message().into_owned(),
    };
    let text = in_column_types(text.lines().next().unwrap_or_default());
    if let Some((_, operation)) = text.split_once(": Overflow happened on: ") {
        return format!("the result of {operation} does not fit");
    }
    if text.ends_with("Divide by zero error") {
        return "division by zero".to_owned();
    }
    // Arrow begins with the kind of its error.
    let told = [
        "Cast error: ",
        "Compute error: ",
        "Invalid argument error: ",
    ];
    let told = told.into_iter().find_map(|kind| text.strip_prefix(kind));
    told.unwrap_or(&text).to_owned()
}

/// An expression as a message may show it: cut where it is long.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_EXPRESSION) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
