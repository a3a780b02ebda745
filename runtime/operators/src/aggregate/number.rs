//! Counts, sums of integers, `bool_and` and `bool_or`.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{ArrayRef, BooleanArray, Int64Array};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};
use millstream_state::Slot;

use super::accumulator::{Fault, Function, Input, combine};

pub(super) const TOO_LARGE: &str = "the sum does not fit into its type";

pub(super) fn number(name: &str) -> Field {
    Field::new(name, DataType::Int64, false)
}

pub(super) fn integers(columns: &[ArrayRef], position: usize) -> Result<&[i64], Fault> {
    let column = columns
        .get(position)
        .and_then(|column| column.as_primitive_opt::<Int64Type>());
    let values = column.map(|column| column.values().as_ref());
    values.ok_or_else(|| Fault::column("int64"))
}

pub(super) fn argument(input: Input<'_>) -> Result<&ArrayRef, Fault> {
    let missing = || Fault::Internal("an argument is missing".to_owned());
    input.argument.ok_or_else(missing)
}

/// Which values are there; nothing if all are.
pub(super) fn valid(valid: impl Iterator<Item = bool>) -> Option<NullBuffer> {
    let nulls: NullBuffer = valid.collect();
    (nulls.null_count() > 0).then_some(nulls)
}

/// `count`.
pub(super) struct Count;

impl Function for Count {
    type Cell = i64;

    fn fields(&self) -> Vec<Field> {
        vec![number("count")]
    }

    fn update(&mut self, cells: &mut [i64], slots: &[Slot], input: Input<'_>) -> Result<(), Fault> {
        input.signs.rows(slots, |_, slot, sign| {
            cells[slot] += sign;
            Ok(())
        })
    }

    fn merge(
        &mut self,
        cells: &mut [i64],
        slots: &[Slot],
        columns: &[ArrayRef],
    ) -> Result<(), Fault> {
        let parts = self.cells(columns)?;
        combine(cells, slots, parts, |cell, other| {
            *cell = cell.checked_add(other).ok_or(TOO_LARGE)?;
            Ok(())
        })
    }

    fn columns(&self, cells: &[i64]) -> Vec<ArrayRef> {
        vec![Arc::new(Int64Array::from(cells.to_vec()))]
    }

    fn cells(&self, columns: &[ArrayRef]) -> Result<Vec<i64>, Fault> {
        Ok(integers(columns, 0)?.to_vec())
    }

    fn same(&self, one: &i64, other: &i64) -> bool {
        one == other
    }

    fn results(&self, cells: &[i64]) -> Result<ArrayRef, Fault> {
        Ok(Arc::new(Int64Array::from(cells.to_vec())))
    }
}

/// A sum, and of how many values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Summed<S> {
    pub(super) sum: S,
    pub(super) count: i64,
}

pub(super) fn summed<S: Copy>(sums: &[S], counts: &[i64]) -> Vec<Summed<S>> {
    let pairs = sums.iter().zip(counts);
    let cells = pairs.map(|(sum, count)| Summed {
        sum: *sum,
        count: *count,
    });
    cells.collect()
}

pub(super) fn counts<S>(cells: &[Summed<S>]) -> ArrayRef {
    let counts = cells.iter().map(|cell| cell.count);
    Arc::new(Int64Array::from_iter_values(counts))
}

pub(super) fn not_null<S>(cells: &[Summed<S>]) -> Option<NullBuffer> {
    valid(cells.iter().map(|cell| cell.count != 0))
}

/// `sum` of integers.
pub(super) struct SumOfIntegers;

impl SumOfIntegers {
    fn add<T: Copy + Into<i64>>(
        cells: &mut [Summed<i64>],
        slots: &[Slot],
        input: Input<'_>,
        values: &[T],
    ) -> Result<(), Fault> {
        input.signs.rows(slots, |row, slot, sign| {
            let cell = &mut cells[slot];
            let value: i64 = values[row].into();
            let sum = if sign > 0 {
                cell.sum.checked_add(value)
            } else {
                cell.sum.checked_sub(value)
            };
            cell.sum = sum.ok_or(Fault::At(row, TOO_LARGE))?;
            cell.count += sign;
            Ok(())
        })
    }
}

impl Function for SumOfIntegers {
    type Cell = Summed<i64>;

