//! The calls of an aggregation: which rows count for which, and what keeps their results.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    BinaryType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType, Utf8Type,
};
use arrow_array::{Array as _, ArrayRef, BooleanArray, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Schema, TimeUnit};
use millstream_types::Changelog;
use millstream_types::aggregate::{AggregateCall, AggregateFunction, AggregateStage, Aggregation};

use super::accumulator::{Accumulator, Cells, Fault, Input, Signs};
use super::exact::{Exact, ExactSum};
use super::float::{FloatSum, Retractable};
use super::kind::{Kind, Primitive, Text, Truth};
use super::number::{self, SumOfIntegers, Summed, Truths};
use super::value::{Extreme, Ordered, Place};

/// One call.
pub(super) struct Call {
    /// As the user has written it.
    pub(super) text: String,
    /// Position of the argument.
    pub(super) argument: Option<usize>,
    filter: Option<usize>,
    takes_nulls: bool,
    /// Which table knows how often each value is there, if it counts once only.
    pub(super) entries: Option<usize>,
}

/// A table of values that an aggregation needs: those of one argument, of rows that one filter keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntriesOf {
    pub(super) argument: usize,
    filter: Option<usize>,
}

/// What becomes of an [`Aggregation`].
pub(super) struct Made {
    pub(super) calls: Vec<Call>,
    pub(super) accumulators: Vec<Box<dyn Accumulator>>,
    pub(super) entries: Vec<EntriesOf>,
}

/// Makes the calls of an aggregation over an input.
pub(super) fn make(
    aggregation: &Aggregation,
    input: &Schema,
    output: &Schema,
) -> Result<Made, Fault> {
    check_changes(aggregation)?;
    let mut made = Made {
        calls: Vec::new(),
        accumulators: Vec::new(),
        entries: Vec::new(),
    };
    for (position, call) in aggregation.calls.iter().enumerate() {
        let refused = |why: &str| Fault::Internal(format!("`{}` {why}", call.text));
        let field = |position: usize| {
            let field = input.fields().get(position);
            field.ok_or_else(|| refused("is over a column that its input does not have"))
        };
        let argument = call.argument.map(field).transpose()?;
        let argument = argument.map(|field| field.data_type());
        let result = match aggregation.stage {
            AggregateStage::Partial => call.function.result_type(argument),
            _ => output
                .fields()
                .get(aggregation.keys.len() + position)
                .map(|field| field.data_type().clone()),
        };
        let result = result.ok_or_else(|| refused("has no result"))?;
        let retracts = aggregation.input.updates();
        let accumulator = accumulator(call.function, argument, &result, retracts);
        let accumulator =
            accumulator.ok_or_else(|| refused("cannot be computed over this input"))?;
        let entries = entries(call, retracts)?;
        if aggregation.stage != AggregateStage::Whole && (entries.is_some() || retracts) {
            return Err(refused("cannot be computed in parts"));
        }
        let entries = entries.map(|of| position_of(&mut made.entries, of));
        made.accumulators.push(accumulator);
        made.calls.push(Call {
            text: call.text.clone(),
            argument: call.argument,
            filter: call.filter,
            takes_nulls: matches!(
                call.function,
                AggregateFunction::FirstValue | AggregateFunction::LastValue
            ),
            entries,
        });
    }
    Ok(made)
}

/// Whether its output can be what is asked for.
fn check_changes(aggregation: &Aggregation) -> Result<(), Fault> {
    let stays = |call: &AggregateCall| {
        call.function == AggregateFunction::FirstValue && call.filter.is_none()
    };
    let appends = aggregation.stage == AggregateStage::Partial
        || !aggregation.input.updates() && aggregation.calls.iter().all(stays);
    if aggregation.input == Changelog::Upsert {
        let message = "rows before updates are missing in its input";
        return Err(Fault::Internal(message.to_owned()));
    }
    if aggregation.output == Changelog::Append && !appends {
        return Err(Fault::Internal("its results change".to_owned()));
    }
    Ok(())
}

