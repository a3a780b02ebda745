//! Functions that keep a value of their argument: `min` and `max`, `first_value` and `last_value`.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, BooleanArray};
use arrow_schema::{DataType, Field};
use millstream_state::Slot;

use super::accumulator::{Accumulator, Fault, Function, Input, Pick, Signs};
use super::kind::Kind;
use super::number::argument;

/// The argument's values.
fn values<K: Kind>(array: &ArrayRef) -> Result<&K::Array, Fault> {
    let values = array.as_any().downcast_ref::<K::Array>();
    values.ok_or_else(|| Fault::column("the argument's type"))
}

fn same<K: Kind>(one: Option<&K::Value>, other: Option<&K::Value>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => K::same(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// `min` and `max` over rows that stay.
pub(super) struct Extreme<K> {
    kind: K,
    data_type: DataType,
    name: &'static str,
    /// How a better value stands to the one that is kept.
    better: Ordering,
}

impl<K: Kind> Extreme<K> {
    pub(super) const fn new(kind: K, data_type: DataType, greatest: bool) -> Self {
        let (name, better) = if greatest {
            ("max", Ordering::Greater)
        } else {
            ("min", Ordering::Less)
        };
        Self {
            kind,
            data_type,
            name,
            better,
        }
    }

    fn take(&self, cells: &mut [Option<K::Value>], slot: usize, array: &K::Array, row: usize) {
        let cell = &mut cells[slot];
        let better = cell
            .as_ref()
            .is_none_or(|kept| K::order(array, row, kept) == self.better);
        if better {
            *cell = Some(K::value(array, row));
        }
    }
}

impl<K: Kind> Function for Extreme<K> {
    type Cell = Option<K::Value>;

    fn fields(&self) -> Vec<Field> {
        vec![Field::new(self.name, self.data_type.clone(), true)]
    }

    fn update(
        &mut self,
        cells: &mut [Self::Cell],
        slots: &[Slot],
        input: Input<'_>,
    ) -> Result<(), Fault> {
        let array = values::<K>(argument(input)?)?;
        input.signs.rows(slots, |row, slot, _| {
            self.take(cells, slot, array, row);
            Ok(())
        })
    }

    fn merge(
        &mut self,
        cells: &mut [Self::Cell],
        slots: &[Slot],
        columns: &[ArrayRef],
    ) -> Result<(), Fault> {
        let column = columns
            .first()
            .ok_or_else(|| Fault::column("the argument's type"))?;
        let array = values::<K>(column)?;
        for (row, slot) in slots.iter().enumerate() {
            if array.is_valid(row) {
                self.take(cells, *slot as usize, array, row);
            }
        }
        Ok(())
    }

    fn columns(&self, cells: &[Self::Cell]) -> Vec<ArrayRef> {
        vec![self.kind.column(cells.iter().map(Option::as_ref))]
    }

    fn cells(&self, columns: &[ArrayRef]) -> Result<Vec<Self::Cell>, Fault> {
        let column = columns
            .first()
            .ok_or_else(|| Fault::column("the argument's type"))?;
        let array = values::<K>(column)?;
        let rows = 0..array.len();
        let cells = rows.map(|row| array.is_valid(row).then(|| K::value(array, row)));
        Ok(cells.collect())
    }

    fn same(&self, one: &Self::Cell, other: &Self::Cell) -> bool {
        same::<K>(one.as_ref(), other.as_ref())
    }

    fn results(&self, cells: &[Self::Cell]) -> Result<ArrayRef, Fault> {
        Ok(self.kind.column(cells.iter().map(Option::as_ref)))
    }

    fn bytes(cell: &Self::Cell) -> usize {
        cell.as_ref().map_or(0, K::bytes)
    }
}

/// `first_value` and `last_value`, over rows that stay.
pub(super) struct Place<K> {
    kind: K,
    data_type: DataType,
    last: bool,
    /// By slot, the last row of the batch at hand. What other batches have left there does not matter.
    rows: Vec<usize>,
}

/// Nothing before the first row; then its value, or null.
type Placed<V> = Option<Option<V>>;

impl<K: Kind> Place<K> {
    pub(super) const fn new(kind: K, data_type: DataType, last: bool) -> Self {
        Self {
            kind,
            data_type,
            last,
            rows: Vec::new(),
        }
    }

    fn value(array: &K::Array, row: usize) -> Option<K::Value> {
        array.is_valid(row).then(|| K::value(array, row))
    }

    /// Makes values only of the rows that stay.
    fn take_last(
        &mut self,
        cells: &mut [Placed<K::Value>],
        slots: &[Slot],
        signs: Signs<'_>,
        array: &K::Array,
    ) -> Result<(), Fault> {
        self.rows.resize(cells.len(), 0);
        let rows = &mut self.rows;
        signs.rows(slots, |row, slot, _| {
            rows[slot] = row;
            Ok(())
        })?;
        signs.rows(slots, |row, slot, _| {
            if rows[slot] == row {
                cells[slot] = Some(Self::value(array, row));
            }
            Ok(())
        })
    }
}

impl<K: Kind> Function for Place<K> {
    type Cell = Placed<K::Value>;

    fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("value", self.data_type.clone(), true),
            Field::new("seen", DataType::Boolean, false),
        ]
    }

    fn update(
        &mut self,
        cells: &mut [Self::Cell],
        slots: &[Slot],
        input: Input<'_>,
    ) -> Result<(), Fault> {
        let array = values::<K>(argument(input)?)?;
        if self.last && !K::INLINE {
            return self.take_last(cells, slots, input.signs, array);
        }
        input.signs.rows(slots, |row, slot, _| {
            let cell = &mut cells[slot];
            if self.last || cell.is_none() {
                *cell = Some(Self::value(array, row));
            }
            Ok(())
        })
    }

    fn merge(&mut self, _: &mut [Self::Cell], _: &[Slot], _: &[ArrayRef]) -> Result<(), Fault> {
        let message = "first and last values cannot be computed in parts";
        Err(Fault::Internal(message.to_owned()))
    }

    fn columns(&self, cells: &[Self::Cell]) -> Vec<ArrayRef> {
        let seen: BooleanArray = cells.iter().map(|cell| Some(cell.is_some())).collect();
        let values = cells.iter().map(|cell| cell.as_ref()?.as_ref());
        vec![self.kind.column(values), Arc::new(seen)]
    }

    fn cells(&self, columns: &[ArrayRef]) -> Result<Vec<Self::Cell>, Fault> {
        let [column, seen] = columns else {
            return Err(Fault::column("a value and whether it is seen"));
        };
        let array = values::<K>(column)?;
        let seen = seen
            .as_boolean_opt()
            .ok_or_else(|| Fault::column("booleans"))?;
        let rows = seen.values().iter().enumerate();
        let cells = rows.map(|(row, seen)| seen.then(|| Self::value(array, row)));
        Ok(cells.collect())
    }

    fn same(&self, one: &Self::Cell, other: &Self::Cell) -> bool {
        let [one, other] = [one, other].map(|cell| cell.as_ref().and_then(Option::as_ref));
        same::<K>(one, other)
    }

    fn results(&self, cells: &[Self::Cell]) -> Result<ArrayRef, Fault> {
        let values = cells.iter().map(|cell| cell.as_ref()?.as_ref());
        Ok(self.kind.column(values))
    }

    fn bytes(cell: &Self::Cell) -> usize {
        let value = cell.as_ref().and_then(Option::as_ref);
        value.map_or(0, K::bytes)
    }
}

