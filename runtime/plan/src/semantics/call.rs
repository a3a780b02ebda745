//! Functions of ours as physical expressions.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, DurationMicrosecondType, Float64Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, TimestampMicrosecondType,
};
use arrow_array::{
    Array as _, ArrayAccessor, ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, RecordBatch,
    StringArray, new_empty_array,
};
use arrow_schema::{DataType, Field, FieldRef, Schema};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;

/// Computes a column from columns.
pub(crate) type Kernel = Arc<dyn Fn(&Arguments) -> Result<ArrayRef> + Send + Sync>;

/// The columns that a kernel computes from.
#[derive(Debug)]
pub(crate) struct Arguments {
    columns: Vec<ArrayRef>,
    rows: usize,
}

/// One column, which may have one value for all rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<A> {
    array: A,
    is_single: bool,
}

impl<A: ArrayAccessor> Reader<A> {
    /// The value of a row.
    pub(crate) fn get(&self, row: usize) -> Option<A::Item> {
        let row = if self.is_single { 0 } else { row };
        self.array.is_valid(row).then(|| self.array.value(row))
    }
}

/// A column of texts.
pub(crate) type Texts<'a> = Reader<&'a StringArray>;
/// A column of numbers, times or spans.
pub(crate) type Numbers<'a, T> = Reader<&'a PrimitiveArray<T>>;

impl Arguments {
    /// Of columns with as many rows as there are, or with one.
    pub(crate) const fn new(columns: Vec<ArrayRef>, rows: usize) -> Self {
        Self { columns, rows }
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    /// A column as it is: with all rows, or with one.
    pub(crate) fn raw(&self, index: usize) -> Result<&ArrayRef> {
        self.columns.get(index).ok_or_else(|| missing(index))
    }

    /// A column with all rows.
    pub(crate) fn array(&self, index: usize) -> Result<ArrayRef> {
        let array = self.raw(index)?;
        if array.len() == self.rows {
            return Ok(Arc::clone(array));
        }
        ScalarValue::try_from_array(array, 0)?.to_array_of_size(self.rows)
    }

    fn reader<'a, A: ArrayAccessor>(
        &'a self,
        index: usize,
        typed: impl FnOnce(&'a ArrayRef) -> Option<A>,
    ) -> Result<Reader<A>> {
        let array = self.raw(index)?;
        let is_single = array.len() != self.rows || self.rows == 1;
        typed(array)
            .map(|array| Reader { array, is_single })
            .ok_or_else(|| missing(index))
    }

    pub(crate) fn texts(&self, index: usize) -> Result<Texts<'_>> {
        self.reader(index, |array| array.as_string_opt())
    }

    pub(crate) fn bytes(&self, index: usize) -> Result<Reader<&BinaryArray>> {
        self.reader(index, |array| array.as_binary_opt())
    }

    pub(crate) fn booleans(&self, index: usize) -> Result<Reader<&BooleanArray>> {
        self.reader(index, |array| array.as_boolean_opt())
    }

    pub(crate) fn numbers<T: ArrowPrimitiveType>(&self, index: usize) -> Result<Numbers<'_, T>> {
        self.reader(index, |array| array.as_primitive_opt())
    }

    pub(crate) fn int32s(&self, index: usize) -> Result<Numbers<'_, Int32Type>> {
        self.numbers(index)
    }

    pub(crate) fn int64s(&self, index: usize) -> Result<Numbers<'_, Int64Type>> {
        self.numbers(index)
    }

    pub(crate) fn floats(&self, index: usize) -> Result<Numbers<'_, Float64Type>> {
        self.numbers(index)
    }

    pub(crate) fn decimals(&self, index: usize) -> Result<Numbers<'_, Decimal128Type>> {
        self.numbers(index)
    }

    pub(crate) fn timestamps(&self, index: usize) -> Result<Numbers<'_, TimestampMicrosecondType>> {
        self.numbers(index)
    }

    pub(crate) fn dates(&self, index: usize) -> Result<Numbers<'_, Date32Type>> {
        self.numbers(index)
    }

    pub(crate) fn intervals(&self, index: usize) -> Result<Numbers<'_, IntervalMonthDayNanoType>> {
        self.numbers(index)
    }

    pub(crate) fn durations(&self, index: usize) -> Result<Numbers<'_, DurationMicrosecondType>> {
        self.numbers(index)
    }

    /// A column of what `row` gives for every row.
    pub(crate) fn each<V: Value>(
        &self,
        row: impl FnMut(usize) -> Result<Option<V>>,
    ) -> Result<ArrayRef> {
        (0..self.rows)
            .map(row)
            .collect::<Result<V::Array>>()
            .map(V::finish)
    }
}

