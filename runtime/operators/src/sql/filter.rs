//! Which records are kept.

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{ArrowError, DataType};
use arrow_select::filter::{FilterBuilder, prep_null_mask_filter};
use millstream_types::{ErrorCode, ErrorKind, Failure};

use super::Expression;
use super::evaluate::Evaluator;
use crate::Result;

/// When fewer than one in this many records are left, the next condition looks only at those.
const SPARSE: usize = 5;

/// Conditions that must all be true, checked from left to right.
///
/// On a record that one condition refuses, the later ones cannot fail.
#[derive(Debug)]
pub(super) struct Filter {
    conditions: Vec<Evaluator>,
}

impl Filter {
    pub(super) fn new(conditions: Vec<Expression>, subject: &str) -> Self {
        let evaluator =
            |condition| Evaluator::new(condition, subject.to_owned(), DataType::Boolean);
        Self {
            conditions: conditions.into_iter().map(evaluator).collect(),
        }
    }

    /// The records that all conditions are true for, with the columns `kept` of the input;
    /// nothing if there are none.
    pub(super) fn apply(&self, input: &RecordBatch, kept: &[usize]) -> Result<Option<RecordBatch>> {
        let mut candidates = Candidates {
            records: input.clone(),
            mask: None,
        };
        for condition in &self.conditions {
            if candidates.count() == 0 {
                return Ok(None);
            }
            candidates.check(condition)?;
        }
        if candidates.count() == 0 {
            return Ok(None);
        }
        candidates
            .take(kept)
            .map(Some)
            .map_err(|error| internal(&error))
    }
}

/// Records that may be kept, and which of them still are; all if there is no mask. The mask has no
/// nulls.
struct Candidates {
    records: RecordBatch,
    mask: Option<BooleanArray>,
}

impl Candidates {
    fn count(&self) -> usize {
        self.mask
            .as_ref()
            .map_or_else(|| self.records.num_rows(), BooleanArray::true_count)
    }

    /// Keeps those for which the condition is true.
    fn check(&mut self, condition: &Evaluator) -> Result<()> {
        let dense = self.count() * SPARSE > self.records.num_rows();
        let whole = if dense {
            condition.try_array(&self.records)
        } else {
            None
        };
        let found = if let Some(found) = whole {
            found
        } else {
            if let Some(mask) = self.mask.take() {
                self.records = select(&self.records, &mask).map_err(|error| internal(&error))?;
            }
            condition.array(&self.records)?
        };
        let found = definite(&found)?;
        self.mask = Some(match self.mask.take() {
            Some(mask) => BooleanArray::new(mask.values() & found.values(), None),
            None => found,
        });
        Ok(())
    }

    /// The columns `kept` of the records that are left.
    fn take(self, kept: &[usize]) -> std::result::Result<RecordBatch, ArrowError> {
        let records = if kept.len() == self.records.num_columns() {
            self.records
        } else {
            self.records.project(kept)?
        };
        match self.mask {
            Some(mask) if mask.true_count() < mask.len() => select(&records, &mask),
            _ => Ok(records),
        }
    }
}

/// Whether a condition is true; what is null is not.
fn definite(found: &ArrayRef) -> Result<BooleanArray> {
    let found = found.as_boolean_opt().ok_or_else(|| {
        internal(&ArrowError::CastError(format!(
            "a condition is {}, not boolean",
            found.data_type()
        )))
    })?;
    Ok(if found.null_count() > 0 {
        prep_null_mask_filter(found)
    } else {
        found.clone()
    })
}

fn select(
    records: &RecordBatch,
    mask: &BooleanArray,
) -> std::result::Result<RecordBatch, ArrowError> {
    FilterBuilder::new(mask)
        .optimize()
        .build()
        .filter_record_batch(records)
}

fn internal(error: &ArrowError) -> Failure {
    Failure::new(
        ErrorCode::ExpressionFailed,
        ErrorKind::Internal,
        format!("cannot filter: {error}"),
    )
}
