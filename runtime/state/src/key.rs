//! The keys of a table, by slot.

mod store;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, GenericByteArray, types::ByteArrayType};
use arrow_buffer::NullBuffer;
use arrow_row::Rows;
use arrow_schema::{DataType, TimeUnit};

pub(crate) use store::KeyStore;

/// Keys of a batch, in the form in which those of slots are kept.
pub(crate) enum Probe<'a> {
    /// There are no columns: all rows have one key.
    Single,
    /// Numbers of 64 bits.
    Borrowed(&'a [i64], Option<&'a NullBuffer>),
    /// Numbers that were widened.
    Owned(Vec<i64>, Option<NullBuffer>),
    /// Texts or bytes.
    Bytes {
        offsets: &'a [i32],
        data: &'a [u8],
        nulls: Option<&'a NullBuffer>,
    },
    /// Anything else, row by row.
    Rows(Rows),
}

/// How keys of a type are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Single,
    Integers,
    Bytes,
    Rows,
}

impl Form {
    fn of(types: &[&DataType]) -> Self {
        match types {
            [] => Self::Single,
            [
                DataType::Int64
                | DataType::Int32
                | DataType::Date32
                | DataType::Timestamp(TimeUnit::Microsecond, _),
            ] => Self::Integers,
            [DataType::Utf8 | DataType::Binary] => Self::Bytes,
            _ => Self::Rows,
        }
    }
}

/// The numbers of a column whose form is [`Form::Integers`].
fn integers(array: &ArrayRef) -> Option<Probe<'_>> {
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    let widened = |values: &[i32]| values.iter().map(|value| i64::from(*value)).collect();
    Some(match array.data_type() {
        DataType::Int64 => Probe::Borrowed(array.as_primitive::<Int64Type>().values(), nulls),
        DataType::Int32 => {
            let values = array.as_primitive::<Int32Type>().values();
            Probe::Owned(widened(values), nulls.cloned())
        }
        DataType::Date32 => {
            let values = array
                .as_primitive::<arrow_array::types::Date32Type>()
                .values();
            Probe::Owned(widened(values), nulls.cloned())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let times = array.as_primitive::<arrow_array::types::TimestampMicrosecondType>();
            Probe::Borrowed(times.values(), nulls)
        }
        _ => return None,
    })
}

fn bytes_of(array: &ArrayRef) -> Option<Probe<'_>> {
    match array.data_type() {
        DataType::Utf8 => Some(bytes(array.as_string::<i32>())),
        DataType::Binary => Some(bytes(array.as_binary::<i32>())),
        _ => None,
    }
}

fn bytes<T: ByteArrayType<Offset = i32>>(array: &GenericByteArray<T>) -> Probe<'_> {
    Probe::Bytes {
        offsets: array.value_offsets(),
        data: array.value_data(),
        nulls: array.nulls().filter(|nulls| nulls.null_count() > 0),
    }
}

/// The text of a row: nothing where the offsets are wrong, which no array has.
fn text<'a>(offsets: &[i32], data: &'a [u8], row: usize) -> &'a [u8] {
    let at = |row: usize| usize::try_from(offsets[row]).unwrap_or_default();
    &data[at(row)..at(row + 1)]
}

/// Values that SQL calls equal, as one: -0.0 is 0.0, and there is one NaN.
pub(crate) fn normalised(column: &ArrayRef) -> ArrayRef {
    if column.data_type() != &DataType::Float64 {
        return ArrayRef::clone(column);
    }
    let normal = |value: f64| {
        if value.is_nan() {
            f64::NAN
        } else {
            // -0.0 + 0.0 is 0.0.
            value + 0.0
        }
    };
    let floats = column.as_primitive::<Float64Type>();
    std::sync::Arc::new(floats.unary::<_, Float64Type>(normal))
}
