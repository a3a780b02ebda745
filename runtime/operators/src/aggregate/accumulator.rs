//! What a call keeps for each key, as the operators see it.

use arrow_array::ArrayRef;
use arrow_schema::Field;
use millstream_state::Slot;
use millstream_types::Failure;

/// What a function cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The value of a row, or of a cell, cannot be taken in or given out.
    At(usize, &'static str),
    /// The plan and the operator do not agree.
    Internal(String),
    /// The state has failed.
    State(Failure),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::State(failure)
    }
}

impl Fault {
    /// A column is not of the type that it was planned with.
    pub(super) fn column(expected: &str) -> Self {
        Self::Internal(format!("a column is not one of {expected}"))
    }
}

/// How often each row counts: once, not at all, or less than before.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signs<'a> {
    /// Every row counts, and none is null.
    All,
    /// 1, 0 or -1 for each row.
    Each(&'a [i8]),
}

impl Signs<'_> {
    /// Calls a function with each row that counts, its slot, and 1 or -1.
    pub(super) fn rows(
        self,
        slots: &[Slot],
        mut row: impl FnMut(usize, usize, i64) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        match self {
            Self::All => {
                for (index, slot) in slots.iter().enumerate() {
                    row(index, *slot as usize, 1)?;
                }
            }
            Self::Each(signs) => {
                for (index, (slot, sign)) in slots.iter().zip(signs).enumerate() {
                    if *sign != 0 {
                        row(index, *slot as usize, i64::from(*sign))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The rows of a batch, as one call sees them.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    /// The argument; none for `count(*)`.
    pub(super) argument: Option<&'a ArrayRef>,
    /// Which rows count. Rows whose argument is null do not, unless the function takes nulls.
    pub(super) signs: Signs<'a>,
}

/// One cell that goes out: of the groups that have changed since the last flush, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pick {
    /// Which of the groups.
    pub(super) group: u32,
    /// As it was at the last flush.
    pub(super) before: bool,
}

/// What one call keeps for each key, by slot.
///
/// Between two flushes it also holds what it kept before for the slots that have changed:
/// [`remember`](Self::remember) takes it, [`settle`](Self::settle) compares, [`results`](Self::results)
/// gives both out, and [`forget`](Self::forget) ends it.
pub(super) trait Accumulator: Send {
    /// The columns that hold it in a run, which are its partial columns too.
    fn fields(&self) -> Vec<Field>;
    /// Makes room for slots below `slots`.
    fn resize(&mut self, slots: usize);
    /// Forgets a key.
    fn clear(&mut self, slot: Slot);
    /// What it keeps for these slots, one array per field.
    fn columns(&self, slots: &[Slot]) -> Vec<ArrayRef>;
    /// Takes back what [`columns`](Self::columns) gave.
    fn restore(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), Fault>;
    /// Takes rows in.
    fn update(&mut self, slots: &[Slot], input: Input<'_>) -> Result<(), Fault>;
    /// Takes partial columns in.
    fn merge(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), Fault>;
    /// Remembers what these slots hold: they are about to change, for the first time since the last flush.
    fn remember(&mut self, slots: &[Slot]);
    /// Looks at the slots that were remembered, all of them and in that order, and marks those whose
    /// result is another now.
    fn settle(&mut self, slots: &[Slot], changed: &mut [bool]);
    /// Results before and after. [`Fault::At`] has the position in `picks`.
    fn results(&self, picks: &[Pick]) -> Result<ArrayRef, Fault>;
    /// Forgets what was before.
    fn forget(&mut self);
    /// Bytes of each slot.
    fn slot_bytes(&self) -> usize;
    /// Bytes beside those of each slot, at the last flush.
    fn bytes(&self) -> usize;
}

/// A function whose state for a key is one cell.
pub(super) trait Function: Send + 'static {
    /// What is kept for a key; its default is what a key begins with.
    type Cell: Clone + Default + Send;

    /// As [`Accumulator::fields`].
    fn fields(&self) -> Vec<Field>;
    /// Takes rows in.
    fn update(
        &mut self,
        cells: &mut [Self::Cell],
        slots: &[Slot],
        input: Input<'_>,
    ) -> Result<(), Fault>;
    /// Takes partial columns in.
    fn merge(
        &mut self,
        cells: &mut [Self::Cell],
        slots: &[Slot],
        columns: &[ArrayRef],
    ) -> Result<(), Fault>;
    /// Cells as columns.
    fn columns(&self, cells: &[Self::Cell]) -> Vec<ArrayRef>;
    /// Columns as cells.
    fn cells(&self, columns: &[ArrayRef]) -> Result<Vec<Self::Cell>, Fault>;
    /// Whether the results are the same.
    fn same(&self, one: &Self::Cell, other: &Self::Cell) -> bool;
    /// The results.
    fn results(&self, cells: &[Self::Cell]) -> Result<ArrayRef, Fault>;
    /// Bytes of a cell that lie elsewhere.
    fn bytes(_: &Self::Cell) -> usize {
        0
    }
}

/// The cells of a function.
pub(super) struct Cells<F: Function> {
    function: F,
    now: Vec<F::Cell>,
    before: Vec<F::Cell>,
    after: Vec<F::Cell>,
    /// Beside the cells, at the last flush.
    bytes: usize,
}

impl<F: Function> Cells<F> {
    pub(super) const fn new(function: F) -> Self {
        Self {
            function,
            now: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn boxed(function: F) -> Box<dyn Accumulator> {
        Box::new(Self::new(function))
    }

    fn of(&self, slots: &[Slot]) -> Vec<F::Cell> {
        let cells = slots.iter().map(|slot| self.now[*slot as usize].clone());
        cells.collect()
    }
}

impl<F: Function> Accumulator for Cells<F> {
    fn fields(&self) -> Vec<Field> {
        self.function.fields()
    }

    fn resize(&mut self, slots: usize) {
        self.now.resize_with(slots, F::Cell::default);
    }

    fn clear(&mut self, slot: Slot) {
        let cell = std::mem::take(&mut self.now[slot as usize]);
        self.bytes = self.bytes.saturating_sub(F::bytes(&cell));
    }

    fn columns(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        self.function.columns(&self.of(slots))
    }

    fn restore(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), Fault> {
        for (slot, cell) in slots.iter().zip(self.function.cells(columns)?) {
            self.bytes += F::bytes(&cell);
            self.now[*slot as usize] = cell;
        }
        Ok(())
    }

    fn update(&mut self, slots: &[Slot], input: Input<'_>) -> Result<(), Fault> {
        self.function.update(&mut self.now, slots, input)
    }

    fn merge(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<(), Fault> {
        self.function.merge(&mut self.now, slots, columns)
    }

    fn remember(&mut self, slots: &[Slot]) {
        let now = &self.now;
        let cells = slots.iter().map(|slot| now[*slot as usize].clone());
        self.before.extend(cells);
    }

    fn settle(&mut self, slots: &[Slot], changed: &mut [bool]) {
        self.after = self.of(slots);
        let bytes = |cells: &[F::Cell]| cells.iter().map(F::bytes).sum::<usize>();
        self.bytes += bytes(&self.after);
        self.bytes = self.bytes.saturating_sub(bytes(&self.before));
        let pairs = self.before.iter().zip(&self.after);
        for (changed, (before, after)) in changed.iter_mut().zip(pairs) {
            *changed |= !self.function.same(before, after);
        }
    }

    fn results(&self, picks: &[Pick]) -> Result<ArrayRef, Fault> {
        let cells = picks.iter().map(|pick| {
            let side = if pick.before {
                &self.before
            } else {
                &self.after
            };
            side[pick.group as usize].clone()
        });
        self.function.results(&cells.collect::<Vec<_>>())
    }

    fn forget(&mut self) {
        self.before.clear();
        self.after.clear();
    }

    fn slot_bytes(&self) -> usize {
        size_of::<F::Cell>()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Adds parts to the cells of their slots.
pub(super) fn combine<C>(
    cells: &mut [C],
    slots: &[Slot],
    parts: Vec<C>,
    add: impl Fn(&mut C, C) -> Result<(), &'static str>,
) -> Result<(), Fault> {
    for (row, (slot, part)) in slots.iter().zip(parts).enumerate() {
        add(&mut cells[*slot as usize], part).map_err(|why| Fault::At(row, why))?;
    }
    Ok(())
}