    fn fields(&self) -> Vec<Field> {
        vec![number("sum"), number("count")]
    }

    fn update(
        &mut self,
        cells: &mut [Self::Cell],
        slots: &[Slot],
        input: Input<'_>,
    ) -> Result<(), Fault> {
        let array = argument(input)?;
        if let Some(array) = array.as_primitive_opt::<Int64Type>() {
            return Self::add(cells, slots, input, array.values());
        }
        let array = array.as_primitive_opt::<Int32Type>();
        let array = array.ok_or_else(|| Fault::column("integers"))?;
        Self::add(cells, slots, input, array.values())
    }

    fn merge(
        &mut self,
        cells: &mut [Self::Cell],
        slots: &[Slot],
        columns: &[ArrayRef],
    ) -> Result<(), Fault> {
        let parts = self.cells(columns)?;
        combine(cells, slots, parts, |cell, other| {
            cell.sum = cell.sum.checked_add(other.sum).ok_or(TOO_LARGE)?;
            cell.count += other.count;
            Ok(())
        })
    }

    fn columns(&self, cells: &[Self::Cell]) -> Vec<ArrayRef> {
        let sums = Int64Array::from_iter_values(cells.iter().map(|cell| cell.sum));
        vec![Arc::new(sums), counts(cells)]
    }

    fn cells(&self, columns: &[ArrayRef]) -> Result<Vec<Self::Cell>, Fault> {
        Ok(summed(integers(columns, 0)?, integers(columns, 1)?))
    }

    fn same(&self, one: &Self::Cell, other: &Self::Cell) -> bool {
        one.sum == other.sum && (one.count == 0) == (other.count == 0)
    }

    fn results(&self, cells: &[Self::Cell]) -> Result<ArrayRef, Fault> {
        let sums = cells.iter().map(|cell| cell.sum);
        let sums = Int64Array::new(sums.collect(), not_null(cells));
        Ok(Arc::new(sums))
    }
}

/// `bool_and` and `bool_or`: how many are false, and how many true.
pub(super) struct Truths {
    /// `bool_and`.
    pub(super) all: bool,
}

impl Truths {
    const fn result(&self, [no, yes]: [i64; 2]) -> Option<bool> {
        if no == 0 && yes == 0 {
            return None;
        }
        Some(if self.all { no == 0 } else { yes != 0 })
    }
}

impl Function for Truths {
    type Cell = [i64; 2];

    fn fields(&self) -> Vec<Field> {
        vec![number("false"), number("true")]
    }

    fn update(
        &mut self,
        cells: &mut [Self::Cell],
        slots: &[Slot],
        input: Input<'_>,
    ) -> Result<(), Fault> {
        let array = argument(input)?.as_boolean_opt();
        let values = array.ok_or_else(|| Fault::column("booleans"))?.values();
        input.signs.rows(slots, |row, slot, sign| {
            cells[slot][usize::from(values.value(row))] += sign;
            Ok(())
        })
    }

    fn merge(
        &mut self,
        cells: &mut [Self::Cell],
        slots: &[Slot],
        columns: &[ArrayRef],
    ) -> Result<(), Fault> {
        let parts = self.cells(columns)?;
        combine(cells, slots, parts, |cell, other| {
            cell[0] += other[0];
            cell[1] += other[1];
            Ok(())
        })
    }

    fn columns(&self, cells: &[Self::Cell]) -> Vec<ArrayRef> {
        let column = |side: usize| -> ArrayRef {
            let counts = cells.iter().map(|cell| cell[side]);
            Arc::new(Int64Array::from_iter_values(counts))
        };
        vec![column(0), column(1)]
    }

    fn cells(&self, columns: &[ArrayRef]) -> Result<Vec<Self::Cell>, Fault> {
        let pairs = integers(columns, 0)?.iter().zip(integers(columns, 1)?);
        Ok(pairs.map(|(no, yes)| [*no, *yes]).collect())
    }

    fn same(&self, one: &Self::Cell, other: &Self::Cell) -> bool {
        self.result(*one) == self.result(*other)
    }

    fn results(&self, cells: &[Self::Cell]) -> Result<ArrayRef, Fault> {
        let results = cells.iter().map(|cell| self.result(*cell));
        Ok(Arc::new(results.collect::<BooleanArray>()))
    }
}