fn position_of(all: &mut Vec<EntriesOf>, one: EntriesOf) -> usize {
    all.iter()
        .position(|other| *other == one)
        .unwrap_or_else(|| {
            all.push(one);
            all.len() - 1
        })
}

/// The values that a call needs to know by themselves.
fn entries(call: &AggregateCall, retracts: bool) -> Result<Option<EntriesOf>, Fault> {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    let needed = match call.function {
        Count | Sum | Avg => call.distinct,
        Min | Max => retracts,
        // Whether a value is there once or more often makes no difference.
        _ => false,
    };
    if !needed {
        return Ok(None);
    }
    let missing = || Fault::Internal(format!("`{}` has no argument", call.text));
    Ok(Some(EntriesOf {
        argument: call.argument.ok_or_else(missing)?,
        filter: call.filter,
    }))
}

/// Nothing if the function does not take the argument, or not from an input that takes rows back.
fn accumulator(
    function: AggregateFunction,
    argument: Option<&DataType>,
    result: &DataType,
    retracts: bool,
) -> Option<Box<dyn Accumulator>> {
    use AggregateFunction::{Avg, BoolAnd, BoolOr, Count, FirstValue, LastValue, Max, Min, Sum};
    Some(match function {
        Count => Cells::boxed(number::Count),
        Sum | Avg => return sum(function, argument?, result, retracts),
        BoolAnd | BoolOr => Cells::boxed(Truths {
            all: function == BoolAnd,
        }),
        Min | Max => {
            return of_values(
                argument?,
                Extremes {
                    greatest: function == Max,
                    retracts,
                },
            );
        }
        FirstValue | LastValue if retracts => return None,
        FirstValue | LastValue => {
            return of_values(
                argument?,
                Places {
                    last: function == LastValue,
                },
            );
        }
    })
}

/// For `sum` and `avg`.
fn sum(
    function: AggregateFunction,
    argument: &DataType,
    result: &DataType,
    retracts: bool,
) -> Option<Box<dyn Accumulator>> {
    let average = function == AggregateFunction::Avg;
    let exact = match (average, argument, result) {
        (_, DataType::Float64, DataType::Float64) if retracts => {
            return Some(Cells::boxed(FloatSum::<Retractable>::new(average)));
        }
        (_, DataType::Float64, DataType::Float64) => {
            return Some(Cells::boxed(FloatSum::<Summed<f64>>::new(average)));
        }
        (false, DataType::Int32 | DataType::Int64, DataType::Int64) => {
            return Some(Cells::boxed(SumOfIntegers));
        }
        (false, DataType::Decimal128(_, from), DataType::Decimal128(_, to)) if from == to => {
            Exact::Sum
        }
        (
            true,
            DataType::Int32 | DataType::Int64 | DataType::Decimal128(_, 0),
            DataType::Float64,
        ) => Exact::Average,
        (true, DataType::Decimal128(_, from), DataType::Decimal128(_, to)) => {
            Exact::DecimalAverage(u32::try_from(to.checked_sub(*from)?).ok()?)
        }
        _ => return None,
    };
    Some(Cells::boxed(ExactSum {
        sum: AggregateFunction::sum_for_avg(argument),
        result: result.clone(),
        exact,
    }))
}

/// What is made for a kind of values.
trait ForKind {
    fn make<K: Kind>(self, kind: K, data_type: DataType) -> Box<dyn Accumulator>;
}

struct Extremes {
    greatest: bool,
    retracts: bool,
}

impl ForKind for Extremes {
    fn make<K: Kind>(self, kind: K, data_type: DataType) -> Box<dyn Accumulator> {
        if self.retracts {
            Box::new(Ordered::new(kind, self.greatest))
        } else {
            Cells::boxed(Extreme::new(kind, data_type, self.greatest))
        }
    }
}

struct Places {
    last: bool,
}

impl ForKind for Places {
    fn make<K: Kind>(self, kind: K, data_type: DataType) -> Box<dyn Accumulator> {
        Cells::boxed(Place::new(kind, data_type, self.last))
    }
}