/// A value in the order of its kind.
struct InOrder<K: Kind>(K::Value);

impl<K: Kind> PartialEq for InOrder<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K: Kind> Eq for InOrder<K> {}

impl<K: Kind> PartialOrd for InOrder<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Kind> Ord for InOrder<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        K::compare(&self.0, &other.0)
    }
}

/// `min` and `max` over rows that may be taken back: all values of a key, in order.
///
/// Rows come in with 1 where a value is the first of its kind, and with -1 where the last one goes: how
/// many there are is kept in a table of its own, from which the values come back after a restore. So it has
/// no columns.
pub(super) struct Ordered<K: Kind> {
    kind: K,
    greatest: bool,
    values: Vec<BTreeSet<InOrder<K>>>,
    before: Vec<Option<K::Value>>,
    after: Vec<Option<K::Value>>,
    bytes: usize,
}

impl<K: Kind> Ordered<K> {
    /// What a value takes in a set, about.
    fn bytes(value: &K::Value) -> usize {
        2 * size_of::<K::Value>() + K::bytes(value)
    }

    pub(super) const fn new(kind: K, greatest: bool) -> Self {
        Self {
            kind,
            greatest,
            values: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            bytes: 0,
        }
    }

    fn extremes<'a>(&'a self, slots: &'a [Slot]) -> impl Iterator<Item = Option<K::Value>> + 'a {
        slots.iter().map(|slot| {
            let values = &self.values[*slot as usize];
            let extreme = if self.greatest {
                values.last()
            } else {
                values.first()
            };
            extreme.map(|value| value.0.clone())
        })
    }
}

