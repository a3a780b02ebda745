//! Sums and averages of `float64`. They round, so that a row is taken back up to a rounding error.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Float64Type;
use arrow_array::{ArrayRef, Float64Array, Int64Array};
use arrow_schema::{DataType, Field};
use millstream_state::Slot;

use super::accumulator::{Fault, Function, Input, combine};
use super::kind::Number;
use super::number::{Summed, argument, integers, number, summed};

/// `sum` and `avg` of `float64`. Where rows may be taken back, infinities and NaN are counted by themselves
/// ([`Retractable`]), as subtracting them from a sum does not undo them.
pub(super) struct FloatSum<C> {
    average: bool,
    of: std::marker::PhantomData<fn() -> C>,
}

impl<C> FloatSum<C> {
    pub(super) const fn new(average: bool) -> Self {
        Self {
            average,
            of: std::marker::PhantomData,
        }
    }
}

/// A sum of floats.
pub(super) trait Float: Copy + Default + Send + 'static {
    /// Names of the counters behind sum and count.
    const COUNTERS: &'static [&'static str];
    /// Takes a value in, or back.
    fn add(&mut self, value: f64, sign: i64);
    /// Adds another.
    fn combine(&mut self, other: Self);
    /// The sum of all, and of how many.
    fn total(self) -> Summed<f64>;
    /// What it is made of: the sum of what is finite, the count of all, and the counters.
    fn parts(self) -> (Summed<f64>, [i64; 3]);
    /// The reverse of [`parts`](Self::parts).
    fn of(sum: Summed<f64>, counters: [i64; 3]) -> Self;
}

impl Float for Summed<f64> {
    const COUNTERS: &'static [&'static str] = &[];

    fn add(&mut self, value: f64, sign: i64) {
        self.sum += value;
        self.count += sign;
    }

    fn combine(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    fn total(self) -> Self {
        self
    }

    fn parts(self) -> (Self, [i64; 3]) {
        (self, [0; 3])
    }

    fn of(sum: Self, _: [i64; 3]) -> Self {
        sum
    }
}

/// A sum from which values are subtracted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Retractable {
    finite: Summed<f64>,
    /// How many are NaN, infinite, and infinite below zero.
    others: [i64; 3],
}

impl Float for Retractable {
    const COUNTERS: &'static [&'static str] = &["nan", "infinite", "below"];

    fn add(&mut self, value: f64, sign: i64) {
        self.finite.count += sign;
        if value.is_finite() {
            self.finite.sum += if sign > 0 { value } else { -value };
        } else if value.is_nan() {
            self.others[0] += sign;
        } else {
            self.others[if value > 0.0 { 1 } else { 2 }] += sign;
        }
        if self.finite.count == 0 {
            // What rounding has left would stay for ever.
            self.finite.sum = 0.0;
        }
    }

    fn combine(&mut self, other: Self) {
        self.finite.combine(other.finite);
        for (one, other) in self.others.iter_mut().zip(other.others) {
            *one += other;
        }
    }

    fn total(self) -> Summed<f64> {
        let [nan, above, below] = self.others.map(|count| count != 0);
        let sum = match (nan, above, below) {
            (false, false, false) => self.finite.sum,
            (false, true, false) => f64::INFINITY,
            (false, false, true) => f64::NEG_INFINITY,
            _ => f64::NAN,
        };
        Summed {
            sum,
            count: self.finite.count,
        }
    }

    fn parts(self) -> (Summed<f64>, [i64; 3]) {
        (self.finite, self.others)
    }

    fn of(finite: Summed<f64>, others: [i64; 3]) -> Self {
        Self { finite, others }
    }
}

impl<C: Float> FloatSum<C> {
    fn result(&self, cell: C) -> Option<f64> {
        let Summed { sum, count } = cell.total();
        let result = if self.average {
            sum / count as f64
        } else {
            sum
        };
        (count != 0).then_some(result)
    }
}

impl<C: Float> Function for FloatSum<C> {
    type Cell = C;

    fn fields(&self) -> Vec<Field> {
        let mut fields = vec![Field::new("sum", DataType::Float64, false), number("count")];
        fields.extend(C::COUNTERS.iter().map(|name| number(name)));
        fields
    }

    fn update(&mut self, cells: &mut [C], slots: &[Slot], input: Input<'_>) -> Result<(), Fault> {
        let array = argument(input)?.as_primitive_opt::<Float64Type>();
        let values = array.ok_or_else(|| Fault::column("float64"))?.values();
        input.signs.rows(slots, |row, slot, sign| {
            cells[slot].add(values[row], sign);
            Ok(())
        })
    }

    fn merge(
        &mut self,
        cells: &mut [C],
        slots: &[Slot],
        columns: &[ArrayRef],
    ) -> Result<(), Fault> {
        let parts = self.cells(columns)?;
        combine(cells, slots, parts, |cell, other| {
            cell.combine(other);
            Ok(())
        })
    }

    fn columns(&self, cells: &[C]) -> Vec<ArrayRef> {
        let parts: Vec<_> = cells.iter().map(|cell| cell.parts()).collect();
        let sums = Float64Array::from_iter_values(parts.iter().map(|(sum, _)| sum.sum));
        let counts = Int64Array::from_iter_values(parts.iter().map(|(sum, _)| sum.count));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(sums), Arc::new(counts)];
        for counter in 0..C::COUNTERS.len() {
            let counts = parts.iter().map(|(_, counters)| counters[counter]);
            columns.push(Arc::new(Int64Array::from_iter_values(counts)));
        }
        columns
    }

    fn cells(&self, columns: &[ArrayRef]) -> Result<Vec<C>, Fault> {
        let sums = columns
            .first()
            .and_then(|column| column.as_primitive_opt::<Float64Type>())
            .ok_or_else(|| Fault::column("float64"))?;
        let sums = summed(sums.values(), integers(columns, 1)?);
        let mut others = vec![[0; 3]; sums.len()];
        for counter in 0..C::COUNTERS.len() {
            for (other, count) in others.iter_mut().zip(integers(columns, 2 + counter)?) {
                other[counter] = *count;
            }
        }
        let pairs = sums.into_iter().zip(others);
        Ok(pairs.map(|(sum, others)| C::of(sum, others)).collect())
    }

    fn same(&self, one: &C, other: &C) -> bool {
        match (self.result(*one), self.result(*other)) {
            (Some(one), Some(other)) => Number::same(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    fn results(&self, cells: &[C]) -> Result<ArrayRef, Fault> {
        let results = cells.iter().map(|cell| self.result(*cell));
        Ok(Arc::new(results.collect::<Float64Array>()))
    }
}
