//! Sums and averages of decimals, and averages of integers: of up to 38 digits, without rounding before the
//! end.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type};
use arrow_array::{ArrayRef, Decimal128Array, Float64Array};
use arrow_schema::{DataType, Field};
use millstream_state::Slot;

use super::accumulator::{Fault, Function, Input, combine};
use super::number::{Summed, TOO_LARGE, argument, counts, integers, not_null, number, summed};

/// The first number with more digits than a decimal has.
const DECIMAL_END: u128 = 10_u128.pow(38);

/// What a sum of up to 38 digits is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Exact {
    /// `sum` of decimals.
    Sum,
    /// `avg` of integers.
    Average,
    /// `avg` of decimals, with so many more digits behind the point than the sum has.
    DecimalAverage(u32),
}

/// `sum` of decimals, and `avg` of decimals and integers.
pub(super) struct ExactSum {
    /// Type of the sum.
    pub(super) sum: DataType,
    /// Type of the result.
    pub(super) result: DataType,
    /// What it is for.
    pub(super) exact: Exact,
}

fn fits(sum: i128) -> Option<i128> {
    (sum.unsigned_abs() < DECIMAL_END).then_some(sum)
}

impl ExactSum {
    fn add<T: Copy + Into<i128>>(
        cells: &mut [Summed<i128>],
        slots: &[Slot],
        input: Input<'_>,
        values: &[T],
    ) -> Result<(), Fault> {
        input.signs.rows(slots, |row, slot, sign| {
            let cell = &mut cells[slot];
            let value: i128 = values[row].into();
            let sum = if sign > 0 {
                cell.sum.checked_add(value)
            } else {
                cell.sum.checked_sub(value)
            };
            cell.sum = sum.and_then(fits).ok_or(Fault::At(row, TOO_LARGE))?;
            cell.count += sign;
            Ok(())
        })
    }
}

/// `sum / count` with so many more digits, rounded half away from zero; nothing if that is too large.
fn quotient(cell: Summed<i128>, digits: u32) -> Option<i128> {
    let factor = 10_i64.checked_pow(digits).filter(|_| digits <= 18)?;
    // Most sums fit into 64 bits, and their division is many times as fast.
    let narrow = i64::try_from(cell.sum).ok();
    if let Some(scaled) = narrow.and_then(|sum| sum.checked_mul(factor)) {
        let (whole, rest) = (scaled / cell.count, scaled % cell.count);
        let up = rest.unsigned_abs() >= cell.count.unsigned_abs().div_ceil(2);
        let step = if up {
            scaled.signum() * cell.count.signum()
        } else {
            0
        };
        return Some(i128::from(whole) + i128::from(step));
    }
    let (count, factor) = (i128::from(cell.count), i128::from(factor));
    let whole = (cell.sum / count).checked_mul(factor)?;
    let rest = cell.sum % count * factor;
    let (tail, rest) = (rest / count, rest % count);
    let up = rest.unsigned_abs() >= count.unsigned_abs().div_ceil(2);
    let step = if up {
        cell.sum.signum() * count.signum()
    } else {
        0
    };
    fits(whole.checked_add(tail + step)?)
}

fn exact_average(cell: Summed<i128>) -> f64 {
    cell.sum as f64 / cell.count as f64
}

impl Function for ExactSum {
    type Cell = Summed<i128>;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new("sum", self.sum.clone(), false), number("count")]
    }

    fn update(
        &mut self,
        cells: &mut [Self::Cell],
        slots: &[Slot],
        input: Input<'_>,
    ) -> Result<(), Fault> {
        let array = argument(input)?;
        if let Some(array) = array.as_primitive_opt::<Decimal128Type>() {
            return Self::add(cells, slots, input, array.values());
        }
        if let Some(array) = array.as_primitive_opt::<Int64Type>() {
            return Self::add(cells, slots, input, array.values());
        }
        let array = array.as_primitive_opt::<Int32Type>();
        let array = array.ok_or_else(|| Fault::column("decimals or integers"))?;
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
            let sum = cell.sum.checked_add(other.sum);
            cell.sum = sum.and_then(fits).ok_or(TOO_LARGE)?;
            cell.count += other.count;
            Ok(())
        })
    }

    fn columns(&self, cells: &[Self::Cell]) -> Vec<ArrayRef> {
        let sums = Decimal128Array::from_iter_values(cells.iter().map(|cell| cell.sum));
        vec![
            Arc::new(sums.with_data_type(self.sum.clone())),
            counts(cells),
        ]
    }

    fn cells(&self, columns: &[ArrayRef]) -> Result<Vec<Self::Cell>, Fault> {
        let sums = columns
            .first()
            .and_then(|column| column.as_primitive_opt::<Decimal128Type>())
            .ok_or_else(|| Fault::column("decimals"))?;
        Ok(summed(sums.values(), integers(columns, 1)?))
    }

    fn same(&self, one: &Self::Cell, other: &Self::Cell) -> bool {
        if one.count == 0 || other.count == 0 {
            return one.count == other.count;
        }
        let as_they_are = one.sum == other.sum;
        match self.exact {
            Exact::Sum => as_they_are,
            _ if as_they_are && one.count == other.count => true,
            Exact::Average => exact_average(*one).to_bits() == exact_average(*other).to_bits(),
            Exact::DecimalAverage(digits) => quotient(*one, digits) == quotient(*other, digits),
        }
    }

    fn results(&self, cells: &[Self::Cell]) -> Result<ArrayRef, Fault> {
        let nulls = not_null(cells);
        let digits = match self.exact {
            Exact::Average => {
                let averages = cells.iter().map(|cell| exact_average(*cell));
                return Ok(Arc::new(Float64Array::new(averages.collect(), nulls)));
            }
            Exact::Sum => None,
            Exact::DecimalAverage(digits) => Some(digits),
        };
        let value = |(position, cell): (usize, &Self::Cell)| match digits {
            Some(digits) if cell.count != 0 => quotient(*cell, digits).ok_or(Fault::At(
                position,
                "the average does not fit into its type",
            )),
            _ => Ok(cell.sum),
        };
        let values: Vec<i128> = cells
            .iter()
            .enumerate()
            .map(value)
            .collect::<Result<_, _>>()?;
        let array = Decimal128Array::new(values.into(), nulls);
        Ok(Arc::new(array.with_data_type(self.result.clone())))
    }
}
