//! Orders as columns.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, Decimal128Array, Int64Array, RecordBatch, RecordBatchOptions,
    TimestampMicrosecondArray,
};
use arrow_schema::{ArrowError, SchemaRef};
use millstream_connect::Result;
use millstream_spec::connector::GeneratorSource;
use millstream_types::schema::UTC;
use millstream_types::{ErrorCode, ErrorKind, Failure};

/// When the first order is made: 2026-01-01T00:00:00Z, microseconds since 1970. Each further one
/// comes a millisecond later.
const FIRST_MICROS: i64 = 1_767_225_600_000_000;
const STEP_MICROS: i64 = 1_000;

/// Largest price in cents.
const MAX_CENTS: u64 = 100_000;
/// Largest quantity of a valid order.
const MAX_QUANTITY: u64 = 9;

/// A column of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    OrderId,
    CustomerId,
    Quantity,
    Price,
    Time,
}

/// Makes the columns of a schema for any indices.
#[derive(Debug)]
pub(super) struct Orders {
    seed: u64,
    customers: u64,
    invalid_ratio: f64,
    fields: Vec<Field>,
    schema: SchemaRef,
}

/// What is drawn for an order, each from numbers of its own.
#[derive(Debug, Clone, Copy)]
enum Draw {
    Customer = 1,
    Quantity = 2,
    Price = 3,
    Invalid = 4,
}

impl Orders {
    /// # Errors
    /// The schema has a column that orders do not have.
    pub(super) fn new(name: &str, options: &GeneratorSource, schema: &SchemaRef) -> Result<Self> {
        let columns = GeneratorSource::columns();
        let fields = schema.fields().iter().map(|field| {
            let same = columns.iter().find(|column| {
                column.name == *field.name() && column.column_type.arrow() == *field.data_type()
            });
            match same.map(|column| column.name.as_str()) {
                Some("order_id") => Ok(Field::OrderId),
                Some("customer_id") => Ok(Field::CustomerId),
                Some("quantity") => Ok(Field::Quantity),
                Some("price") => Ok(Field::Price),
                Some("ts") => Ok(Field::Time),
                _ => Err(Failure::new(
                    ErrorCode::InvalidJob,
                    ErrorKind::InvalidJob,
                    format!(
                        "source `{name}`: the generator has no column `{}` of type {}",
                        field.name(),
                        field.data_type()
                    ),
                )),
            }
        });
        Ok(Self {
            seed: options.seed,
            customers: options.customers.max(1),
            invalid_ratio: options.invalid_ratio,
            fields: fields.collect::<Result<_>>()?,
            schema: Arc::clone(schema),
        })
    }

    /// `rows` orders from index `first` on, `step` indices apart.
    ///
    /// # Errors
    /// Arrow refuses the columns: a bug.
    pub(super) fn batch(&self, first: u64, step: u64, rows: usize) -> Result<RecordBatch> {
        let indices = || {
            let next = move |index: &u64| Some(index.saturating_add(step));
            std::iter::successors(Some(first), next).take(rows)
        };
        let columns = self
            .fields
            .iter()
            .map(|field| self.column(*field, indices()));
        let columns: std::result::Result<Vec<ArrayRef>, ArrowError> = columns.collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        columns
            .and_then(|columns| {
                RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            })
            .map_err(|error| {
                let message = format!("generated columns do not fit their schema: {error}");
                Failure::new(ErrorCode::CorruptRecord, ErrorKind::Internal, message)
            })
    }

    fn column(
        &self,
        field: Field,
        indices: impl Iterator<Item = u64>,
    ) -> std::result::Result<ArrayRef, ArrowError> {
        Ok(match field {
            Field::OrderId => names::<12>(b'o', indices),
            Field::CustomerId => names::<6>(b'c', indices.map(|index| self.customer(index))),
            Field::Quantity => {
                let values = indices.map(|index| self.quantity(index));
                Arc::new(Int64Array::from_iter_values(values))
            }
            Field::Price => {
                let cents = indices.map(|index| self.cents(index));
                let array = Decimal128Array::from_iter_values(cents.map(i128::from));
                Arc::new(array.with_precision_and_scale(12, 2)?)
            }
            Field::Time => {
                let values = TimestampMicrosecondArray::from_iter_values(indices.map(micros));
                Arc::new(values.with_timezone(UTC))
            }
        })
    }

    fn customer(&self, index: u64) -> u64 {
        self.draw(index, Draw::Customer) % self.customers
    }

    /// 1 to 9, or, in an invalid order, 0 to −2.
    fn quantity(&self, index: u64) -> i64 {
        let draw = self.draw(index, Draw::Quantity);
        if self.is_invalid(index) {
            -small(draw % 3)
        } else {
            1 + small(draw % MAX_QUANTITY)
        }
    }

    fn is_invalid(&self, index: u64) -> bool {
        // The upper 53 bits, which a double holds exactly: from 0 to below 1.
        let draw = (self.draw(index, Draw::Invalid) >> 11) as f64 / (1_u64 << 53) as f64;
        draw < self.invalid_ratio
    }

    fn cents(&self, index: u64) -> i64 {
        1 + small(self.draw(index, Draw::Price) % MAX_CENTS)
    }

    fn draw(&self, index: u64, draw: Draw) -> u64 {
        let stream = mix(self.seed ^ (draw as u64) << 56);
        mix(stream.wrapping_add(index))
    }
}

/// When an order was made. Indices end, at 10^12 orders, long before the calendar.
fn micros(index: u64) -> i64 {
    let index = i64::try_from(index).unwrap_or(i64::MAX);
    FIRST_MICROS.saturating_add(index.saturating_mul(STEP_MICROS))
}

/// A number that is known to be small.
fn small(number: u64) -> i64 {
    i64::try_from(number).unwrap_or_default()
}

/// The finalizer of splitmix64. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014.
const fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Texts of a letter, `-` and a number of at least `WIDTH` digits.
fn names<const WIDTH: usize>(letter: u8, numbers: impl Iterator<Item = u64>) -> ArrayRef {
    let (rows, _) = numbers.size_hint();
    let mut names = StringBuilder::with_capacity(rows, rows * (WIDTH + 2));
    let mut name = String::new();
    for number in numbers {
        name.clear();
        name.push(char::from(letter));
        name.push('-');
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number);
        name.extend(std::iter::repeat_n('0', WIDTH.saturating_sub(digits.len())));
        name.push_str(digits);
        names.append_value(&name);
    }
    Arc::new(names.finish())
}
