//! What messages say: which node, which call, which key.

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, FieldRef, Schema, SchemaRef};
use millstream_types::aggregate::Aggregation;
use millstream_types::{ErrorCode, ErrorKind, Failure, OperatorUid, keys};
use std::sync::Arc;

use super::accumulator::Fault;
use super::calls::Call;
use crate::Result;
use crate::shown::shown;

/// A node, and its key.
pub(super) struct Names {
    uid: OperatorUid,
    positions: Vec<usize>,
    fields: Vec<FieldRef>,
    /// Of the key's columns alone.
    schema: SchemaRef,
}

impl Names {
    pub(super) fn new(
        uid: OperatorUid,
        aggregation: &Aggregation,
        input: &SchemaRef,
    ) -> Result<Self> {
        let field = |position: &usize| {
            let field = input.fields().get(*position);
            let missing = || Fault::Internal(format!("there is no column {position}"));
            field
                .cloned()
                .ok_or_else(|| internal(&uid, None, &missing()))
        };
        let fields = aggregation.keys.iter().map(field);
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let nullable = fields.iter().map(|field| field.as_ref().clone());
        let nullable = nullable.map(|field| field.with_nullable(true));
        Ok(Self {
            positions: aggregation.keys.clone(),
            schema: Arc::new(Schema::new(nullable.collect::<Vec<Field>>())),
            fields,
            uid,
        })
    }

    /// The key's columns.
    pub(super) fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// The key's columns of a batch, and their hashes.
    pub(super) fn keys(
        &self,
        records: &RecordBatch,
        hashes: &mut Vec<u64>,
    ) -> Result<Vec<ArrayRef>> {
        keys::hash(records, &self.positions, hashes)
            .map_err(|error| self.internal(&Fault::Internal(error.to_string())))?;
        Ok(self.columns(records))
    }

    /// The key's columns of a batch.
    pub(super) fn columns(&self, records: &RecordBatch) -> Vec<ArrayRef> {
        let positions = self.positions.iter();
        let columns = positions.filter_map(|position| records.columns().get(*position));
        columns.cloned().collect()
    }

    /// The hashes of keys alone.
    pub(super) fn hash(
        &self,
        columns: &[ArrayRef],
        rows: usize,
        hashes: &mut Vec<u64>,
    ) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        let records = RecordBatch::try_new_with_options(schema, columns.to_vec(), &options);
        let records =
            records.map_err(|error| self.internal(&Fault::Internal(error.to_string())))?;
        let positions: Vec<usize> = (0..columns.len()).collect();
        keys::hash(&records, &positions, hashes)
            .map_err(|error| self.internal(&Fault::Internal(error.to_string())))
    }

    /// A break of what the plan has promised.
    pub(super) fn internal(&self, fault: &Fault) -> Failure {
        internal(&self.uid, None, fault)
    }

    /// A call has failed on one of the rows that have these keys.
    pub(super) fn failure(&self, fault: &Fault, call: Option<&Call>, keys: &[ArrayRef]) -> Failure {
        let text = call.map(|call| call.text.as_str());
        let Fault::At(row, why) = fault else {
            return internal(&self.uid, text, fault);
        };
        let values = self.fields.iter().zip(keys);
        let values: Vec<String> = values
            .map(|(field, column)| format!("{} = {}", field.name(), shown(column, *row)))
            .collect();
        let key = if values.is_empty() {
            String::new()
        } else {
            format!("; the key is {}", values.join(", "))
        };
        let (uid, text) = (&self.uid, text.unwrap_or_default());
        let message = format!("node `{uid}`: `{text}` failed: {why}{key}");
        Failure::new(ErrorCode::ExpressionFailed, ErrorKind::InvalidJob, message)
    }
}

fn internal(uid: &OperatorUid, call: Option<&str>, fault: &Fault) -> Failure {
    let why = match fault {
        Fault::Internal(why) => why.as_str(),
        Fault::At(_, why) => why,
        Fault::State(failure) => return failure.clone(),
    };
    let call = call.map(|text| format!(", `{text}`")).unwrap_or_default();
    let message = format!("node `{uid}`{call}: {why}; this is a bug, report it");
    Failure::new(ErrorCode::PlanMismatch, ErrorKind::Internal, message)
}