/// What an argument of another type is: a break of what binding has promised.
fn missing(index: usize) -> DataFusionError {
    DataFusionError::Internal(format!("argument {index} is of another type"))
}

/// A value that a column can be collected from.
pub(crate) trait Value: Sized {
    type Array: FromIterator<Option<Self>>;
    fn finish(array: Self::Array) -> ArrayRef;
}

/// Days since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Days(pub(crate) i32);
/// Microseconds since 1970, UTC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instant(pub(crate) i64);
/// Microseconds since 1970 of a calendar and a clock somewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(pub(crate) i64);
/// Microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Micros(pub(crate) i64);

macro_rules! values {
    ($($value:ty => $array:ty, $finish:expr;)*) => {
        $(impl Value for $value {
            type Array = $array;
            fn finish(array: Self::Array) -> ArrayRef {
                let finish: fn($array) -> ArrayRef = $finish;
                finish(array)
            }
        })*
    };
}

values! {
    bool => BooleanArray, |array| Arc::new(array);
    i32 => PrimitiveArray<Int32Type>, |array| Arc::new(array);
    i64 => PrimitiveArray<Int64Type>, |array| Arc::new(array);
    f64 => PrimitiveArray<Float64Type>, |array| Arc::new(array);
    i128 => PrimitiveArray<Decimal128Type>, |array| Arc::new(array);
    String => StringArray, |array| Arc::new(array);
    Vec<u8> => BinaryArray, |array| Arc::new(array);
}

/// A column of plain numbers that is finished as another type.
macro_rules! wrapped {
    ($($value:ident, $inner:ty, $finish:expr;)*) => {
        $(impl Value for $value {
            type Array = Wrapped<$inner>;
            fn finish(array: Self::Array) -> ArrayRef {
                let finish: fn(PrimitiveArray<$inner>) -> ArrayRef = $finish;
                finish(array.0)
            }
        }
        impl FromIterator<Option<$value>> for Wrapped<$inner> {
            fn from_iter<I: IntoIterator<Item = Option<$value>>>(values: I) -> Self {
                Self(values.into_iter().map(|value| value.map(|value| value.0)).collect())
            }
        })*
    };
}

/// An array under construction.
#[derive(Debug)]
pub(crate) struct Wrapped<T: ArrowPrimitiveType>(PrimitiveArray<T>);

wrapped! {
    Days, Date32Type, |array| Arc::new(array);
    Micros, DurationMicrosecondType, |array| Arc::new(array);
    Clock, Int64Type, |array| Arc::new(array.reinterpret_cast::<TimestampMicrosecondType>());
    Instant, TimestampMicrosecondType, |array| Arc::new(array.with_timezone(millstream_types::schema::UTC));
    Span, IntervalMonthDayNanoType, |array| Arc::new(array);
}

/// Months, days and nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub(crate) arrow_array::types::IntervalMonthDayNano);

/// A function of ours and its arguments.
pub(crate) struct Call {
    /// With everything that its result depends on beside the arguments.
    name: String,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    output: (DataType, bool),
    kernel: Kernel,
}

impl Call {
    pub(crate) const fn new(
        name: String,
        arguments: Vec<Arc<dyn PhysicalExpr>>,
        output: (DataType, bool),
        kernel: Kernel,
    ) -> Self {
        Self {
            name,
            arguments,
            output,
            kernel,
        }
    }
}

impl PhysicalExpr for Call {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.output.0.clone())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(self.output.1)
    }

    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        let (data_type, nullable) = self.output.clone();
        Ok(Arc::new(Field::new(&self.name, data_type, nullable)))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(&self.output.0)));
        }
        let mut columns = Vec::with_capacity(self.arguments.len());
        let mut is_single = true;
        for argument in &self.arguments {
            columns.push(match argument.evaluate(batch)? {
                ColumnarValue::Scalar(value) => value.to_array()?,
                ColumnarValue::Array(array) => {
                    is_single = false;
                    array
                }
            });
        }
        let rows = if is_single { 1 } else { rows };
        let array = (self.kernel)(&Arguments::new(columns, rows))?;
        if is_single {
            ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar)
        } else {
            Ok(ColumnarValue::Array(array))
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.arguments.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self {
            name: self.name.clone(),
            arguments: children,
            output: self.output.clone(),
            kernel: Arc::clone(&self.kernel),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (index, argument) in self.arguments.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            argument.fmt_sql(f)?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (index, argument) in self.arguments.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            fmt::Display::fmt(argument, f)?;
        }
        write!(f, ") {}", self.output.0)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("name", &self.name)
            .field("arguments", &self.arguments)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.output == other.output && self.arguments == other.arguments
    }
}

impl Eq for Call {}

impl Hash for Call {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.output.hash(state);
        self.arguments.hash(state);
    }
}