impl<K: Kind> Accumulator for Ordered<K> {
    fn fields(&self) -> Vec<Field> {
        Vec::new()
    }

    fn resize(&mut self, slots: usize) {
        self.values.resize_with(slots, BTreeSet::new);
    }

    fn clear(&mut self, slot: Slot) {
        for value in std::mem::take(&mut self.values[slot as usize]) {
            self.bytes = self.bytes.saturating_sub(Self::bytes(&value.0));
        }
    }

    fn columns(&self, _: &[Slot]) -> Vec<ArrayRef> {
        Vec::new()
    }

    fn restore(&mut self, _: &[Slot], _: &[ArrayRef]) -> Result<(), Fault> {
        Ok(())
    }

    fn update(&mut self, slots: &[Slot], input: Input<'_>) -> Result<(), Fault> {
        let array = values::<K>(argument(input)?)?;
        input.signs.rows(slots, |row, slot, sign| {
            let value = InOrder(K::value(array, row));
            let bytes = Self::bytes(&value.0);
            if sign > 0 {
                if self.values[slot].insert(value) {
                    self.bytes += bytes;
                }
            } else if self.values[slot].remove(&value) {
                self.bytes = self.bytes.saturating_sub(bytes);
            }
            Ok(())
        })
    }

    fn merge(&mut self, _: &[Slot], _: &[ArrayRef]) -> Result<(), Fault> {
        let message = "rows that are taken back cannot be counted in parts";
        Err(Fault::Internal(message.to_owned()))
    }

    fn remember(&mut self, slots: &[Slot]) {
        let extremes: Vec<_> = self.extremes(slots).collect();
        self.before.extend(extremes);
    }

    fn settle(&mut self, slots: &[Slot], changed: &mut [bool]) {
        self.after = self.extremes(slots).collect();
        let pairs = self.before.iter().zip(&self.after);
        for (changed, (before, after)) in changed.iter_mut().zip(pairs) {
            *changed |= !same::<K>(before.as_ref(), after.as_ref());
        }
    }

    fn results(&self, picks: &[Pick]) -> Result<ArrayRef, Fault> {
        let values = picks.iter().map(|pick| {
            let side = if pick.before {
                &self.before
            } else {
                &self.after
            };
            side[pick.group as usize].as_ref()
        });
        Ok(self.kind.column(values))
    }

    fn forget(&mut self) {
        self.before.clear();
        self.after.clear();
    }

    fn slot_bytes(&self) -> usize {
        size_of::<BTreeSet<InOrder<K>>>()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}