fn of_values(data_type: &DataType, of: impl ForKind) -> Option<Box<dyn Accumulator>> {
    let own = data_type.clone();
    Some(match data_type {
        DataType::Boolean => of.make(Truth, own),
        DataType::Int32 => of.make(Primitive::<Int32Type>::new(own.clone()), own),
        DataType::Int64 => of.make(Primitive::<Int64Type>::new(own.clone()), own),
        DataType::Float64 => of.make(Primitive::<Float64Type>::new(own.clone()), own),
        DataType::Decimal128(..) => of.make(Primitive::<Decimal128Type>::new(own.clone()), own),
        DataType::Date32 => of.make(Primitive::<Date32Type>::new(own.clone()), own),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            of.make(Primitive::<TimestampMicrosecondType>::new(own.clone()), own)
        }
        DataType::Utf8 => of.make(Text::<Utf8Type>::new(), own),
        DataType::Binary => of.make(Text::<BinaryType>::new(), own),
        _ => return None,
    })
}

impl EntriesOf {
    /// How often each row's value counts.
    pub(super) fn signs<'a>(
        self,
        records: &RecordBatch,
        changes: Option<&[i8]>,
        buffer: &'a mut Vec<i8>,
    ) -> Result<Signs<'a>, Fault> {
        let nulls = column(records, self.argument)?.nulls();
        signs(records, changes, self.filter, nulls, buffer)
    }
}

impl Call {
    /// The argument, and how often each row counts.
    pub(super) fn input<'a>(
        &self,
        records: &'a RecordBatch,
        changes: Option<&[i8]>,
        buffer: &'a mut Vec<i8>,
    ) -> Result<Input<'a>, Fault> {
        let argument = self.argument.map(|position| column(records, position));
        let argument = argument.transpose()?;
        let nulls = argument.filter(|_| !self.takes_nulls);
        let nulls = nulls.and_then(|argument| argument.nulls());
        Ok(Input {
            argument,
            signs: signs(records, changes, self.filter, nulls, buffer)?,
        })
    }

    /// The partial columns.
    pub(super) fn parts<'a>(
        &self,
        records: &'a RecordBatch,
        count: usize,
    ) -> Result<&'a [ArrayRef], Fault> {
        let parts = self
            .argument
            .and_then(|first| records.columns().get(first..first + count));
        parts.ok_or_else(|| Fault::Internal("partial columns are missing".to_owned()))
    }
}

/// A column of a batch.
pub(super) fn column(records: &RecordBatch, position: usize) -> Result<&ArrayRef, Fault> {
    let column = records.columns().get(position);
    column.ok_or_else(|| Fault::Internal(format!("there is no column {position}")))
}

fn signs<'a>(
    records: &RecordBatch,
    changes: Option<&[i8]>,
    filter: Option<usize>,
    nulls: Option<&NullBuffer>,
    buffer: &'a mut Vec<i8>,
) -> Result<Signs<'a>, Fault> {
    let filter = filter.map(|position| booleans(records, position));
    let filter = filter.transpose()?;
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    if changes.is_none() && filter.is_none() && nulls.is_none() {
        return Ok(Signs::All);
    }
    buffer.clear();
    match changes {
        Some(changes) => buffer.extend_from_slice(changes),
        None => buffer.resize(records.num_rows(), 1),
    }
    if let Some(filter) = filter {
        for (sign, keep) in buffer.iter_mut().zip(filter.values().iter()) {
            *sign *= i8::from(keep);
        }
    }
    let nulls = [nulls, filter.and_then(|filter| filter.nulls())];
    for nulls in nulls.into_iter().flatten() {
        for (sign, valid) in buffer.iter_mut().zip(nulls.iter()) {
            *sign *= i8::from(valid);
        }
    }
    Ok(Signs::Each(buffer))
}

fn booleans(records: &RecordBatch, position: usize) -> Result<&BooleanArray, Fault> {
    let column = column(records, position)?.as_boolean_opt();
    column.ok_or_else(|| Fault::column("booleans"))
}
